"""Plots over test sizes, each in a way of its own: resized, more context, cropped and so on."""

import math
from collections.abc import Sequence

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
    "resize": "resize: objects and grid change together",
    "extent": "extent: objects as large as ever, the grid grows",
    "crop": "crop: less context",
    "slide": "slide: the training size, window by window",
    "aspect": "aspect: as many patches, another shape",
}
TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4)


def by_size(card: Card) -> Plot:
    """Metrics against the test size."""
    found = {row.metric for _, row in _rows(card) if not row.metric.endswith(" delta")}
    first = [card.accuracy, f"{card.accuracy} relative"]
    order = sorted(found, key=lambda metric: (metric not in first, metric))
    return Plot(
        "sizes",
        "What another test size costs",
        "1 is the training size: a line that stays up on either side transfers; resizing changes "
        "objects and the grid of patches at once, the other panels tell them apart. Shaded: 95 % "
        "bands.",
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
        "that it hurts. Bars: 95 % intervals.",
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
            _sizes(drawn, [row.point for own in of.values() for row in own])
            panels.append(Panel(drawn, title))
    return panels


def _lines(drawn: go.Figure, card: Card, of: dict[str, list[Row]], metric: str) -> None:
    for name, rows in of.items():
        if rows:
            look, x = looks(card)[name], _x(rows)
            low, high = ([_bound(row, way) for row in rows] for way in ("low", "high"))
            scale = scaled(rows, metric)
            if _is_number(rows):
                factor = 100 if "%" in axis(metric) else 1
                drawn.add_trace(
                    area(x, [v * factor for v in low], [v * factor for v in high], look)
                )
            drawn.add_trace(_line(x, scale, look))


def _differences(drawn: go.Figure, card: Card, of: dict[str, list[Row]], metric: str) -> None:
    for number, model in enumerate(card.others):
        found = [between(model, card.baseline, key(row)) for row in of[model.name]]
        rows = [each.row for each in found if each]
        if rows:
            x, beside = _x(rows), 1 + 0.012 * (number - (len(card.others) - 1) / 2)
            x = [value * beside for value in x] if _is_number(rows) else x
            line = _line(x, scaled(rows, metric), looks(card)[model.name])
            drawn.add_trace(line.update(error_y=bars_of(rows, metric)))
    if drawn.data:
        drawn.add_hline(0, line=dict(color=GREY, width=1.5))


def _line(x: Sequence, y: Sequence[float], look: Look) -> go.Scatter:
    return go.Scatter(
        **dict(x=x, y=y, mode="lines+markers", line=look.line, marker=look.points),
        **dict(name=look.text, legendgroup=look.text, hovertemplate="%{x:.3g}: %{y:.3g}"),
    )


def _bound(row: Row, way: str) -> float:
    """Of the band, or of the interval where a point is alone."""
    band = getattr(row, f"band_{way}")
    return getattr(row, way) if math.isnan(band) else band


def _is_number(rows: Sequence[Row]) -> bool:
    return all(row.point.replace(".", "", 1).isdecimal() for row in rows)


def _x(rows: Sequence[Row]) -> list:
    return [float(row.point) if _is_number(rows) else row.point for row in rows]


def _sizes(drawn: go.Figure, points: Sequence[str]) -> None:
    """Ratios to the training size on a logarithmic axis; shapes as they are."""
    numbers = [float(point) for point in points if point.replace(".", "", 1).isdecimal()]
    if len(numbers) < len(points):
        drawn.update_xaxes(title="shape of the picture")
        return
    ticks = [tick for tick in TICKS if min(numbers) <= tick <= max(numbers)]
    drawn.update_xaxes(
        **dict(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]),
        title="test size, times the training size (dotted: 1)",
    )
    mark(drawn, 1)
