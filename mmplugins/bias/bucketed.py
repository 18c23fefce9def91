"""Terms of which each pair of tokens has one value for the bucket of its displacement."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.bias.lookup import is_by_lines, spread, spread_in, spread_keys, sum_up
from mmplugins.bias.term import Context, LogitBias
from mmplugins.buckets import Buckets


class BucketedTable(LogitBias):
    """bias[i, j] = table[b(i, j)]: the same for all images."""

    def __init__(self, table: Float[Tensor, "h K"], buckets: Buckets):
        buckets.check(table.shape[1])
        self.table, self.buckets = table, buckets
        self.num_tokens = buckets.num_tokens

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The table."""
        return (self.table[None],)

    def of(self, tensors: Sequence[Tensor]) -> "BucketedTable":
        """Another table."""
        return BucketedTable(tensors[0][0], self.buckets)

    def rows(self, start: int, stop: int) -> Float[Tensor, "1 h n N"]:
        """What the queries see of a picture of all displacements."""
        return self.buckets.rows(self.table, start, stop)[None]


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

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The lookup."""
        return (self.lookup,)

    def of(self, tensors: Sequence[Tensor]) -> "BucketedContent":
        """Another lookup."""
        return BucketedContent(tensors[0], self.buckets, of_keys=self.of_keys)

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """By look-ups of one axis after the other where buckets allow it."""
        if not self.of_keys:
            return spread(self.lookup[:, :, start:stop], self.buckets, start, stop)
        return spread_keys(self.lookup, self.buckets, start, stop)

    def rows_in(
        self, out: Float[Tensor, "B h n N"], start: int, stop: int
    ) -> Float[Tensor, "B h n N"]:
        """Looked up in `out` itself, where a look-up copies whole lines."""
        if self.of_keys or not is_by_lines(out, self.lookup, self.buckets):
            return super().rows_in(out, start, stop)
        return spread_in(out, self.lookup[:, :, start:stop], self.buckets, start, stop)


class BucketedValues(Context):
    """out[i] += sum_j p[i, j] table[b(i, j)]: p summed up by bucket, then met by the table.

    No vector is there for each pair of tokens.
    """

    def __init__(self, table: Float[Tensor, "H K d"], buckets: Buckets):
        buckets.check(table.shape[1])
        self.table, self.buckets = table, buckets

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The table."""
        return (self.table[None],)

    def of(self, tensors: Sequence[Tensor]) -> "BucketedValues":
        """Another table."""
        return BucketedValues(tensors[0][0], self.buckets)

    def rows(
        self, probs: Float[Tensor, "B h n N"], start: int, stop: int
    ) -> Float[Tensor, "B h n d"]:
        """Sums in single precision or better: half would lose small shares of large buckets."""
        precise = torch.promote_types(probs.dtype, torch.float32)
        size = self.table.shape[1]
        sums = sum_up(probs.to(precise), self.buckets, start, stop, size=size)
        return sums.to(probs.dtype) @ self.table.to(probs.dtype)
