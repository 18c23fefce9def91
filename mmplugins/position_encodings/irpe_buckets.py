"""The buckets of iRPE: near displacements apart, far ones together.

Of a displacement (dy, dx) = (y_i - y_j, x_i - x_j), with g from -B to B, B = int(beta):
    product:       (g(dy), g(dx)), all (2B + 1)^2 pairs, row-major
    rows, cols:    g(dy), g(dx): the two tables of the method cross
    euclidean:     g(round(sqrt(dy^2 + dx^2)))
    quantisation:  g(dy^2 + dx^2)
    piecewise g:   round(x) where |x| <= alpha, else
                   sign(x) min(beta, round(alpha + ln(|x|/alpha) / ln(gamma/alpha) (beta - alpha)))
    clip g:        min(max(x, -B), B)
    alpha : beta : gamma = 1 : 2 : 8, times `ratio`

Source: https://arxiv.org/abs/2107.14222, eq. 17 to 25. Deviation: the two distances, never
negative, have tables of B + 1 buckets, where the authors' keep 2B + 1.
"""

import math
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mmplugins.buckets import Axes, Buckets
from mmplugins.grid import TokenGrid

Axis = Literal["product", "euclidean", "quantisation", "rows", "cols"]
Index = Literal["piecewise", "clip"]


def count_buckets(axis: Axis, ratio: float) -> int:
    """K, that of prefix tokens not counted."""
    last = int(2 * ratio)
    return {
        "product": (2 * last + 1) ** 2,
        "rows": 2 * last + 1,
        "cols": 2 * last + 1,
        "euclidean": last + 1,
        "quantisation": last + 1,
    }[axis]


def displacement_buckets(grid: TokenGrid, axis: Axis, ratio: float, index: Index) -> Buckets:
    """The buckets of all pairs of tokens on `grid`."""
    last = int(2 * ratio)

    def g(x: Tensor) -> Tensor:
        return piecewise_index(x, ratio) if index == "piecewise" else x.clamp(-last, last)

    dy, dx = grid.displacements[:, 0, 0], grid.displacements[0, :, 1]
    count, everywhere = 2 * last + 1, torch.zeros_like
    if axis == "product":
        axes = Axes(g(dy) + last, g(dx) + last, (count, count))
    elif axis == "rows":
        axes = Axes(g(dy) + last, everywhere(dx), (count, 1))
    elif axis == "cols":
        axes = Axes(everywhere(dy), g(dx) + last, (1, count))
    else:
        square = dy[:, None] ** 2 + dx**2
        distance = square.double().sqrt().round().long() if axis == "euclidean" else square
        return Buckets(g(distance), last + 1, grid.prefix)
    return Buckets.of_axes(axes, prefix=grid.prefix)


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
