"""What layers cost as one picture: ratios to plain attention, by shape."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mmplugins.benchmark.cases import PLAIN, STRAIGHTFORWARD
from mmplugins.benchmark.layers import STEPS
from mmplugins.disk import write

MARKERS = "osD^vP"  # one for each kernel


def draw(rows: Sequence[dict]) -> Figure:
    """Time and memory against shapes by their tokens, a colour for each encoding.

    Lines are ours, whiskers from the lower to the upper quartile; hollow marks on dotted lines are
    the straightforward form of the same colour.
    """
    names = list(dict.fromkeys(row["shape"] for row in sorted(rows, key=_size)))
    others = [row for row in rows if row["encoding"] != PLAIN.encoding]
    encodings = list(dict.fromkeys(row["encoding"] for row in others))
    colours = dict(zip(encodings, _colours(len(encodings)), strict=True))
    forms = [form for form in dict.fromkeys(r["form"] for r in others) if form != STRAIGHTFORWARD]
    markers = {form: MARKERS[i % len(MARKERS)] for i, form in enumerate(forms)}

    figure = Figure(figsize=(4 + 1.5 * len(names), 8), dpi=130, layout="constrained")
    figure.suptitle("Ratios to attention without encoding", x=0.02, ha="left")
    panels = figure.subplots(len(STEPS), 2, sharex=True, squeeze=False)
    for step, pair in zip(STEPS, panels, strict=True):
        for axes, what in zip(pair, ("time", "memory"), strict=True):
            _frame(axes, names, f"{step}: {what}")
            for encoding in encodings:
                for form in [*forms, STRAIGHTFORWARD]:
                    found = [
                        row
                        for row in others
                        if (row["encoding"], row["form"], row["step"]) == (encoding, form, step)
                    ]
                    _line(axes, names, found, what, colours[encoding], markers.get(form))
    figure.legend(
        handles=[Line2D([], [], color=colours[e], label=e, linewidth=3) for e in encodings]
        + [Line2D([], [], color="0.3", marker=markers[f], label=f) for f in forms]
        + [Line2D([], [], color="0.3", ls=":", marker="o", mfc="w", label=STRAIGHTFORWARD)],
        loc="outside right upper",
        frameon=False,
    )
    return figure


def save(figure: Figure, path: Path) -> None:
    """As PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write(path, content.getvalue())


def _size(row: dict) -> tuple[int, str]:
    return row["tokens"], row["shape"]


def _colours(count: int) -> list:
    table = colormaps["tab10" if count <= 10 else "tab20"].colors
    return [table[i % len(table)] for i in range(count)]


def _frame(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="0.9")
    axes.axhline(1, color="0.3", linewidth=1)
    axes.set_xticks(range(len(names)), names, rotation=20)
    axes.set_xlim(-0.4, len(names) - 0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _line(
    axes: Axes, names: Sequence[str], rows: Sequence[dict], what: str, colour, marker: str | None
) -> None:
    """Of one encoding in one form; a straightforward one has no marker of its own."""
    points = {names.index(row["shape"]): row[f"{what}_of_plain"] for row in rows}
    points = {x: value for x, value in sorted(points.items()) if value is not None}
    if not points:
        return
    solid = marker is not None
    if what == "time":
        heights = [point["median"] for point in points.values()]
        whiskers = [[p["median"] - p["low"], p["high"] - p["median"]] for p in points.values()]
    else:
        heights, whiskers = list(points.values()), [[0, 0]] * len(points)
    axes.errorbar(
        list(points),
        heights,
        yerr=list(zip(*whiskers, strict=True)) if what == "time" else None,
        color=colour,
        marker=marker or "o",
        markerfacecolor=colour if solid else "white",
        linestyle="-" if solid else ":",
        linewidth=1.5,
        markersize=5,
    )
