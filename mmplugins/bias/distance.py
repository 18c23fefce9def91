"""Distances between vectors as a bias: that of SaPE2."""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmplugins.bias.term import LogitBias
from mmplugins.precision import full_precision


class PairwiseDistance(LogitBias):
    """bias[i, j] = scale sum over `vectors` z of ||z_i - z_j||, zero for pairs with a prefix token.

    Vectors are kept centred, which no distance notices: uncentred, single precision is wrong by
    2e-3 between look-alikes. They are kept as points (z, ||z||^2, 1): a squared distance is then
    one product, that of (-2 z_i, 1, ||z_i||^2) and the point of j.

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
        self.points = tuple(map(_point, vectors))
        self.prefix, self.scale = prefix, scale
        self.num_tokens = prefix + vectors[0].shape[2]

    @property
    def vectors(self) -> tuple[Float[Tensor, "B h HW _"], ...]:
        """The centred ones."""
        return tuple(point[..., :-2] for point in self.points)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The points, and the scale if it is learned."""
        return self.points + ((self.scale,) if isinstance(self.scale, Tensor) else ())

    def of(self, tensors: Sequence[Tensor]) -> "PairwiseDistance":
        """Distances between other points."""
        other, count = copy(self), len(self.points)
        other.points = tuple(tensors[:count])
        if len(tensors) > count:
            other.scale = tensors[count]
        return other

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By one product for each of `vectors`."""
        first, last = max(start - self.prefix, 0), max(stop - self.prefix, 0)
        bias = reduce(torch.add, self._distances(first, last))
        if self._is_scaled():
            bias = self.scale * bias
        if not self.prefix:
            return bias
        return F.pad(bias, (self.prefix, 0, stop - start - (last - first), 0))

    def summands(self, start: int, stop: int) -> Iterator[Float[Tensor, "B h n N"]]:
        """Each distance, where there is no more to be done with all of them."""
        if self.prefix or self._is_scaled():
            return super().summands(start, stop)
        return self._distances(start, stop)

    def _is_scaled(self) -> bool:
        return isinstance(self.scale, Tensor) or self.scale != 1

    def _distances(self, first: int, last: int) -> Iterator[Float[Tensor, "B h n HW"]]:
        # A trace of TorchScript, by which hosts count operations, knows no `Function`.
        distances = _distances if torch.jit.is_tracing() else _Distances.apply
        return (distances(point, first, last) for point in self.points)


def _point(z: Float[Tensor, "B h HW l"]) -> Float[Tensor, "B h HW l+2"]:
    z = z - z.mean(2, keepdim=True)
    square = (z * z).sum(-1, keepdim=True)
    return torch.cat([z, square, torch.ones_like(square)], -1)


def _mirrored(point: Float[Tensor, "B h n p"]) -> Float[Tensor, "B h n p"]:
    return torch.cat([-2 * point[..., :-2], point[..., -2:].flip(-1)], -1)


def _distances(
    point: Float[Tensor, "B h HW p"], first: int, last: int
) -> Float[Tensor, "B h n HW"]:
    """D[i, j], i from `first` to `last`; exactly zero where i = j."""
    with full_precision(point.device):  # kernels run under autocast
        root = (_mirrored(point[:, :, first:last]) @ point.mT).clamp_(min=0).sqrt_()
    index = torch.arange(first, last, device=point.device)
    root[:, :, index - first, index] = 0
    return root


class _Distances(torch.autograd.Function):
    """`_distances`, of which the gradient of a squared distance is G / 2D, and zero where D is.

    Autograd alone would pass over as many values a dozen times more, and keep most of them.
    """

    @staticmethod
    def forward(ctx, point: Tensor, first: int, last: int) -> Tensor:
        root = _distances(point, first, last)
        ctx.save_for_backward(point, root)
        ctx.rows = first, last
        return root

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (point, root), (first, last) = ctx.saved_tensors, ctx.rows
        ratio = (grad / root).nan_to_num_(0, 0, 0)
        z, of_point = point[..., :-2], torch.zeros_like(point)  # nobody asks for that of the 1
        of_z, of_square = of_point[..., :-2], of_point[..., -2]
        with full_precision(point.device):  # of z alone: two more columns make products slow
            of_z -= ratio.mT @ z[:, :, first:last]
            of_z[:, :, first:last] -= ratio @ z
        of_square += ratio.sum(2) / 2
        of_square[:, :, first:last] += ratio.sum(3) / 2
        return of_point, None, None
