"""Position encoding generator of CPVT: a depthwise convolution over the tokens.

    x <- x + conv(x as a picture)        conv: depthwise 3 x 3, zero padding, bias

Source: https://arxiv.org/abs/2102.10882. Acts on the tokens after block 0; reads the tokens of the
neighbourhood, and where the grid ends through the zeros beyond it. The same kernel serves any grid.
Deviation: patches that are not valid count as zeros, so that an image's tokens do not depend on
what it is batched with; the initialisation is that of Twins (https://arxiv.org/abs/2104.13840),
since CPVT's was never published.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import Dims, TokenEncoding
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class PEG(TokenEncoding):
    """Conditional encoding, one convolution at each of the places `after`."""

    source = "https://arxiv.org/abs/2102.10882"
    reads = "neighbouring tokens, and the border"
    cost = "N k^2 C"
    equivariant = frozenset({"canvas"})
    other_grid = "same kernel"
    examples = ({}, {"kernel_size": 5, "after": (-1, 1)})

    def __init__(self, dims: Dims, *, kernel_size: int = 3, after: Sequence[int] = (0,)):
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"PEG: kernel_size must be odd, not {kernel_size}")
        super().__init__(after=after)
        channels = dims.embed_dims
        self.conv = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal with variance 2 / fan_out, zero bias."""
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / self.conv.weight[0].numel()))
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """The tokens plus their convolution; prefix tokens pass by."""
        prefix, patches = grid.split(x)
        seen = patches if grid.valid is None else patches.where(grid.valid[..., None], 0)
        picture = seen.transpose(1, 2).unflatten(2, (grid.height, grid.width))  # [B, C, H, W]
        patches = patches + self.conv(picture).flatten(2).transpose(1, 2)
        return torch.cat([prefix, patches], dim=1) if grid.prefix else patches
