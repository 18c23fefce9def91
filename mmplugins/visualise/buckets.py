"""Figures and tables of iRPE's buckets: which displacements share one."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.irpe import SideOptions
from mmplugins.position_encodings.irpe_buckets import Axis, displacement_buckets

# Colours of the four directions, up left, up right, down left and down right; mixed in between.
CORNERS = (0.55, 0.75, 0.95), (0.75, 0.95, 0.70), (0.95, 0.70, 0.80), (1.00, 0.90, 0.55)
PER_LINE = 16  # buckets of the printed table
# What g of each table is asked for; the first value of a bucket is one of it.
ARGUMENTS = {
    "product": "|dy| or |dx|",
    "rows": "|dy|",
    "cols": "|dx|",
    "euclidean": "round(sqrt(dy^2 + dx^2))",
    "quantisation": "dy^2 + dx^2",
}


@dataclass(frozen=True)
class BucketTable:
    """The buckets of one table on one grid.

    Attributes:
        axis: what the table is indexed by.
        options: method, ratio and index.
        buckets: b(i, j) by where the key j lies as seen from the query i, [2H - 1, 2W - 1], itself
            amid.
        allocated: buckets that the table has, that of prefix tokens included.
    """

    axis: Axis
    options: SideOptions
    buckets: np.ndarray
    allocated: int
    prefix: int

    @property
    def used(self) -> int:
        """Buckets that pairs of tokens of this grid fall into."""
        return len(np.unique(self.buckets)) + (self.prefix > 0)

    @property
    def last(self) -> int:
        """B of the equations."""
        return int(2 * self.options.ratio)

    def firsts(self) -> dict[int, int]:
        """By bucket of g, 0 to B, the first value that falls into it; some buckets have none."""
        ratio, index = self.options.ratio, self.options.index
        line = TokenGrid(height=1, width=int(8 * ratio) + 2)  # beyond it all are in the last
        buckets = displacement_buckets(line, "cols", ratio, index).table[0, line.width - 1 :]
        firsts: dict[int, int] = {}
        for value, bucket in enumerate((buckets - self.last).tolist()):
            firsts.setdefault(bucket, value)
        return firsts


def bucket_tables(grid: TokenGrid, options: SideOptions) -> list[BucketTable]:
    """The table of a method, or both of cross."""
    tables = []
    for axis in options.axes:
        buckets = displacement_buckets(grid, axis, options.ratio, options.index)
        allocated = buckets.count + (grid.prefix > 0)
        tables.append(
            BucketTable(axis, options, buckets.reversed.table.numpy(), allocated, grid.prefix)
        )
    return tables


def describe(table: BucketTable) -> str:
    """Its size, and where each bucket of g begins, as lines of text."""
    lines, firsts = [title(table)], list(table.firsts().items())
    name = f"first {ARGUMENTS[table.axis]}"
    for start in range(0, len(firsts), PER_LINE):
        part = firsts[start : start + PER_LINE]
        for label, numbers in zip(("bucket of g", name), zip(*part, strict=True), strict=True):
            lines.append(f"  {label:30}" + "".join(f"{number:4}" for number in numbers))
    return "\n".join(lines)


def title(table: BucketTable) -> str:
    """Name and numbers of a table."""
    return (
        f"{table.axis}, ratio {table.options.ratio:g}, {table.options.index}: B = {table.last}, "
        f"{table.allocated} buckets, {table.used} used"
    )


def draw_buckets(tables: Sequence[Sequence[BucketTable]], grid: TokenGrid) -> Figure:
    """A panel for each table: the bucket of every displacement around a query in the middle."""
    rows, cols = len(tables), max(map(len, tables))
    height, width = 2 * grid.height - 1, 2 * grid.width - 1
    side = 4.8 / max(height, width)  # inches of a displacement
    page_width = cols * (width * side + 0.9)
    figure = Figure(
        figsize=(page_width, rows * (height * side + 0.9) + 0.7), dpi=150, layout="constrained"
    )
    caption = (
        f"the bucket of a key, by its (y, x) from the query (red), {grid.height} x {grid.width} "
        f"patches, {grid.prefix} prefix tokens"
    )
    figure.suptitle("\n".join(textwrap.wrap(caption, int(11 * page_width))), fontsize=11)
    all_axes = figure.subplots(rows, cols, squeeze=False)
    for (row, col), axes in np.ndenumerate(all_axes):
        if col < len(tables[row]):
            _draw(axes, tables[row][col], side)
        else:
            axes.set_axis_off()
    return figure


def _draw(axes: Axes, table: BucketTable, side: float) -> None:
    buckets = table.buckets
    reach_y, reach_x = (n // 2 for n in buckets.shape)
    extent = (-reach_x - 0.5, reach_x + 0.5, reach_y + 0.5, -reach_y - 0.5)
    axes.imshow(_colours(table), extent=extent)
    _draw_borders(axes, buckets)
    axes.plot(0, 0, marker="s", markersize=72 * side, fillstyle="none", color="#ff2a2a")
    for bucket in np.unique(buckets):
        cells = np.argwhere(buckets == bucket)
        y, x = cells[np.argmin(((cells - cells.mean(0)) ** 2).sum(1).round(6))]
        (top, bottom), (left, right) = _run(buckets[:, x], y), _run(buckets[y], x)
        if buckets[(top + bottom) // 2, (left + right) // 2] == bucket:
            y, x = (top + bottom) / 2, (left + right) / 2
        wide = (right - left + 1) / len(str(bucket))
        size = min(9.0, 72 * side * min(0.6 * (bottom - top + 1), 1.2 * wide))
        if size >= 3.0:
            place = x - reach_x, y - reach_y
            axes.text(*place, str(bucket), ha="center", va="center", fontsize=size, clip_on=True)
    axes.set_title(title(table).replace(": ", "\n"), fontsize=9)
    axes.tick_params(labelsize=7)


def _colours(table: BucketTable) -> np.ndarray:
    """RGB of each displacement: near buckets alike, by direction where the table knows it."""
    buckets, span = table.buckets, 2 * table.last
    if table.axis in ("euclidean", "quantisation"):
        return colormaps["YlGnBu"](0.65 * buckets / max(buckets.max(), 1))[..., :3]
    y = {"product": buckets // (span + 1), "rows": buckets}.get(table.axis, 0 * buckets)
    x = {"product": buckets % (span + 1), "cols": buckets}.get(table.axis, 0 * buckets)
    y, x = (((t - t.min() + 0.5) / (np.ptp(t) + 1))[..., None] for t in (y, x))
    top, bottom = (
        (1 - x) * np.array(left) + x * np.array(right) for left, right in (CORNERS[:2], CORNERS[2:])
    )
    return (1 - y) * top + y * bottom


def _run(line: np.ndarray, place: int) -> tuple[int, int]:
    """First and last of the cells around `place` that are equal to it without a break."""
    other = np.flatnonzero(line != line[place])
    return (
        other[other < place].max(initial=-1) + 1,
        other[other > place].min(initial=len(line)) - 1,
    )


def _draw_borders(axes: Axes, buckets: np.ndarray) -> None:
    """Lines between cells of different buckets."""
    reach_y, reach_x = (n // 2 for n in buckets.shape)
    for y, x in product(*map(range, buckets.shape)):
        top, left = y - reach_y - 0.5, x - reach_x - 0.5
        if y and buckets[y, x] != buckets[y - 1, x]:
            axes.plot((left, left + 1), (top, top), color="black", lw=0.8)
        if x and buckets[y, x] != buckets[y, x - 1]:
            axes.plot((left, left), (top, top + 1), color="black", lw=0.8)
