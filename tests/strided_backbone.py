"""A backbone that is exactly equivariant, for detectors of mmdet."""

import torch
from mmengine.model import BaseModule

STRIDE = 8


class Patches(BaseModule):
    """One strided convolution without padding: as equivariant as a backbone can be."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 512, STRIDE, stride=STRIDE)

    def forward(self, x):
        return (self.conv(x),)
