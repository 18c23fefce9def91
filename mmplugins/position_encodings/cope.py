"""CoPE: contextual position encoding over the patches in raster order, the ancestor of SaPE2.

With s = 1 / sqrt(d), T: d x P learned, j and m over all patches in row-major order:
    g[i, j] = sigmoid(s q_i . k_j)                                      gates
    p[i, m] = min(P - 1, sum over j >= m of g[i, j])                    positions, to the last patch
    logits[i, m] += (1 - w) q_i . T[:, lo] + w q_i . T[:, lo + 1],      lo = floor(p), w = p - lo

Source: https://arxiv.org/abs/2405.18719, in the form that SaPE2 (https://arxiv.org/abs/2505.09466)
compares with: where a causal mask ends CoPE's sum at the query, a picture has none, and the sum
runs to the last patch. Acts on the logits; reads q, k and, through the end of the raster, where the
valid patches end. One line has no width, so nothing is resized; all but the last patches share
position P - 1. Deviation: prefix tokens have no position, neither gate nor bias. Computed in fp32
or better; needs H x W positions for each query, as many as there are logits.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmplugins.bias import LogitBias
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.position_encodings.contextual import at_positions, sum_to_the_end
from mmplugins.precision import full_precision
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class CoPE(AttentionEncoding):
    """`num_positions` P vectors, shared by the heads of a layer.

    Raises:
        ValueError: fewer than two positions.
    """

    source = "https://arxiv.org/abs/2405.18719"
    reads = "q and k of all later patches"
    cost = "N^2 (C + W h)"
    equivariant = frozenset({"canvas"})
    other_grid = "all but the last patches share a position"
    examples = ({"num_positions": 3},)

    def __init__(self, dims: Dims, *, num_positions: int = 10):
        super().__init__()
        if num_positions < 2:
            raise ValueError(f"CoPE: num_positions must be 2 or more, not {num_positions}")
        self.table = nn.Parameter(torch.empty(dims.head_dims, num_positions))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zeros: at first the model is the one without encoding."""
        nn.init.zeros_(self.table)

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> LogitBias:
        """What the table holds for each query at each patch's position."""
        precise = torch.promote_types(q.dtype, torch.float32)
        q, k = (t[:, :, grid.prefix :].to(precise) for t in (q, k))
        with full_precision(q.device):
            content = q @ self.table.to(precise)
        counted = grid.once("cope_counted", lambda: _counted(grid))
        return RasterPositions(q * q.shape[-1] ** -0.5, k, content, counted, grid)


class RasterPositions(LogitBias):
    """bias[i, m] = content[i] at position p[i, m], zero for pairs with a prefix token."""

    def __init__(
        self,
        q: Float[Tensor, "B h HW d"],
        k: Float[Tensor, "B h HW d"],
        content: Float[Tensor, "B h HW P"],
        counted: Bool[Tensor, "_ 1 _ HW"] | None,
        grid: TokenGrid,
    ):
        self.q, self.k, self.content, self.counted, self.grid = q, k, content, counted, grid
        self.num_tokens = grid.num_tokens

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What gates compare, what they count, and what the table holds."""
        tensors = self.q, self.k, self.content, self.counted
        return tensors if self.counted is not None else tensors[:-1]

    def of(self, tensors: Sequence[Tensor]) -> "RasterPositions":
        """Other contents on the same grid."""
        counted = None if self.counted is None else tensors[-1]
        return RasterPositions(*tensors[:3], counted, self.grid)

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By sums over the rest of a row, and over all rows below."""
        grid, prefix = self.grid, self.grid.prefix
        first, last = max(start - prefix, 0), max(stop - prefix, 0)
        with full_precision(self.q.device):
            gates = torch.sigmoid(self.q[:, :, first:last] @ self.k.transpose(-1, -2))
            if self.counted is not None:
                of_all = self.counted.shape[2] == 1
                gates = gates * (self.counted if of_all else self.counted[:, :, first:last])
            gates = gates.unflatten(-1, (grid.height, grid.width))  # [B, h, n, H, W]
            below = sum_to_the_end(gates.sum(-1), itself=False)  # [B, h, n, H]
            place = (sum_to_the_end(gates) + below[..., None]).flatten(-2)  # [B, h, n, HW]
        bias = at_positions(self.content[:, :, first:last], place)
        return F.pad(bias, (prefix, 0, stop - start - (last - first), 0))


def _counted(grid: TokenGrid) -> Bool[Tensor, "_ 1 _ HW"] | None:
    """Which patches the gates of a patch count: those that it may read."""
    counted = None if grid.valid is None else grid.valid[:, None, None]  # [B, 1, 1, HW]
    if grid.mask is not None:
        mask = grid.mask[:, :, grid.prefix :, grid.prefix :]
        counted = mask if counted is None else counted & mask
    return counted
