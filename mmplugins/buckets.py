"""Buckets: pairs of tokens whose displacement is alike share one value."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Buckets:
    """b(i, j) = table[y_i - y_j + H - 1, x_i - x_j + W - 1] for patches of an H x W grid.

    A pair with a prefix token is in the bucket after all others, number `count`.

    Attributes:
        table: the bucket of each displacement, from -(H - 1), -(W - 1) on.
        count: number of buckets, that of prefix tokens not counted.
        prefix: number of prefix tokens.
    """

    table: Int[Tensor, "R C"]
    count: int
    prefix: int = 0

    @property
    def num_tokens(self) -> int:
        """N: prefix tokens and patches."""
        rows, cols = self.table.shape
        return self.prefix + (rows + 1) // 2 * ((cols + 1) // 2)

    @property
    def reversed(self) -> "Buckets":
        """Those of b(j, i)."""
        return replace(self, table=self.table.flip(0, 1))

    def pairs(self, start: int, stop: int) -> Int[Tensor, "n N"]:
        """b(i, j) of the tokens i from `start` to `stop` and all j."""
        tokens = self._places()
        first, last = max(start - self.prefix, 0), max(stop - self.prefix, 0)
        # A place is y C + x, so that places differ as displacements do.
        zero = self.table.numel() // 2
        displacements = tokens[first:last, None] - tokens[None, :] + zero
        above = stop - start - (last - first)
        return F.pad(
            self.table.flatten()[displacements], (self.prefix, 0, above, 0), value=self.count
        )

    def _places(self) -> Int[Tensor, "HW"]:
        rows, cols = self.table.shape
        y = torch.arange((rows + 1) // 2, device=self.table.device)
        x = torch.arange((cols + 1) // 2, device=self.table.device)
        return (y[:, None] * cols + x).flatten()
