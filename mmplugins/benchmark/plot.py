"""What layers cost as one picture: ratios to plain attention, by shape."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mmplugins.benchmark.cases import PLAIN, STRAIGHTFORWARD
from mmplugins.benchmark.layers import STEPS
from mmplugins.disk import write

MARKERS = "osD^vP"  # one for each kernel
ROOM = 0.7  # of the way to the next shape, for marks of one shape side by side


class Look(NamedTuple):
    """Of one row: hollow without a marker of its own, `shift` to the right."""

    colour: tuple[float, float, float]
    marker: str | None
    shift: float


def draw(rows: Sequence[dict]) -> Figure:
    """Time and memory against shapes by their tokens, a colour for each encoding.

    Marks are ours, whiskers from the lower to the upper quartile; hollow marks on dotted lines are
    the straightforward form of the same colour.
    """
    names = list(dict.fromkeys(row["shape"] for row in sorted(rows, key=_size)))
    others = [row for row in rows if row["encoding"] != PLAIN.encoding]
    looks = _looks(others)
    figure = Figure(figsize=(4 + 2 * len(names), 9), dpi=130, layout="constrained")
    figure.suptitle("Ratios to attention without encoding", x=0.02, ha="left")
    panels = figure.subplots(len(STEPS), 2, sharex=True, squeeze=False)
    for step, pair in zip(STEPS, panels, strict=True):
        for axes, what in zip(pair, ("time", "memory"), strict=True):
            _frame(axes, names, f"{step}: {what}")
            for (encoding, form), look in looks.items():
                wanted = encoding, form, step
                found = [r for r in others if (r["encoding"], r["form"], r["step"]) == wanted]
                _line(axes, names, found, what, look)
    figure.legend(handles=_legend(looks), loc="outside right upper", frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """As PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write(path, content.getvalue())


def _size(row: dict) -> tuple[int, str]:
    return row["tokens"], row["shape"]


def _looks(rows: Sequence[dict]) -> dict[tuple[str, str], Look]:
    """By encoding and form."""
    encodings = list(dict.fromkeys(row["encoding"] for row in rows))
    forms = [form for form in dict.fromkeys(r["form"] for r in rows) if form != STRAIGHTFORWARD]
    table = colormaps["tab10" if len(encodings) <= 10 else "tab20"].colors
    return {
        (encoding, form): Look(
            colour=table[i % len(table)],
            marker=None if form == STRAIGHTFORWARD else MARKERS[forms.index(form) % len(MARKERS)],
            shift=ROOM * ((i + 0.5) / len(encodings) - 0.5),
        )
        for i, encoding in enumerate(encodings)
        for form in dict.fromkeys(row["form"] for row in rows if row["encoding"] == encoding)
    }


def _legend(looks: dict[tuple[str, str], Look]) -> list[Line2D]:
    """Colours of encodings, then marks of forms."""
    colours = {encoding: look.colour for (encoding, _), look in looks.items()}
    markers = {form: look.marker for (_, form), look in looks.items()}
    return [Line2D([], [], color=c, label=name, linewidth=4) for name, c in colours.items()] + [
        Line2D([], [], color="0.3", label=form, **_style(marker, "0.3"))
        for form, marker in markers.items()
    ]


def _style(marker: str | None, colour: object) -> dict:
    solid = marker is not None
    return dict(
        marker=marker or "o",
        markerfacecolor=colour if solid else "white",
        linestyle="-" if solid else ":",
        linewidth=1,
        markersize=6,
    )


def _frame(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="0.9")
    axes.axhline(1, color="0.3", linewidth=1)
    axes.set_xticks(range(len(names)), names, rotation=20)
    axes.set_xlim(-0.5, len(names) - 0.5)
    for x in range(1, len(names)):
        axes.axvline(x - 0.5, color="0.93", linewidth=1, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: Axes, names: Sequence[str], rows: Sequence[dict], what: str, look: Look) -> None:
    """One row at all shapes where it was measured."""
    points = {names.index(row["shape"]): row[f"{what}_of_plain"] for row in rows}
    points = {x + look.shift: value for x, value in sorted(points.items()) if value is not None}
    if not points:
        return
    heights, whiskers = list(points.values()), None
    if what == "time":
        ends = [(p["median"] - p["low"], p["high"] - p["median"]) for p in heights]
        heights, whiskers = [p["median"] for p in heights], list(zip(*ends, strict=True))
    style = _style(look.marker, look.colour)
    axes.errorbar(list(points), heights, yerr=whiskers, color=look.colour, alpha=0.9, **style)
