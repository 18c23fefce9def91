"""Distances between vectors as a bias: that of SaPE2."""

from collections.abc import Sequence
from copy import copy
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmplugins.bias.term import LogitBias
from mmplugins.precision import full_precision


class PairwiseDistance(LogitBias):
    """bias[i, j] = scale sum over `vectors` z of ||z_i - z_j||, zero for pairs with a prefix token.

    Vectors are kept centred, which no distance notices: uncentred, single precision is wrong by
    2e-3 between look-alikes.

    Args:
        vectors: z, in single precision or better.
        prefix: number of tokens in front, which have no vector.
        scale: a number, or one for each head.
    """

    def __init__(
        self,
        vectors: Sequence[Float[Tensor, "B h HW _"]],
        *,
        prefix: int = 0,
        scale: Float[Tensor, "1 h 1 1"] | float = 1.0,
    ):
        self.vectors = tuple(z - z.mean(2, keepdim=True) for z in vectors)
        self.prefix, self.scale = prefix, scale
        self.num_tokens = prefix + vectors[0].shape[2]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The vectors, and the scale if it is learned."""
        return self.vectors + ((self.scale,) if isinstance(self.scale, Tensor) else ())

    def of(self, tensors: Sequence[Tensor]) -> "PairwiseDistance":
        """Distances between other vectors."""
        other, count = copy(self), len(self.vectors)  # a copy: they are centred already
        other.vectors = tuple(tensors[:count])
        if len(tensors) > count:
            other.scale = tensors[count]
        return other

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By one product for each of `vectors`."""
        first, last = max(start - self.prefix, 0), max(stop - self.prefix, 0)
        bias = reduce(torch.add, (_Distances.apply(z, first, last) for z in self.vectors))
        if isinstance(self.scale, Tensor) or self.scale != 1:
            bias = self.scale * bias
        if not self.prefix:
            return bias
        return F.pad(bias, (self.prefix, 0, stop - start - (last - first), 0))


class _Distances(torch.autograd.Function):
    """D[i, j] = ||z_i - z_j|| for i from `first` to `last`, exactly zero where i = j.

    Backwards, with R = G / D and zero where D is zero:
        grad z = diag(R^T 1) z - R^T z_rows,   and at the rows   diag(R 1) z_rows - R z
    Autograd alone would pass over as many values a dozen times more, and keep most of them.
    """

    @staticmethod
    def forward(ctx, z: Float[Tensor, "B h HW l"], first: int, last: int) -> Tensor:
        """By one product."""
        square = (z * z).sum(-1)
        with full_precision(z.device):  # kernels run under autocast
            root = torch.matmul(z[:, :, first:last] * -2, z.mT)
        root += square[:, :, first:last, None]
        root += square[:, :, None]
        index = torch.arange(z.shape[2], device=z.device)
        root = root.clamp_(min=0).sqrt_().masked_fill_(index[first:last, None] == index, 0)
        ctx.save_for_backward(z, root)
        ctx.rows = first, last
        return root

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        """In float products, too: sums of differences between look-alikes."""
        (z, root), (first, last) = ctx.saved_tensors, ctx.rows
        ratio = torch.where(root > 0, grad / root, 0)
        rows = z[:, :, first:last]
        with full_precision(z.device):
            of_all = ratio.sum(2)[..., None] * z - ratio.mT @ rows
            of_all[:, :, first:last] += ratio.sum(3, keepdim=True) * rows - ratio @ z
        return of_all, None, None
