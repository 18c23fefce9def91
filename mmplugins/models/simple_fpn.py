"""Simple feature pyramid of ViTDet: all levels from the one map of a plain backbone.

https://arxiv.org/abs/2203.16527, section 3.
"""

from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule, ModuleList, Sequential
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmplugins.registry import MODELS

# Normalises over channels at each pixel of [B, C, H, W]; a norm_cfg type for the hosts' heads too.
MODELS.register_module(name="LN2d", module=LayerNorm2d)


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """One map of stride s to maps of strides s/4, s/2, s, 2s, and 4s, ... by subsampling.

    Args:
        in_channels: channels of the map.
        out_channels: channels of each level.
        num_outs: number of levels, four or more.
        norm_cfg: norm after each convolution.
        init_cfg: as in mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        if num_outs < 4:
            raise ValueError(f"SimpleFPN has four levels or more, not {num_outs}")
        norm_cfg = norm_cfg or dict(type="mmplugins.LN2d")
        half, quarter = in_channels // 2, in_channels // 4
        scales = [
            (
                Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    build_norm_layer(norm_cfg, half)[1],
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                quarter,
            ),
            (nn.ConvTranspose2d(in_channels, half, 2, stride=2), half),
            (nn.Identity(), in_channels),
            (nn.MaxPool2d(2, ceil_mode=True), in_channels),
        ]
        self.levels = ModuleList(
            Sequential(
                scale,
                ConvModule(channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None),
                ConvModule(
                    out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None
                ),
            )
            for scale, channels in scales
        )
        self.extra = ModuleList(nn.MaxPool2d(1, stride=2) for _ in range(num_outs - 4))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The pyramid of the last of `inputs`, finest level first."""
        outs = [level(inputs[-1]) for level in self.levels]
        for pool in self.extra:
            outs.append(pool(outs[-1]))
        return tuple(outs)
