"""Learned absolute position encoding (ViT).

    x_t <- x_t + E[y_t, x_t]        E: H x W x C, learned

Source: https://arxiv.org/abs/2010.11929. Acts on the tokens before block 0; reads absolute
coordinates. At another grid E is resized, or read at the index itself; a checkpoint of another
training grid is loaded by the same rule, so that it acts as it would have there. In a padded batch
a resized E is spread over the padded grid, so that an image's encoding depends on what it is
batched with, as it does in the hosts. Deviation: E is kept as a picture instead of timm's flat
`pos_embed`, so that its shape tells its grid, square or not.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.grid import Coords, TokenGrid
from mmplugins.position_encodings.base import Dims, TokenEncoding
from mmplugins.position_encodings.resize import Resize, read_nearest, resize_picture
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class LearnedAPE(TokenEncoding):
    """A learned vector for each patch of the training grid, and for each prefix token.

    Args:
        dims: shape facts.
        resize: how the table is stretched over another grid, where `coords` is normalized.
        coords: normalized stretches the table over the grid; index reads row y of the table for row
            y of the grid, and beyond the last row or column the last.
        after: blocks after which it acts, -1 before the first.
    """

    source = "https://arxiv.org/abs/2010.11929"
    reads = "absolute coordinates"
    cost = "0"
    examples = ({}, {"coords": "index"})

    def __init__(
        self,
        dims: Dims,
        *,
        resize: Resize = "bicubic",
        coords: Coords = "normalized",
        after: Sequence[int] = (-1,),
    ):
        super().__init__(after=after)
        self.resize, self.coords, self.prefix = resize, coords, dims.prefix
        self.padding_free = coords == "index"
        self.other_grid = f"{resize} resize" if coords == "normalized" else "last row or column"
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
        """`x` plus the table at the grid of `x`.

        Raises:
            ValueError: a grid with another number of prefix tokens.
        """
        if grid.prefix != self.prefix:
            raise ValueError(
                f"LearnedAPE is made for {self.prefix} prefix tokens, the grid has {grid.prefix}"
            )
        prefix, patches = grid.split(x)
        table = self._at(self.table, height=grid.height, width=grid.width)
        patches = patches + table.flatten(1, 2).to(x.dtype)
        if not grid.prefix:
            return patches
        return torch.cat([prefix + self.prefix_table.to(x.dtype), patches], dim=1)

    def _at(
        self, table: Float[Tensor, "1 H W C"], *, height: int, width: int
    ) -> Float[Tensor, "1 h w C"]:
        picture = table.movedim(-1, 1)
        if self.coords == "index":
            picture = read_nearest(picture, height=height, width=width)
        else:
            picture = resize_picture(picture, height=height, width=width, mode=self.resize)
        return picture.movedim(1, -1)

    def _resize_on_load(self, state_dict: dict, prefix: str, *_) -> None:
        table = state_dict.get(f"{prefix}table")
        if table is not None and table.ndim == 4:
            _, height, width, _ = self.table.shape
            state_dict[f"{prefix}table"] = self._at(table, height=height, width=width)
