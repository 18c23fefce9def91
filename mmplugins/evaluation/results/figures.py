"""Figures of results: curves over shifts, and bars over the levels of a network.

Colours are Okabe and Ito's, which colour-blind people tell apart, https://jfly.uni-koeln.de/color/;
each has a marker of its own. Figures are 8 inches wide: 1200 pixels at 150 to the inch.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from mmplugins.disk import write
from mmplugins.evaluation.results.readings import Reading, reading
from mmplugins.evaluation.results.rows import CONFIDENCE, REFERENCE, Row

WIDTH, HEIGHT, DPI = 8.0, 4.6, 150
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SERIES = ("blocks", "encoder")  # levels that are numbered layers of one kind
MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def save(figure: Figure, path: Path) -> None:
    """As PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    write(path, content.getvalue())


def curves(rows: Sequence[Row], title: str, *, period: int) -> Figure:
    """A metric against the size of the shift, the larger of its parts; a panel for each set.

    Small marks are shifts, a line is the mean over those of one size, and the area around it is all
    that their simultaneous band holds. A dashed line is the reference, where it has a value.

    Args:
        rows: of one metric over shifts, of up to seven parts.
        title: of whose they are.
        period: P of the model, whose multiples are marked.

    Raises:
        ValueError: rows of several metrics, not over shifts, or of too many parts.
    """
    read = reading_of(rows, "shift")
    sets = list(dict.fromkeys(name for row in rows for name in row.sets))
    note = f"lines: mean of a size; areas: {CONFIDENCE:.0%} bands, for all shifts at once"
    note += "; dashed: unshifted" * any(row.point == REFERENCE for row in rows)
    figure, panels = frame(title, rows[0].metric, read, [1] * len(sets), note=note)
    styles = styles_of([row.part for row in rows])
    for axes, name in zip(panels, sets, strict=True):
        own = [row for row in rows if name in row.sets]
        for number, (part, style) in enumerate(styles.items()):
            lines = [row for row in own if row.part == part]
            size = max(4, 11 - 3 * number)  # so that equal lines can be seen
            _curve(axes, lines, read, part, style, size)
        for row in rows:
            if row.point == REFERENCE:
                colour, _ = styles[row.part]
                axes.axhline(row.value * read.scale, color=colour, lw=1, ls="--", zorder=1)
        axes.set_title(f"{name}: {' and '.join(sorted({row.kind for row in own}))}", fontsize=10)
        _sizes(axes, sorted({_size(row) for row in own}), period)
    panels[0].set_ylabel(label(rows[0].metric, read))
    legend(figure, panels)
    return figure


def bars(rows: Sequence[Row], title: str) -> Figure:
    """A metric level by level in the order of the network; blocks, layers and modules apart.

    Args:
        rows: of one metric over sets; a bar for each set.
        title: of whose they are.

    Raises:
        ValueError: rows of several metrics, not over sets, or over too many of them.
    """
    read = reading_of(rows, "set")
    parts = list(dict.fromkeys(row.part for row in rows))
    groups: dict[str, list[str]] = {}
    for part in parts:
        first = part.partition(".")[0]
        groups.setdefault(first if first in SERIES else "modules", []).append(part)
    note = f"black: {CONFIDENCE:.0%} intervals"
    sizes = [len(group) for group in groups.values()]
    figure, panels = frame(title, rows[0].metric, read, sizes, note=note)
    styles = styles_of(sorted({row.point for row in rows}))  # one colour in all figures
    width = 0.8 / len(styles)
    for axes, (name, group) in zip(panels, groups.items(), strict=True):
        for number, (point, (colour, _)) in enumerate(styles.items()):
            own = [row for row in rows if row.point == point and row.part in group]
            at = [group.index(row.part) + (number + 0.5) * width - 0.4 for row in own]
            values, low, high = numbers_of(own, read, "low", "high")
            axes.bar(at, values, width, color=colour, label=point)
            axes.vlines(at, low, high, color="black", lw=1.2)
        axes.set_xticks(range(len(group)), [part.removeprefix(f"{name}.") for part in group])
        if name == "modules" and len(group) > 2:
            axes.tick_params(axis="x", labelrotation=90)
        free = max(0, 6 - len(parts)) / 2  # few bars need not be wide
        axes.set_xlim(-0.6 - free, len(group) - 0.4 + free)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_title(name, fontsize=10)
    panels[0].set_ylabel(label(rows[0].metric, read))
    legend(figure, panels)
    return figure


def reading_of(rows: Sequence[Row], axis: str) -> Reading:
    """How the metric of `rows` is read.

    Raises:
        ValueError: rows of several metrics, or over another axis.
    """
    found = {(row.metric, row.axis) for row in rows}
    if len(found) != 1 or rows[0].axis != axis:
        raise ValueError(f"a figure is of one metric over the axis {axis}, not of {sorted(found)}")
    return reading(rows[0].metric)


def frame(
    title: str, metric: str, read: Reading, widths: Sequence[float], *, note: str, share=True
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, and above them what is shown and what is good."""
    figure = Figure((WIDTH, HEIGHT), layout="constrained")
    says = f"{metric}, {read.says}" if read.says else metric
    lines = [line for text in (title, says, note) for line in textwrap.wrap(text, 112)]
    figure.suptitle("\n".join(lines), fontsize=10, x=0.012, ha="left")
    ratios = [max(width, max(widths) / 4) for width in widths]
    panels = figure.subplots(1, len(widths), sharey=share, squeeze=False, width_ratios=ratios)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels)


def label(metric: str, read: Reading) -> str:
    """Of an axis or a scale."""
    return " ".join(part for part in (metric, "[%]" if read.percent else "", read.arrow) if part)


def _curve(
    axes: Axes,
    rows: Sequence[Row],
    read: Reading,
    part: str,
    style: tuple[str, str],
    size: float,
) -> None:
    colour, marker = style
    sizes = np.array([_size(row) for row in rows])
    values, low, high = numbers_of(rows, read, "band_low", "band_high")
    each = np.unique(sizes)
    means, lowest, highest = (
        np.array([reduce(numbers[sizes == size]) for size in each])
        for reduce, numbers in ((np.mean, values), (np.min, low), (np.max, high))
    )
    axes.fill_between(each, lowest, highest, color=colour, alpha=0.15, lw=0)
    axes.plot(sizes, values, marker, color=colour, ms=3, alpha=0.5, mew=0)
    axes.plot(each, means, marker=marker, color=colour, ms=size, lw=size / 4, label=part)


def _sizes(axes: Axes, sizes: Sequence[float], period: int) -> None:
    """Octaves of sizes in pixels, and thin lines at multiples of the period up to the largest."""
    axes.set_xscale("log", base=2)
    low, high = sizes[0] / 2**0.2, sizes[-1] * 2**0.2
    for multiple in np.arange(1, np.ceil(sizes[-1] / period) + 1) * period:
        axes.axvline(multiple, color="#999999", lw=0.6, zorder=0)
    octaves = 2.0 ** np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
    axes.xaxis.set_major_locator(FixedLocator(octaves))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(low, high)
    axes.set_xlabel(f"size of the shift, pixels (thin lines: multiples of {period})")


def _size(row: Row) -> float:
    return max(abs(row.dy), abs(row.dx))


def numbers_of(
    rows: Sequence[Row], read: Reading, *bounds: str
) -> list[Float[np.ndarray, " rows"]]:
    """Values and bounds as they are printed."""
    names = ("value", *bounds)
    return [np.array([getattr(row, name) for row in rows]) * read.scale for name in names]


def styles_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name."""
    names = list(dict.fromkeys(names))
    if len(names) > len(COLOURS):
        raise ValueError(f"{len(names)} are too many for one figure: {', '.join(names)}")
    return dict(zip(names, zip(COLOURS, MARKERS, strict=True), strict=False))


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One for all panels, below them, where there is more than one name."""
    entries: dict = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    if len(entries) > 1:
        figure.legend(entries.values(), entries, loc="outside lower center", ncols=7, frameon=False)
