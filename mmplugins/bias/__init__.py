"""What an attention bias *is*, so that kernels and not encodings decide how it is evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmplugins.buckets import Buckets
from mmplugins.precision import full_precision


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


class BucketedTable(LogitBias):
    """bias[i, j] = table[b(i, j)]: the same for all images."""

    def __init__(self, table: Float[Tensor, "h K"], buckets: Buckets):
        buckets.check(table.shape[1])
        self.table, self.buckets = table, buckets
        self.num_tokens = buckets.num_tokens

    def rows(self, start: int, stop: int) -> Float[Tensor, "1 h n N"]:
        """By one look-up."""
        buckets = self.buckets.pairs(start, stop)  # [n, N]
        return self.table.index_select(1, buckets.flatten()).unflatten(1, buckets.shape)[None]


class BucketedContent(LogitBias):
    """bias[i, j] = lookup[i, b(i, j)], or lookup[j, b(j, i)] if the lookup is one `of_keys`.

    Args:
        lookup: a value in logits for each query, or key, and bucket.
        buckets: b.
        of_keys: the lookup belongs to the keys.
    """

    def __init__(
        self, lookup: Float[Tensor, "B h N K"], buckets: Buckets, *, of_keys: bool = False
    ):
        buckets.check(lookup.shape[3])
        self.lookup, self.buckets, self.of_keys = lookup, buckets, of_keys
        self.num_tokens = lookup.shape[2]

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By one gather from `lookup`."""
        batch, heads = self.lookup.shape[:2]
        if self.of_keys:
            buckets = self.buckets.reversed.pairs(start, stop)  # [n, N]
            return self.lookup.mT.gather(2, buckets.expand(batch, heads, -1, -1))
        buckets = self.buckets.pairs(start, stop)  # [n, N]
        return self.lookup[:, :, start:stop].gather(-1, buckets.expand(batch, heads, -1, -1))


class PairwiseDistance(LogitBias):
    """bias[i, j] = scale sum over `vectors` z of ||z_i - z_j||, zero for pairs with a prefix token.

    Distances come from products of centred vectors, with an exactly zero diagonal and a root whose
    gradient at zero is zero. (Uncentred, single precision is wrong by 2e-3 near the diagonal.)
    """

    def __init__(
        self,
        vectors: Sequence[Float[Tensor, "B h HW _"]],
        *,
        prefix: int = 0,
        scale: Float[Tensor, "_"] | float = 1.0,
    ):
        self.vectors = [z - z.mean(2, keepdim=True) for z in vectors]
        self.prefix = prefix
        self.scale = scale if isinstance(scale, float) else scale[:, None, None]  # [h, 1, 1]
        self.num_tokens = prefix + vectors[0].shape[2]

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By one product for each of `vectors`."""
        first, last = max(start - self.prefix, 0), max(stop - self.prefix, 0)
        bias = reduce(torch.add, (self._distance(z, first, last) for z in self.vectors))
        return F.pad(self.scale * bias, (self.prefix, 0, stop - start - (last - first), 0))

    @staticmethod
    def _distance(z: Tensor, first: int, last: int) -> Tensor:
        square = (z * z).sum(-1)  # [B, h, HW]
        with full_precision(z.device):  # kernels run under autocast
            product = z[:, :, first:last] @ z.transpose(-1, -2)
        squared = square[:, :, first:last, None] + square[:, :, None, :] - 2 * product
        index = torch.arange(z.shape[2], device=z.device)
        apart = (squared > 0) & (index[first:last, None] != index)
        return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)
