"""Plots over shifts of the picture, and over places in it."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import plotly.graph_objects as go

from mmplugins.evaluation.results.readings import reading
from mmplugins.evaluation.results.rows import REFERENCE, Row
from mmplugins.report.cards import BY_SHIFTS, Card
from mmplugins.report.drawing import (
    CIVIDIS,
    Choice,
    Look,
    Panel,
    Plot,
    area,
    axis,
    bars_of,
    cells,
    figure,
    looks,
    mark,
    scaled,
)
from mmplugins.report.names import span
from mmplugins.report.runs import SHIFTS, Model

SETS = {"pgrid": "whole patches", "sub": "parts of a patch", "frac": "parts of a pixel"}


def by_distance(card: Card) -> Plot:
    """Metrics against the size of the shift."""
    metrics = (card.consistency, card.accuracy, f"{card.accuracy} delta")
    return Plot(
        "distance",
        "What a shift costs, by its size",
        "A flat line is a model that does not care where things are; dips between the dotted lines "
        "(multiples of the patch) are aliasing, a fall from line to line is position. Shaded: 95 % "
        "bands, for all shifts at once.",
        f"{BY_SHIFTS} --levels pred,task",
        [
            Choice(metric, [Panel(drawn)])
            for metric in metrics
            if (drawn := _distances(card, metric))
        ],
    )


def directions(card: Card) -> Plot:
    """A cell for each shift, a panel for each model."""
    sets = {name for model in card.models for row in model.rows for name in row.sets}
    choices = []
    for metric in (card.consistency, f"{card.accuracy} delta"):
        for name in sorted(sets):
            of = {
                model.name: [row for row in _shifts(model, metric, card.part) if name in row.sets]
                for model in card.models
            }
            if any(of.values()):
                panels = _maps(of, metric, looks(card))
                choices.append(Choice(f"{metric}, {SETS.get(name, name)}", panels))
    return Plot(
        "directions",
        "Which way a shift hurts",
        "Each cell is one shift, to the right and down from the middle: a dark side or corner is a "
        "direction the model knows apart; brighter is higher, on one scale for all models.",
        f"{BY_SHIFTS} --levels pred,task",
        choices,
    )


def places(card: Card) -> Plot:
    """Metrics against the place, border to centre."""
    metrics = (f"zone {card.accuracy}", f"placed zone {card.accuracy}", "zone effect")
    return Plot(
        "places",
        "How well objects fare, border to centre",
        "Left is the border of the picture, right its centre; zones hold different content unless "
        "it was placed there, so compare models in a zone rather than zones. Bars: 95 % intervals.",
        f"{BY_SHIFTS} --levels task",
        [Choice(metric, [Panel(drawn)]) for metric in metrics if (drawn := _zones(card, metric))],
    )


def _shifts(model: Model, metric: str, part: str) -> list[Row]:
    return [
        row
        for row in model.rows
        if (row.metric, row.part, row.axis) == (metric, part, "shift") and not math.isnan(row.value)
    ]


def _distances(card: Card, metric: str) -> go.Figure | None:
    drawn, sizes = figure("", axis(metric)), set()
    for model in card.models:
        rows, look = _shifts(model, metric, card.part), looks(card)[model.name]
        new = True
        for name in dict.fromkeys(name for row in rows for name in row.sets):
            own = [row for row in rows if name in row.sets]
            sizes |= {_size(row) for row in own}
            drawn.add_traces(_curve(own, metric, look, legend=new))
            new = False
    if not sizes:
        return None
    rest = min(sizes) / 2  # where a logarithmic axis shows no shift at all
    unmoved = [model.find((metric, card.part, "shift", REFERENCE)) for model in card.models]
    for model, row in zip(card.models, unmoved, strict=True):
        if row:
            look = looks(card)[model.name]
            y, marker = scaled([row], metric), {**look.points, "size": 10}
            drawn.add_scatter(
                **dict(x=[rest], y=y, mode="markers", marker=marker, name=look.text),
                **dict(showlegend=False, legendgroup=look.text),
            )
    period = next(m.results[SHIFTS].protocol["period"] for m in card.models if SHIFTS in m.results)
    for multiple in range(1, math.ceil(max(sizes) / period) + 1):
        mark(drawn, multiple * period)
    octaves = range(math.ceil(math.log2(min(sizes))), math.floor(math.log2(max(sizes))) + 1)
    ticks = [2.0**octave for octave in octaves]
    drawn.update_xaxes(
        type="log",
        title="size of the shift, pixels",
        tickvals=[rest] * any(unmoved) + ticks,
        ticktext=["none"] * any(unmoved) + [f"{tick:g}" for tick in ticks],
    )
    return drawn


def _curve(rows: Sequence[Row], metric: str, look: Look, *, legend: bool) -> list[go.Scatter]:
    """Mean over the shifts of one size, and all that their bands hold."""
    at = defaultdict(list)
    for row in rows:
        at[_size(row)].append(row)
    x = sorted(at)
    means, low, high = (
        [reduce(scaled(at[size], metric, field)) for size in x]
        for reduce, field in ((fmean, "value"), (min, "band_low"), (max, "band_high"))
    )
    line = go.Scatter(
        **dict(x=x, y=means, mode="lines+markers", line=look.line, marker=look.points),
        **dict(name=look.text, legendgroup=look.text, showlegend=legend),
        hovertemplate="%{x} px: %{y:.3g}",
    )
    return [area(x, low, high, look), line]


def _size(row: Row) -> float:
    return max(abs(row.dy), abs(row.dx))


def _maps(of: dict[str, list[Row]], metric: str, look: dict[str, Look]) -> list[Panel]:
    read, rows = reading(metric), [row for own in of.values() for row in own]
    values = scaled(rows, metric)
    ys, xs = (sorted({0.0, *parts}) for parts in zip(*((r.dy, r.dx) for r in rows), strict=True))
    panels = []
    for name, own in of.items():
        if not own:
            continue
        at = {(row.dy, row.dx): row for row in own}
        table = [[at.get((y, x)) for x in xs] for y in ys]
        drawn = figure("dx: pixels to the right", "dy: pixels down", height=310)
        cells(
            drawn,
            [f"{x:g}" for x in xs],
            [f"{y:g}" for y in ys],
            [[row and row.value * read.scale for row in line] for line in table],
            [[row and read.text(row.value, digits=2) for row in line] for line in table],
            [[row and _told(row) for row in line] for line in table],
            **dict(low=min(values), high=max(values), colours=CIVIDIS, showscale=False),
        )
        panels.append(Panel(drawn, look[name].label))
    return panels


def _told(row: Row) -> str:
    read = reading(row.metric)
    return f"{row.dy:g} down, {row.dx:g} to the right: {read.text(row.value)} {span(read, row)}"


def _zones(card: Card, metric: str) -> go.Figure | None:
    drawn, zones = figure("zone, border to centre", axis(metric)), []
    for number, model in enumerate(card.models):
        rows = [
            row
            for row in model.rows
            if (row.metric, row.part, row.axis) == (metric, card.part, "zone")
        ]
        zones = zones or [row.point for row in rows]
        look, beside = looks(card)[model.name], (number - (len(card.models) - 1) / 2) * 0.09
        if rows:
            drawn.add_scatter(
                **dict(x=[zones.index(row.point) + beside for row in rows], name=look.text),
                **dict(y=scaled(rows, metric), error_y=bars_of(rows, metric)),
                **dict(mode="lines+markers", line=look.line, marker=look.points),
                hovertemplate="%{y:.3g}",
            )
    if not zones:
        return None
    texts = [*zones]
    texts[0], texts[-1] = "border", "centre"
    drawn.update_xaxes(tickvals=list(range(len(zones))), ticktext=texts)
    return drawn
