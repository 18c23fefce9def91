"""iRPE: image relative position encoding, contextual, product method, on the keys, shared heads.

    logits[i, j] += s q_i . T[:, b(i, j)],        s = 1 / sqrt(d),  T: d x K learned
    b(i, j) = g(y_i - y_j) S + g(x_i - x_j)       (each g shifted to start at 0, K = S^2)
    g(x) = round(x)                                                          where |x| <= alpha
    g(x) = sign(x) min(beta, round(alpha + ln(|x|/alpha) / ln(gamma/alpha) (beta - alpha)))   else
    alpha : beta : gamma = 1 : 2 : 8, times `ratio`; S = 2 int(beta) + 1

Source: https://arxiv.org/abs/2107.14222, eq. 18 and 26. Acts on the logits; reads q and directed
displacements in patches. All pairs with a prefix token share one more bucket. At any other grid
long displacements fall into the last bucket, so nothing is resized. Tables start at zero.
"""

import math

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mmplugins.bias import BucketedContent
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class IRPE(AttentionEncoding):
    """One learned vector for each bucket of displacements, met by the query.

    Raises:
        ValueError: a ratio that is not positive.
    """

    source = "https://arxiv.org/abs/2107.14222"
    equivariant = frozenset({"canvas"})
    other_grid = "last bucket"
    examples = ({}, {"ratio": 1.0})

    def __init__(self, dims: Dims, *, ratio: float = 1.9):
        super().__init__()
        if ratio <= 0:
            raise ValueError(f"IRPE: ratio must be positive, not {ratio}")
        self.ratio = ratio
        self.side = 2 * int(2 * ratio) + 1
        buckets = self.side**2 + (dims.prefix > 0)
        self.table = nn.Parameter(torch.empty(1, dims.head_dims, buckets))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zero: at first the model is the one without encoding."""
        nn.init.zeros_(self.table)

    def logit_bias(self, q: Tensor, k: Tensor, grid: TokenGrid) -> BucketedContent:
        """The scaled product of each query with the vector of its bucket."""
        lookup = (q * q.shape[-1] ** -0.5) @ self.table.to(q.dtype)  # [B, h, N, K]
        rows, cols = grid.once(("irpe", self.ratio), lambda: self._buckets(grid))
        return BucketedContent(lookup, rows, cols, side=self.side, prefix=grid.prefix)

    def _buckets(self, grid: TokenGrid) -> tuple[Int[Tensor, "H H"], Int[Tensor, "W W"]]:
        displacements = grid.row_displacements, grid.col_displacements
        return tuple(piecewise_index(d, self.ratio) + self.side // 2 for d in displacements)


def piecewise_index(x: Int[Tensor, "*n"], ratio: float) -> Int[Tensor, "*n"]:
    """G of eq. 18: exact near zero, logarithmic further out, -int(beta) to int(beta).

    >>> piecewise_index(torch.tensor([-9, 0, 1, 2, 3, 4]), ratio=1.9).tolist()
    [-3, 0, 1, 2, 2, 3]
    """
    alpha, beta, gamma = ratio, 2 * ratio, 8 * ratio
    distance = x.abs().float()
    beyond = torch.log(distance.clamp(min=alpha) / alpha) / math.log(gamma / alpha)
    # The cut at the fractional beta comes before the integer, as in the authors' tables.
    far = (alpha + beyond * (beta - alpha)).round().clamp(max=beta).long()
    return x.sign() * torch.where(distance <= alpha, distance.round().long(), far)
