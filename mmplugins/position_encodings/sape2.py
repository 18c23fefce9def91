"""SaPE2: semantic-aware position encoding, a distance between content-gated 2-D positions.

For the x axis, with T_x: d x P learned, s = 1 / sqrt(d), j and m over the row of token i:
    g[i, j] = sigmoid(s q_i . k_j)                                      gates
    p[i, m] = min(P - 1, sum over j >= m of g[i, j])                    positions, to the row's end
    z[i, m] = (1 - w) k_i . T_x[:, lo] + w k_i . T_x[:, lo + 1],        lo = floor(p), w = p - lo
    logits[i, n] += ||z_i - z_n||                                       for all pairs of patches
and likewise over the column of i for the y axis, with T_y.

Source: https://arxiv.org/abs/2505.09466, eq. 9-15. Acts on the logits; reads q, k and, through the
end of each line, where the valid region ends. No resizing at other grids: the distance grows like
the square root of a side. Deviations: gates are scaled and the bias is not, as in the authors' code
and appendix (eq. 9 and 16 print the reverse); patches that are not valid neither count in a gate
nor in a distance. Computed in fp32 or better.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmplugins.bias import PairwiseDistance
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class SaPE2(AttentionEncoding):
    """`num_positions` P vectors an axis, shared by the heads of a layer.

    Raises:
        ValueError: fewer than two positions.
    """

    source = "https://arxiv.org/abs/2505.09466"
    reads = "q and k of the line, to its end"
    cost = "N^2 (H + W) h"
    equivariant = frozenset({"canvas"})
    other_grid = "grows like the root of a side"
    examples = ({}, {"num_positions": 3})

    def __init__(self, dims: Dims, *, num_positions: int = 10):
        super().__init__()
        if num_positions < 2:
            raise ValueError(f"SaPE2: num_positions must be 2 or more, not {num_positions}")
        self.table_x = nn.Parameter(torch.empty(dims.head_dims, num_positions))
        self.table_y = nn.Parameter(torch.empty(dims.head_dims, num_positions))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal, std 0.02: from zero all distances are zero, and stay so."""
        nn.init.trunc_normal_(self.table_x, std=0.02)
        nn.init.trunc_normal_(self.table_y, std=0.02)

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> PairwiseDistance:
        """The distances of both axes."""
        # Half precision puts many positions on integers, where the slope is one-sided.
        with torch.autocast(q.device.type, enabled=False):
            precise = torch.promote_types(q.dtype, torch.float32)
            q, k = (
                t[:, :, grid.prefix :].to(precise).unflatten(2, (grid.height, grid.width))
                for t in (q, k)
            )
            pair_x, pair_y = grid.once("sape2_pairs", lambda: _pairs(grid))
            z_x = _line_vectors(q, k, self.table_x.to(precise), pair_x)  # [B, h, H, W, W]
            z_y = _line_vectors(
                q.transpose(2, 3), k.transpose(2, 3), self.table_y.to(precise), pair_y
            ).transpose(2, 3)  # [B, h, H, W, H]
            return PairwiseDistance([z_x.flatten(2, 3), z_y.flatten(2, 3)], prefix=grid.prefix)


def _line_vectors(
    q: Float[Tensor, "B h L n d"],
    k: Float[Tensor, "B h L n d"],
    table: Float[Tensor, "d P"],
    pair: Bool[Tensor, "_ 1 L n n"] | None,
) -> Float[Tensor, "B h L n n"]:
    """Z of each token of L lines of n tokens, over the places of its own line."""
    gates = torch.sigmoid(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5)  # [B, h, L, n, n]
    if pair is not None:
        gates = gates * pair
    # Reverse cumulative sum as a product: deterministic on every device, and exportable.
    from_here = torch.ones(2 * gates.shape[-1:], dtype=gates.dtype, device=gates.device).tril()
    last = table.shape[-1] - 1
    place = (gates @ from_here).clamp(max=last)
    low = place.detach().floor().clamp(max=last - 1)
    weight = place - low
    content, index = k @ table, low.long()  # [B, h, L, n, P]
    z = content.gather(-1, index) * (1 - weight) + content.gather(-1, index + 1) * weight
    return z if pair is None else z * pair


def _pairs(
    grid: TokenGrid,
) -> tuple[Bool[Tensor, "B 1 H W W"] | None, Bool[Tensor, "B 1 W H H"] | None]:
    """Which places of a line count for which of its tokens: valid ones that it may attend to."""
    if grid.mask is None and grid.valid is None:
        return None, None
    pair_x = pair_y = True
    if grid.mask is not None:
        patches = grid.mask[:, :, grid.prefix :, grid.prefix :]
        height, width = grid.height, grid.width
        square = patches.unflatten(3, (height, width)).unflatten(2, (height, width))
        pair_x = square.diagonal(dim1=2, dim2=4).movedim(-1, 2)
        pair_y = square.diagonal(dim1=3, dim2=5).movedim(-1, 2)
    if grid.valid is not None:
        valid = grid.valid_map[:, None]  # [B, 1, H, W]
        pair_x = pair_x & valid[..., None] & valid[..., None, :]
        columns = valid.transpose(2, 3)
        pair_y = pair_y & columns[..., None] & columns[..., None, :]
    return pair_x, pair_y
