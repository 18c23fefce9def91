"""Learned absolute position encoding (ViT).

    x_t <- x_t + E[y_t, x_t]        E: H x W x C, learned

Source: https://arxiv.org/abs/2010.11929. Acts on the tokens before block 0; reads absolute
coordinates. At another grid E is resized bicubically, in the forward pass and when a checkpoint of
another training grid is loaded; in a padded batch it is spread over the padded grid, so that an
image's encoding depends on what it is batched with, as it does in the hosts. Deviation: E is kept
as a picture instead of timm's flat `pos_embed`, so that its shape tells its grid, square or not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import Dims, TokenEncoding
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class LearnedAPE(TokenEncoding):
    """A learned vector for each patch of the training grid, and for each prefix token."""

    source = "https://arxiv.org/abs/2010.11929"
    reads = "absolute coordinates"
    cost = "0"
    other_grid = "bicubic resize"
    padding_free = False

    def __init__(self, dims: Dims, *, after: Sequence[int] = (-1,)):
        super().__init__(after=after)
        self.table = nn.Parameter(torch.empty(1, *dims.grid, dims.embed_dims))
        if dims.prefix:
            self.prefix_table = nn.Parameter(torch.empty(1, dims.prefix, dims.embed_dims))
        self._register_load_state_dict_pre_hook(self._resize_on_load)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal, std 0.02."""
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """`x` plus the table at the grid of `x`."""
        prefix, patches = grid.split(x)
        table = _resize(self.table, height=grid.height, width=grid.width)
        patches = patches + table.flatten(1, 2).to(x.dtype)
        if not grid.prefix:
            return patches
        return torch.cat([prefix + self.prefix_table.to(x.dtype), patches], dim=1)

    def _resize_on_load(self, state_dict: dict, prefix: str, *_) -> None:
        table = state_dict.get(f"{prefix}table")
        if table is not None and table.ndim == 4:
            _, height, width, _ = self.table.shape
            state_dict[f"{prefix}table"] = _resize(table, height=height, width=width)


def _resize(
    table: Float[Tensor, "1 H W C"], *, height: int, width: int
) -> Float[Tensor, "1 h w C"]:
    if table.shape[1:3] == (height, width):
        return table
    resized = F.interpolate(
        table.permute(0, 3, 1, 2).to(torch.promote_types(table.dtype, torch.float32)),
        size=(height, width),
        mode="bicubic",
        align_corners=False,
    )
    return resized.permute(0, 2, 3, 1).to(table.dtype)
