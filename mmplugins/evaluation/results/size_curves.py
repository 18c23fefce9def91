"""Figure of a metric over test sizes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from mmplugins.evaluation.results.figures import (
    frame,
    label,
    legend,
    numbers_of,
    styles_of,
)
from mmplugins.evaluation.results.readings import reading
from mmplugins.evaluation.results.rows import CONFIDENCE, Row

OCTAVES = 0.4  # that labels must be apart


def size_curves(rows: Sequence[Row], title: str) -> Figure:
    """A metric against the ratio of the test size to the training size; a panel for each mode.

    Args:
        rows: of one metric over sizes, of up to seven parts.
        title: of whose they are.

    Raises:
        ValueError: rows of several metrics, or of too many parts.
    """
    if len(metrics := {row.metric for row in rows}) != 1:
        raise ValueError(f"a figure is of one metric, not of {sorted(metrics)}")
    read, modes = reading(rows[0].metric), list(dict.fromkeys(row.axis for row in rows))
    note = f"areas: {CONFIDENCE:.0%} bands, for all sizes at once; grey: the training size"
    figure, panels = frame(title, rows[0].metric, read, [1] * len(modes), note=note)
    styles = styles_of([row.part for row in rows])
    for axes, mode in zip(panels, modes, strict=True):
        for part, (colour, marker) in styles.items():
            own = [row for row in rows if (row.axis, row.part) == (mode, part)]
            values, low, high = numbers_of(own, read, "band_low", "band_high")
            at = np.arange(len(own)) if mode == "aspect" else [float(row.point) for row in own]
            axes.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
            axes.plot(at, values, marker=marker, color=colour, label=part)
        axes.set_title(mode, fontsize=10)
        if mode == "aspect":
            axes.set_xticks(at, [row.point for row in own])
        else:
            _ratios(axes, [row.point for row in own])
    panels[0].set_ylabel(label(rows[0].metric, read))
    legend(figure, panels)
    return figure


def _apart(ratios: Sequence[float]) -> list[float]:
    """Those that can be labelled beside each other, the training size among them."""
    kept = [1.0]
    for ratio in sorted(ratios, key=lambda ratio: abs(np.log2(ratio))):
        if min(abs(np.log2(ratio / other)) for other in kept) > OCTAVES:
            kept.append(ratio)
    return kept


def _ratios(axes: Axes, points: Sequence[str]) -> None:
    axes.set_xscale("log", base=2)
    axes.axvline(1, color="#999999", lw=1, zorder=0)
    axes.xaxis.set_major_locator(FixedLocator(_apart([float(point) for point in points])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("test size / training size")
