"""Buckets: pairs of tokens whose displacement is alike share one value."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mmplugins.grid import is_known

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Axes:
    """b = rows[y_i - y_j + H - 1] * sizes[1] + cols[x_i - x_j + W - 1]."""

    rows: Int[Tensor, " R"]
    cols: Int[Tensor, " C"]
    sizes: tuple[int, int]

    @property
    def reversed(self) -> "Axes":
        """Those of the pair (j, i)."""
        return Axes(self.rows.flip(0), self.cols.flip(0), self.sizes)


@dataclass(frozen=True, eq=False)
class Buckets:
    """b(i, j) = table[y_i - y_j + H - 1, x_i - x_j + W - 1] for patches of an H x W grid.

    A pair with a prefix token is in the bucket after all others, number `count`.

    Attributes:
        table: the bucket of each displacement, from -(H - 1), -(W - 1) on.
        count: number of buckets, that of prefix tokens not counted.
        prefix: number of prefix tokens.
        axes: what the table is made of where there is a bucket for each axis.
    """

    table: Int[Tensor, "R C"]
    count: int
    prefix: int = 0
    axes: Axes | None = None
    _shared: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of_axes(cls, axes: Axes, *, prefix: int = 0) -> "Buckets":
        """All combinations of a bucket of rows and one of columns."""
        rows, cols = axes.sizes
        return cls(axes.rows[:, None] * cols + axes.cols, rows * cols, prefix, axes)

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
            axes = None if self.axes is None else self.axes.reversed
            table = self.table.flip(0, 1)
            self._shared["reversed"] = Buckets(table, self.count, self.prefix, axes)
        return self._shared["reversed"]

    def patches(self, start: int, stop: int) -> tuple[int, int, int]:
        """Of the tokens from `start` to `stop`: how many are prefix; the first and last patch."""
        first, last = max(start - self.prefix, 0), max(stop - self.prefix, 0)
        return stop - start - (last - first), first, last

    def pairs(self, start: int, stop: int) -> Int[Tensor, "n N"]:
        """b(i, j) of the tokens i from `start` to `stop` and all j."""
        return self._latest("pairs", start, stop, lambda: self._pairs(start, stop))

    def seen(self, start: int, stop: int) -> tuple[Int[Tensor, "n H"], Int[Tensor, "n W"]]:
        """Buckets of rows and of columns that the patches from `start` to `stop` see."""
        return self._latest("seen", start, stop, lambda: self._seen(start, stop))

    def rows(self, values: Float[Tensor, "h K"], start: int, stop: int) -> Float[Tensor, "h n N"]:
        """values[b(i, j)] of the tokens i from `start` to `stop` and all j."""
        picture = values.index_select(1, self.table.flatten()).unflatten(1, self.table.shape)
        before, first, last = self.patches(start, stop)
        seen = _seen_of(picture, self.grid, first, last)
        if not self.prefix:
            return seen
        other = values[:, self.count, None, None]  # of pairs with a prefix token
        seen = torch.cat([other.expand(-1, last - first, self.prefix), seen], -1)
        return torch.cat([other.expand(-1, before, seen.shape[-1]), seen], 1)

    def _latest(self, name: str, start: int, stop: int, make: Callable[[], T]) -> T:
        """Of the latest rows: the other heads and layers of this pass ask for the same."""
        kept = self._shared.get(name)
        if kept is None or kept[0] != (start, stop):
            kept = self._shared[name] = (start, stop), make()
        return kept[1]

    def _pairs(self, start: int, stop: int) -> Int[Tensor, "n N"]:
        before, first, last = self.patches(start, stop)
        if self.axes is None:
            seen = _seen_of(self.table[None], self.grid, first, last)[0]
        else:
            rows, cols = self.seen(first, last)
            seen = (rows[..., None] * self.axes.sizes[1] + cols[:, None]).flatten(1)
        if not self.prefix:
            return seen
        border = self.prefix, 0, before, 0
        if is_known(self.count):
            return F.pad(seen, border, value=self.count)
        return F.pad(seen - self.count, border) + self.count  # no symbol can be a pad's value

    def _seen(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        height, width = self.grid
        y, x = _places(width, first, last, self.table.device)
        from_y = y[:, None] - torch.arange(height, device=y.device) + height - 1
        from_x = x[:, None] - torch.arange(width, device=y.device) + width - 1
        return self.axes.rows[from_y], self.axes.cols[from_x]


def _places(width: int, first: int, last: int, device: torch.device) -> tuple[Tensor, Tensor]:
    patches = torch.arange(first, last, device=device)
    y = patches // width
    return y, patches - y * width


def _seen_of(
    picture: Shaped[Tensor, "h R C"], grid: tuple[int, int], first: int, last: int
) -> Shaped[Tensor, "h n HW"]:
    """What the patches from `first` to `last` see of a picture of all displacements."""
    height, width = grid
    if is_known(height, width):
        # A patch sees a window of the picture: to copy it is faster than to look up each pair.
        top, bottom = min(first // width, height - 1), min(last // width + 1, height)
        lines = picture.flip(1, 2)[:, height - bottom : 2 * height - 1 - top]
        windows = lines.unfold(1, height, 1).unfold(2, width, 1)  # [h, lines, W, H, W]
        seen = windows.flip(1, 2).flatten(1, 2).flatten(2)
        return seen[:, first - top * width : last - top * width]
    y, x = _places(width, first, last, picture.device)
    rows, cols = (torch.arange(side, device=y.device) for side in grid)
    stride = picture.shape[2]
    here = (y + height - 1) * stride + x + width - 1
    there = (rows[:, None] * stride + cols).flatten()
    places = here[:, None] - there
    return picture.flatten(1).index_select(1, places.flatten()).unflatten(1, places.shape)
