"""Plots over test sizes, each in a way of its own: resized, more context, cropped and so on."""

import math
from collections.abc import Sequence
from dataclasses import replace

import plotly.graph_objects as go

from mmplugins.evaluation.results.rows import Row
from mmplugins.report.cards import BY_SIZES, Card, between
from mmplugins.report.drawing import (
    GREY,
    Choice,
    Look,
    Panel,
    Plot,
    area,
    axis,
    bars_of,
    figure,
    looks,
    mark,
    scaled,
)
from mmplugins.report.runs import SIZES, key

WAYS = {
    "resize": "resize: objects and grid change",
    "extent": "extent: same objects, larger grid",
    "crop": "crop: less context",
    "slide": "slide: windows of the training size",
    "aspect": "aspect: as many patches, other shape",
}
SHAPES = ("portrait", "square", "landscape")
TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4)


def by_size(card: Card) -> Plot:
    """Metrics against the test size."""
    found = {row.metric for _, row in _rows(card) if not row.metric.endswith(" delta")}
    first = [card.accuracy, f"{card.accuracy} relative"]
    order = sorted(found, key=lambda metric: (metric not in first, metric))
    return Plot(
        "sizes",
        "What another test size costs",
        "1, dotted, is the training size: a line that stays up on either side transfers; resizing "
        "changes objects and the grid of patches at once, the other panels tell them apart. "
        "Shaded: 95 % bands.",
        f"{BY_SIZES} --mode resize,extent",
        [Choice(metric, panels) for metric in order if (panels := _panels(card, metric, _lines))],
    )


def did(card: Card) -> Plot:
    """Differences in differences against the test size."""
    metric = f"{card.accuracy} delta"
    panels = _panels(card, metric, _differences) if card.baseline else []
    base = looks(card)[card.baseline.name].label if card.baseline else "the baseline"
    return Plot(
        "did",
        "What the encoding does to transfer: difference in differences",
        f"Change of {card.accuracy} from the training size less that of {base}, which cancels what "
        "size does to any model: a bar that stays above 0 means the encoding helps there, below 0 "
        "that it hurts. Bars: 95 % bands, for all sizes of a mode at once, but each model alone.",
        f"{BY_SIZES} --mode resize,extent --against, with the results of the baseline",
        [Choice(metric, panels)] if panels else [],
    )


def _rows(card: Card) -> list[tuple[str, Row]]:
    """Of the models' task over sizes, with the model's name."""
    return [
        (model.name, row)
        for model in card.models
        if SIZES in model.results
        for row in model.results[SIZES].rows
        if row.axis in WAYS and row.part == card.part and not math.isnan(row.value)
    ]


def _panels(card: Card, metric: str, draw) -> list[Panel]:
    rows = [(name, row) for name, row in _rows(card) if row.metric == metric]
    panels = []
    for way, title in WAYS.items():
        of = {model.name: [] for model in card.models}
        for name, row in rows:
            if row.axis == way:
                of[name].append(row)
        drawn = figure("", axis(metric))
        draw(drawn, card, of, metric)
        if drawn.data:
            _sizes(drawn, [row for own in of.values() for row in _with_training_size(own)])
            panels.append(Panel(drawn, title))
    return panels


def _lines(drawn: go.Figure, card: Card, of: dict[str, list[Row]], metric: str) -> None:
    for number, (name, rows) in enumerate(of.items()):
        if not rows:
            continue
        rows = _with_training_size(rows)
        look = looks(card)[name]
        x = _x(rows, number, len(of)) if _is_shape(rows) else _x(rows, 0, 1)
        line = _line(x, scaled(rows, metric), look)
        if _is_shape(rows):
            line.update(error_y=bars_of(rows, metric))
        else:
            low, high = (_bounds(rows, metric, way) for way in ("low", "high"))
            drawn.add_trace(area(x, low, high, look))
        drawn.add_trace(line)


def _differences(drawn: go.Figure, card: Card, of: dict[str, list[Row]], metric: str) -> None:
    for number, model in enumerate(card.others):
        found = [between(model, card.baseline, key(row)) for row in of[model.name]]
        if rows := [each.row for each in found if each]:
            rows = _with_training_size(rows)
            x = _x(rows, number, len(card.others))
            line = _line(x, scaled(rows, metric), looks(card)[model.name])
            drawn.add_trace(line.update(error_y=bars_of([_banded(row) for row in rows], metric)))
    if drawn.data:
        drawn.add_hline(0, line=dict(color=GREY, width=1.5))
        drawn.update_yaxes(title=axis(metric).replace("delta", "DiD"))


def _banded(row: Row) -> Row:
    """With its band for an interval, where it has one."""
    if math.isnan(row.band_low):
        return row
    return replace(row, low=row.band_low, high=row.band_high)


def _with_training_size(rows: Sequence[Row]) -> list[Row]:
    """Changes and shares have no row where they are 0 and 1 by definition, but a curve does."""
    if not rows:
        return []
    home = {"aspect": "square", "slide": None}.get(rows[0].axis, "1")
    known = {"delta": 0.0, "relative": 1.0}.get(rows[0].metric.rpartition(" ")[2])
    if home and known is not None and all(row.point != home for row in rows):
        exact = dict.fromkeys(("value", "low", "high", "band_low", "band_high"), known)
        rows = [*rows, replace(rows[0], point=home, **exact)]
    return sorted(rows, key=lambda row: _x([row], 0, 1))


def _line(x: Sequence[float], y: Sequence[float], look: Look) -> go.Scatter:
    return go.Scatter(
        **dict(x=x, y=y, mode="lines+markers", line=look.line, marker=look.points),
        **dict(name=look.text, legendgroup=look.text, hovertemplate="%{y:.3g}"),
    )


def _bounds(rows: Sequence[Row], metric: str, way: str) -> list[float]:
    """Of the band, or of the interval of a point that is alone."""
    bands, own = (scaled(rows, metric, name) for name in (f"band_{way}", way))
    return [alone if math.isnan(band) else band for band, alone in zip(bands, own, strict=True)]


def _is_shape(rows: Sequence[Row]) -> bool:
    return rows[0].axis == "aspect"


def _x(rows: Sequence[Row], number: int, count: int) -> list[float]:
    """Places on the axis: the `number`-th of `count` models stands a little beside the others."""
    aside = number - (count - 1) / 2
    if _is_shape(rows):
        return [SHAPES.index(row.point) + 0.06 * aside for row in rows]
    return [float(row.point) * 1.012**aside for row in rows]


def _sizes(drawn: go.Figure, rows: Sequence[Row]) -> None:
    """Ratios to the training size on a logarithmic axis; shapes as they are."""
    if _is_shape(rows):
        ticks = dict(tickvals=[*range(len(SHAPES))], ticktext=SHAPES)
        drawn.update_xaxes(title="shape of the picture", **ticks)
        return
    numbers = [float(row.point) for row in rows]
    ticks = [tick for tick in TICKS if min(numbers) <= tick <= max(numbers)]
    drawn.update_xaxes(
        **dict(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]),
        title="test size / training size",
    )
    mark(drawn, 1)
