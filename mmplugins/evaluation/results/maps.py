"""Maps of results: a metric over the directions of shifts, and values over the places of a picture.

Colours are viridis, even to the eye and to colour-blind people; what was not measured is grey.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmplugins.evaluation.results.figures import frame, label, reading_of
from mmplugins.evaluation.results.readings import Reading
from mmplugins.evaluation.results.rows import REFERENCE, Row

COLOURS = colormaps["viridis"].with_extremes(bad="#e6e6e6")


def shift_map(rows: Sequence[Row], title: str) -> Figure:
    """A metric over directions: a cell for each (dy, dx) that was measured, a panel for each set.

    Args:
        rows: of one metric of one part, over shifts.
        title: of whose they are.

    Raises:
        ValueError: rows of several metrics or parts, or not over shifts.
    """
    read = reading_of(rows, "shift")
    if len({row.part for row in rows}) > 1:
        raise ValueError("a map over directions is of one part")
    sets = list(dict.fromkeys(name for row in rows for name in row.sets))
    note = f"of {rows[0].part}; grey: not measured"
    widths = [1] * len(sets)
    figure, panels = frame(title, rows[0].metric, read, widths, note=note, share=False)
    values = np.array([row.value for row in rows]) * read.scale
    finite = values[np.isfinite(values)]
    limits = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    for axes, name in zip(panels, sets, strict=True):
        own = [row for row in rows if name in row.sets or row.point == REFERENCE]
        shown = _cells(axes, own, read, limits)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("dx: pixels to the right")
    panels[0].set_ylabel("dy: pixels down")
    figure.colorbar(shown, ax=panels, label=label(rows[0].metric, read), shrink=0.8)
    return figure


def place_map(values: Float[np.ndarray, "h w"], title: str, metric: str, read: Reading) -> Figure:
    """Values over the places of a picture, e.g. how often a pixel changes its class.

    Args:
        values: NaN where nothing was measured.
        title: of whose they are.
        metric: what they are.
        read: how.
    """
    figure, (axes,) = frame(title, metric, read, [1], note="grey: not measured")
    shown = axes.imshow(values * read.scale, cmap=COLOURS, interpolation="nearest")
    axes.set(xlabel="left to right", ylabel="top to bottom", xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes, label=label(metric, read))
    return figure


def _cells(axes: Axes, rows: Sequence[Row], read: Reading, limits: tuple[float, float]):
    """Cells in the order of dy and dx, which are not evenly spaced, with their values."""
    ys, xs = (sorted({0.0, *parts}) for parts in zip(*((r.dy, r.dx) for r in rows), strict=True))
    cells = np.full((len(ys), len(xs)), np.nan)
    texts = {(row.dy, row.dx): read.text(row.value, digits=2) for row in rows}
    fontsize = 7 if max(map(len, texts.values())) < 6 else 5
    for row in rows:
        y, x = ys.index(row.dy), xs.index(row.dx)
        cells[y, x] = row.value * read.scale
        colour = "white" if cells[y, x] <= np.mean(limits) else "black"
        style = dict(ha="center", va="center", fontsize=fontsize, color=colour)
        axes.text(x, y, texts[row.dy, row.dx], **style)
    axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs], fontsize=8, rotation=90)
    axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys], fontsize=8)
    return axes.imshow(cells, cmap=COLOURS, vmin=limits[0], vmax=limits[1])
