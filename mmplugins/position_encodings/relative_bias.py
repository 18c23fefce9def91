"""Relative position bias of Swin: a learned value for each displacement.

    logits[i, j] += T[y_i - y_j + H - 1, x_i - x_j + W - 1]     T: h x (2H - 1) x (2W - 1), learned

Source: https://arxiv.org/abs/2103.14030, eq. 4. Acts on the logits; reads directed displacements
in patches of the training grid or window, H x W. At another grid T is resized, borders upon
borders, or read at the displacement itself, the farthest entry for all beyond (clamp); a checkpoint
of another training grid is loaded by the same rule, so that it acts as it would have there. In a
padded batch a resized T is that of the padded grid. Deviations: T is kept as a picture instead of
the flat `relative_position_bias_table`, so that its shape tells its grid; pairs with a prefix
token, which Swin has not, share one learned value for each head.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.bias import BucketedTable
from mmplugins.buckets import Buckets
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.position_encodings.resize import read_nearest, resize_picture
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class RelativePositionBias(AttentionEncoding):
    """One table for each head of each layer.

    Args:
        dims: shape facts.
        resize: how the table serves another grid: stretched by bicubic, bicubic_antialias or
            bilinear interpolation, or clamp.
    """

    source = "https://arxiv.org/abs/2103.14030"
    reads = "displacements"
    cost = "0"
    equivariant = frozenset({"canvas"})
    examples = ({}, {"resize": "clamp"})

    def __init__(
        self,
        dims: Dims,
        *,
        resize: Literal["bicubic", "bicubic_antialias", "bilinear", "clamp"] = "bicubic",
    ):
        super().__init__()
        self.resize = resize
        self.padding_free = resize == "clamp"
        self.other_grid = "farthest entry" if resize == "clamp" else f"{resize} resize"
        rows, cols = (2 * side - 1 for side in dims.grid)
        self.table = nn.Parameter(torch.empty(dims.num_heads, rows, cols))
        self.prefix_bias = nn.Parameter(torch.empty(dims.num_heads)) if dims.prefix else None
        self._register_load_state_dict_pre_hook(self._resize_on_load)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal, std 0.02."""
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> BucketedTable:
        """The table at the grid of q."""
        table = self._at(self.table, rows=2 * grid.height - 1, cols=2 * grid.width - 1)
        return displacement_bias(table, self.prefix_bias, grid)

    def _at(self, table: Float[Tensor, "h R C"], *, rows: int, cols: int) -> Float[Tensor, "h r c"]:
        if self.resize == "clamp":
            return read_nearest(table[None], height=rows, width=cols, centred=True)[0]
        return resize_picture(table[None], height=rows, width=cols, mode=self.resize)[0]

    def _resize_on_load(self, state_dict: dict, prefix: str, *_) -> None:
        table = state_dict.get(f"{prefix}table")
        if table is not None and table.ndim == 3 and table.shape[1] % 2 and table.shape[2] % 2:
            _, rows, cols = self.table.shape
            state_dict[f"{prefix}table"] = self._at(table, rows=rows, cols=cols)


def displacement_bias(
    table: Float[Tensor, "h R C"], prefix_bias: Float[Tensor, " h"] | None, grid: TokenGrid
) -> BucketedTable:
    """A value for each of `grid.displacements`, and one for pairs with a prefix token."""
    values = table.flatten(1)
    if prefix_bias is not None:
        values = torch.cat([values, prefix_bias[:, None]], dim=1)
    return BucketedTable(values, grid.once("each_displacement", lambda: _each(grid)))


def _each(grid: TokenGrid) -> Buckets:
    """A bucket for each displacement."""
    rows, cols, _ = grid.displacements.shape
    table = torch.arange(rows * cols, device=grid.displacements.device).unflatten(0, (rows, cols))
    return Buckets(table, rows * cols, grid.prefix)
