"""What an attention bias *is*, so that kernels and not encodings decide how it is evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


class LogitBias(ABC):
    """A term in logits, added to scale * q k^T, for N query and N key tokens."""

    num_tokens: int

    @abstractmethod
    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """The bias of the queries `start` to `stop`, for kernels that go through them in chunks."""

    def dense(self) -> Float[Tensor, "B h N N"]:
        """The whole bias: the specification."""
        return self.rows(0, self.num_tokens)

    @staticmethod
    def sum(biases: Sequence["LogitBias | None"]) -> "LogitBias | None":
        """All of `biases` in one; None when there are none."""
        some = [bias for bias in biases if bias is not None]
        if len(some) > 1:
            return SumBias(some)
        return some[0] if some else None


class SumBias(LogitBias):
    """biases[0] + biases[1] + ..."""

    def __init__(self, biases: Sequence[LogitBias]):
        self.biases = biases
        self.num_tokens = biases[0].num_tokens

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """The sum of their rows."""
        return reduce(torch.add, (bias.rows(start, stop) for bias in self.biases))


class BucketedContent(LogitBias):
    """bias[i, j] = lookup[i, row_buckets[y_i, y_j], col_buckets[x_i, x_j]]: one value a bucket.

    Args:
        lookup: a value in logits for each query and bucket; buckets are row-major S x S, and one
            more at the end for pairs with a prefix token where there are any.
        row_buckets: bucket of each pair of rows.
        col_buckets: bucket of each pair of columns.
        side: S.
        prefix: number of prefix tokens.
    """

    def __init__(
        self,
        lookup: Float[Tensor, "B h N K"],
        row_buckets: Int[Tensor, "H H"],
        col_buckets: Int[Tensor, "W W"],
        *,
        side: int,
        prefix: int = 0,
    ):
        self.lookup, self.side, self.prefix = lookup, side, prefix
        self.row_buckets, self.col_buckets = row_buckets, col_buckets
        self.num_tokens = lookup.shape[2]

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By one gather from `lookup`."""
        buckets = self._buckets(start, stop)  # [n, N]
        batch, heads = self.lookup.shape[:2]
        return self.lookup[:, :, start:stop].gather(-1, buckets.expand(batch, heads, -1, -1))

    def _buckets(self, start: int, stop: int) -> Int[Tensor, "n N"]:
        """Bucket of each pair, built from the two small tables: nothing of size N x N is kept."""
        width = len(self.col_buckets)
        patches = torch.arange(
            max(start - self.prefix, 0), max(stop - self.prefix, 0), device=self.lookup.device
        )
        rows, cols = self.row_buckets[patches // width], self.col_buckets[patches % width]
        pairs = (rows[:, :, None] * self.side + cols[:, None, :]).flatten(1)  # [n, HW]
        above = stop - start - len(patches)
        return F.pad(pairs, (self.prefix, 0, above, 0), value=self.side**2)


class PairwiseDistance(LogitBias):
    """bias[i, j] = sum over `vectors` z of ||z_i - z_j||, zero for pairs with a prefix token.

    Distances come from products of centred vectors, with an exactly zero diagonal and a root whose
    gradient at zero is zero. (Uncentred, single precision is wrong by 2e-3 near the diagonal.)
    """

    def __init__(self, vectors: Sequence[Float[Tensor, "B h HW _"]], prefix: int = 0):
        self.vectors = [z - z.mean(2, keepdim=True) for z in vectors]
        self.prefix = prefix
        self.num_tokens = prefix + vectors[0].shape[2]

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By one product for each of `vectors`."""
        first, last = max(start - self.prefix, 0), max(stop - self.prefix, 0)
        bias = reduce(torch.add, (self._distance(z, first, last) for z in self.vectors))
        return F.pad(bias, (self.prefix, 0, stop - start - (last - first), 0))

    @staticmethod
    def _distance(z: Tensor, first: int, last: int) -> Tensor:
        square = (z * z).sum(-1)  # [B, h, HW]
        # Kernels run under autocast, where this product would be in half precision.
        with torch.autocast(z.device.type, enabled=False):
            product = z[:, :, first:last] @ z.transpose(-1, -2)
        squared = square[:, :, first:last, None] + square[:, :, None, :] - 2 * product
        index = torch.arange(z.shape[2], device=z.device)
        apart = (squared > 0) & (index[first:last, None] != index)
        return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)
