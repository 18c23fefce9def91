"""SaPE2: semantic-aware position encoding, a distance between content-gated 2-D positions.

For the x axis, with T_x: d x P learned, s = 1 / sqrt(d), j and m over the row of token i:
    g[i, j] = sigmoid(s q_i . c_j)                                      gates
    p[i, m] = min(P - 1, sum over j >= m of g[i, j])                    positions, to the row's end
    z[i, m] = (1 - w) o_i . T_x[:, lo] + w o_i . T_x[:, lo + 1],        lo = floor(p), w = p - lo
    logits[i, n] += ||z_i - z_n||                                       for all pairs of patches
and likewise over the column of i for the y axis, with T_y. The operand o is k or q. Gates read
c = k (qk), c = W k with W learned for each axis (sep), or c = v (v).

Source: https://arxiv.org/abs/2505.09466, eq. 9-15. Acts on the logits; reads q, k and, through the
end of each line, where the valid region ends. No resizing at other grids: the distance grows like
the square root of a side (see `normalize`). Deviations: gates are scaled and the bias is not, as in
the authors' code and appendix (eq. 9 and 16 print the reverse: options); the operand is named, as
the paper's text and its code disagree on which is "SaPE2(K)"; W starts as the identity, as from
zero it never learns; patches that are not valid neither count in a gate nor in a distance, exactly
as if absent where the valid region is a rectangle. Computed in fp32 or better.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmplugins.bias import PairwiseDistance
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.position_encodings.contextual import at_positions, sum_to_the_end
from mmplugins.precision import full_precision
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class SaPE2(AttentionEncoding):
    """Two tables for each layer, shared by its heads: `table_x` for columns, `table_y` for rows.

    Args:
        dims: shape facts.
        operand: the o of the equations.
        gate: what gates compare q with.
        num_positions: P of both tables; "grid" has as many as a line of the training grid can
            reach, W + 1 and H + 1, so that no position is cut off there.
        gate_scale: inv_sqrt_dim, or none as eq. 9 prints.
        bias_scale: none, or inv_sqrt_dim as eq. 16 prints.
        normalize: none, or rms: distances are divided by the square root of the line's length and
            multiplied by that of the training grid's.
        head_scale: multiply the bias by a learned factor for each head, 1 at first. The paper's
            bias is never negative, so far patches are always attended to more.

    Raises:
        ValueError: fewer than two positions.
    """

    source = "https://arxiv.org/abs/2505.09466"
    reads = "q and k of the line, to its end"
    cost = "N^2 (H + W) h"
    equivariant = frozenset({"canvas"})
    other_grid = "grows like the root of a side"
    examples = (
        {},
        {"operand": "q", "num_positions": 3, "gate_scale": "none", "head_scale": True},
        {"gate": "sep", "num_positions": "grid", "normalize": "rms"},
        {"gate": "v", "bias_scale": "inv_sqrt_dim"},
    )

    def __init__(
        self,
        dims: Dims,
        *,
        operand: Literal["k", "q"] = "k",
        gate: Literal["qk", "sep", "v"] = "qk",
        num_positions: int | Literal["grid"] = 10,
        gate_scale: Literal["inv_sqrt_dim", "none"] = "inv_sqrt_dim",
        bias_scale: Literal["inv_sqrt_dim", "none"] = "none",
        normalize: Literal["none", "rms"] = "none",
        head_scale: bool = False,
    ):
        super().__init__()
        height, width = dims.grid
        counts = (height + 1, width + 1) if num_positions == "grid" else (num_positions,) * 2
        if not all(isinstance(count, int) and count >= 2 for count in counts):
            raise ValueError(
                f"SaPE2: num_positions must be 2 or more, or 'grid', not {num_positions!r}"
            )
        d, inverse_root = dims.head_dims, {"inv_sqrt_dim": dims.head_dims**-0.5, "none": 1.0}
        self.operand, self.gate = operand, gate
        self.gate_scale, self.bias_scale = inverse_root[gate_scale], inverse_root[bias_scale]
        self.train_grid = dims.grid if normalize == "rms" else None
        if normalize == "rms":
            self.other_grid = "a mean over the line"
        self.table_x = nn.Parameter(torch.empty(d, counts[1]))
        self.table_y = nn.Parameter(torch.empty(d, counts[0]))
        if gate == "sep":
            self.gate_x = nn.Parameter(torch.empty(d, d))
            self.gate_y = nn.Parameter(torch.empty(d, d))
        self.head_scale = nn.Parameter(torch.empty(dims.num_heads)) if head_scale else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Tables truncated normal, std 0.02: from zero all distances are zero, and stay so."""
        for name, parameter in self.named_parameters():
            if name.startswith("table"):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.startswith("gate"):
                nn.init.eye_(parameter)
            else:
                nn.init.ones_(parameter)

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> PairwiseDistance:
        """The distances of both axes."""
        # Half precision puts many positions on integers, where the slope is one-sided.
        with full_precision(q.device):
            precise = torch.promote_types(q.dtype, torch.float32)
            shape = grid.height, grid.width
            q, k, v = (t[:, :, grid.prefix :].to(precise).unflatten(2, shape) for t in (q, k, v))
            pair_x, pair_y = grid.once("sape2_pairs", lambda: _pairs(grid))
            z_x = self._line_vectors("x", q, k, v, pair_x)  # [B, h, H, W, W]
            columns = (t.transpose(2, 3) for t in (q, k, v))
            z_y = self._line_vectors("y", *columns, pair_y).transpose(2, 3)  # [B, h, H, W, H]
        scale = self.bias_scale
        if self.head_scale is not None:
            scale = scale * self.head_scale.to(precise).view(1, -1, 1, 1)
        vectors = [z.flatten(2, 3) for z in (z_x, z_y)]
        return PairwiseDistance(vectors, prefix=grid.prefix, scale=scale)

    def _line_vectors(
        self,
        axis: Literal["x", "y"],
        q: Float[Tensor, "B h L n d"],
        k: Float[Tensor, "B h L n d"],
        v: Float[Tensor, "B h L n d"],
        pair: Bool[Tensor, "_ 1 L n n"] | None,
    ) -> Float[Tensor, "B h L n n"]:
        """Z of each token of L lines of n tokens, over the places of its own line."""
        table = getattr(self, f"table_{axis}").to(q.dtype)
        compared = v if self.gate == "v" else k
        if self.gate == "sep":
            compared = k @ getattr(self, f"gate_{axis}").to(q.dtype)
        gates = torch.sigmoid(q @ compared.transpose(-1, -2) * self.gate_scale)  # [B, h, L, n, n]
        if pair is not None:
            gates = gates * pair
        content = (k if self.operand == "k" else q) @ table  # [B, h, L, n, P]
        z = at_positions(content, sum_to_the_end(gates))
        if pair is not None:
            z = z * pair
        if self.train_grid is None:
            return z
        train = self.train_grid[1] if axis == "x" else self.train_grid[0]
        if pair is None:
            return z * (train / q.shape[3]) ** 0.5
        length = pair.sum(-1, keepdim=True, dtype=q.dtype).clamp(min=1)
        return z * (train / length).sqrt()


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
