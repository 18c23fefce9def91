"""Buckets: pairs of tokens whose displacement is alike share one value."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from mmplugins.grid import is_known


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
    _shared: dict = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> tuple[int, int]:
        """H, W."""
        rows, cols = self.table.shape
        return (rows + 1) // 2, (cols + 1) // 2

    @property
    def num_tokens(self) -> int:
        """N: prefix tokens and patches."""
        height, width = self.grid
        return self.prefix + height * width

    def check(self, size: int) -> None:
        """Refuse a table of too few buckets.

        Raises:
            ValueError: names the prefix tokens, if the table was built for another number of them.
        """
        if size < self.count + (self.prefix > 0):
            raise ValueError(
                f"a table of {size} buckets does not serve {self.count}"
                + (f" and one for {self.prefix} prefix tokens" if self.prefix else "")
                + ": is Dims.prefix that of the grid?"
            )

    @property
    def reversed(self) -> "Buckets":
        """Those of b(j, i)."""
        if "reversed" not in self._shared:
            self._shared["reversed"] = Buckets(self.table.flip(0, 1), self.count, self.prefix)
        return self._shared["reversed"]

    def pairs(self, start: int, stop: int) -> Int[Tensor, "n N"]:
        """b(i, j) of the tokens i from `start` to `stop` and all j.

        Those of all tokens are kept for the other layers of this pass: autograd would keep a copy
        for each of them.
        """
        if (start, stop) != (0, self.num_tokens):
            return self._rows(start, stop)
        if "pairs" not in self._shared:
            self._shared["pairs"] = self._rows(start, stop)
        return self._shared["pairs"]

    def _rows(self, start: int, stop: int) -> Int[Tensor, "n N"]:
        height, width = self.grid
        first, last = max(start - self.prefix, 0), max(stop - self.prefix, 0)
        patches = torch.arange(first, last, device=self.table.device)
        y = patches // width
        x = patches - y * width
        if is_known(height, width):
            # A patch sees a window of the table: to copy it is faster than to look up each pair.
            windows = self.table.flip(0, 1).unfold(0, height, 1).unfold(1, width, 1)  # [H, W, H, W]
            seen = windows[height - 1 - y, width - 1 - x].flatten(1)
        else:
            seen = self._look_up(y, x)
        if not self.prefix:
            return seen
        border = self.prefix, 0, stop - start - (last - first), 0
        if is_known(self.count):
            return F.pad(seen, border, value=self.count)
        return F.pad(seen - self.count, border) + self.count  # no symbol can be a pad's value

    def _look_up(self, y: Int[Tensor, " n"], x: Int[Tensor, " n"]) -> Int[Tensor, "n HW"]:
        """The buckets of the patches at `y`, `x` by one look-up for each pair."""
        height, width = self.grid
        rows, cols = (torch.arange(side, device=y.device) for side in (height, width))
        stride = self.table.shape[1]
        here = (y + height - 1) * stride + x + width - 1
        there = (rows[:, None] * stride + cols).flatten()
        places = here[:, None] - there
        return self.table.flatten().index_select(0, places.flatten()).unflatten(0, places.shape)
