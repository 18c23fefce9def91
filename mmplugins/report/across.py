"""Plots across models: by block, accuracy beside consistency, who differs from whom, training."""

from collections.abc import Sequence

import plotly.graph_objects as go

from mmplugins.evaluation.results.comparison import Difference
from mmplugins.evaluation.results.figures import SERIES
from mmplugins.evaluation.results.rows import Row
from mmplugins.report.cards import BY_SHIFTS, Card, Column, certain
from mmplugins.report.drawing import (
    GREY,
    Choice,
    Panel,
    Plot,
    axis,
    bars_of,
    cells,
    figure,
    looks,
    plain,
    scaled,
)
from mmplugins.report.names import signed, span
from mmplugins.report.over_shifts import SETS
from mmplugins.report.verdict import p_text

CORNERS = ("top right", "bottom left", "top left", "bottom right")  # of names beside marks
CERTAINTY = ((0.01, "p < 0.01"), (0.05, "p < 0.05"))  # and all else
COLOURS = (
    "rgb(125,124,120)",
    "rgb(188,174,108)",
    "rgb(254,232,56)",
)  # the bright half of cividis, from a grey


def blocks(card: Card) -> Plot:
    """Equivariance block by block."""
    choices = []
    for metric, way in (("dFEE", "block"), ("FEE", "set"), ("FES", "set")):
        panels = [
            Panel(drawn, "" if first == "blocks" else first)
            for first in SERIES
            if (drawn := _bars(card, metric, way, first))
        ]
        if panels:
            choices.append(Choice(metric, panels))
    return Plot(
        "blocks",
        "Where in the network equivariance is lost",
        "Shifts by whole patches: a tall bar of dFEE is a block that adds error to its features, "
        "FEE is the error after it (0 is exact), FES the skill that is left (1 is exact). Thin "
        "lines: 95 % intervals.",
        f"{BY_SHIFTS} --levels feat",
        choices,
    )


def pareto(card: Card) -> Plot:
    """Accuracy beside consistency."""
    choices = [
        Choice(f"{card.consistency}, {text}", [Panel(drawn)])
        for name, text in SETS.items()
        if (drawn := _pareto(card, (card.consistency, card.part, "set", name)))
    ]
    return Plot(
        "pareto",
        "Accuracy beside consistency",
        "Up and to the right is better in both; the line joins models that no other beats in both, "
        "by their values alone: where bars overlap, the order may be chance.",
        f"{BY_SHIFTS} --levels pred,task",
        choices,
    )


def significance(card: Card) -> Plot:
    """Who differs from whom."""
    choices = [
        Choice(column.title, [Panel(drawn)])
        for column in card.columns
        if (drawn := _matrix(card, column))
    ]
    return Plot(
        "significance",
        "Who differs from whom",
        "Row less column; the brighter a cell, the less chance alone would make such a difference "
        "(p adjusted for all pairs, Holm); empty: not compared, or a model with itself.",
        "tools/compare.py, with the results of all models",
        choices,
    )


def training(card: Card) -> Plot:
    """Loss and scores while training."""
    runs = [
        (model.name, run) for model in card.models for run in model.origin("training") or () if run
    ]
    curves: dict[str, list] = {}
    for name, run in runs:
        if run.get("loss"):
            curves.setdefault("loss", []).append((name, run["loss"]))
        for metric in dict.fromkeys(m for _, found in run.get("scores") or () for m in found):
            points = [(at, found[metric]) for at, found in run["scores"] if metric in found]
            curves.setdefault(metric, []).append((name, points))
    choices = []
    for metric, lines in curves.items():
        drawn, seen = figure("iteration", plain(metric)), set()
        for name, points in lines:
            look = looks(card)[name]
            x, y = zip(*points, strict=True)
            drawn.add_scatter(
                **dict(x=x, y=y, mode="lines", line=look.line, name=look.text),
                **dict(legendgroup=look.text, showlegend=name not in seen),
            )
            seen.add(name)
        choices.append(Choice(metric, [Panel(drawn)]))
    return Plot(
        "training",
        "How they were trained",
        "Curves that still fall at their end are of models that were not trained to the end; one "
        "line for each training run.",
        "training logs beside the checkpoints, when tools/equivariance.py or tools/resolution.py "
        "measures",
        choices,
    )


def _bars(card: Card, metric: str, way: str, first: str) -> go.Figure | None:
    drawn = figure(f"{first}, in order", axis(metric), barmode="group", bargap=0.25)
    for model in card.models:
        rows = [row for row in model.rows if (row.metric, row.axis) == (metric, way)]
        rows = [row for row in rows if way == "block" or row.point == "pgrid"]
        at = {_name(row): row for row in rows if _name(row).startswith(f"{first}.")}
        look = looks(card)[model.name]
        if at:
            drawn.add_bar(
                **dict(x=[name.partition(".")[2] for name in at], name=look.text),
                **dict(y=scaled([*at.values()], metric), error_y=bars_of([*at.values()], metric)),
                marker=dict(
                    color=look.colour,
                    line=dict(width=0),
                    pattern=dict(shape=look.hatch, size=5, solidity=0.2, fillmode="overlay"),
                ),
                hovertemplate="%{x}: %{y:.3g}",
            )
    drawn.update_xaxes(type="category")
    return drawn if drawn.data else None


def _name(row: Row) -> str:
    return row.point if row.axis == "block" else row.part


def _pareto(card: Card, key: tuple) -> go.Figure | None:
    place = card.columns[0]
    pairs = [(model, model.find(place.key), model.find(key)) for model in card.models]
    pairs = [(model, x, y) for model, x, y in pairs if x and y]
    if not pairs:
        return None
    drawn = figure(axis(place.metric), axis(key[0]))
    front = _front([(x.value, y.value) for _, x, y in pairs])
    x, y = zip(*front, strict=True)
    line, scales = dict(color=GREY, width=1.5, dash="dot"), (place.read.scale, _scale(key[0]))
    drawn.add_scatter(
        **dict(x=[v * scales[0] for v in x], y=[v * scales[1] for v in y], mode="lines", line=line),
        **dict(name="no other is better in both", hoverinfo="skip"),
    )
    for number, (model, at, over) in enumerate(pairs):
        look = looks(card)[model.name]
        best = (at.value, over.value) in front
        drawn.add_scatter(
            **dict(x=scaled([at], place.metric), y=scaled([over], key[0])),
            **dict(error_x=bars_of([at], place.metric), error_y=bars_of([over], key[0])),
            **dict(
                mode="markers+text" if best else "markers",
                name=look.text,
                textposition=CORNERS[number % len(CORNERS)],
            ),
            text=[look.text],
            marker={**look.points, "size": 12},
            hovertemplate="%{x:.3g}, %{y:.3g}",
        )
    return drawn


def _scale(metric: str) -> float:
    return 100.0 if "%" in axis(metric) else 1.0


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in both, more being better."""
    return sorted(
        {
            (x, y)
            for x, y in points
            if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)
        }
    )


def _matrix(card: Card, column: Column) -> go.Figure | None:
    labels = [looks(card)[model.name].text for model in card.models]
    pairs = card.pairs(column.key)
    found = [[pairs.get((a.name, b.name)) for b in card.models] for a in card.models]
    if not any(each for line in found for each in line):
        return None
    texts = [[each and signed(column.read, each.row.value) for each in line] for line in found]
    says = [
        [
            each and _told(name, other, column, each)
            for other, each in zip(labels, line, strict=True)
        ]
        for name, line in zip(labels, found, strict=True)
    ]
    drawn = figure("less", "", height=150 + 48 * len(labels))
    cells(
        *(drawn, labels, labels),
        [[each and _certainty(each) for each in line] for line in found],
        *(texts, says),
        **dict(low=-0.5, high=2.5, colours=COLOURS),
        colorbar=dict(
            **dict(orientation="h", y=1.02, yanchor="bottom", x=0, xanchor="left", thickness=10),
            **dict(
                tickvals=[0, 1, 2], ticktext=["uncertain", *(text for _, text in CERTAINTY[::-1])]
            ),
            **dict(len=1, lenmode="fraction"),
        ),
    )
    return drawn


def _told(name: str, other: str, column: Column, less: Difference) -> str:
    numbers = f"{signed(column.read, less.row.value)} {span(column.read, less.row, 2)}"
    return f"{name} less {other}: {numbers}, {p_text(less.p_holm)}"


def _certainty(difference: Difference) -> int:
    if not certain(difference):
        return 0
    return sum(difference.p_holm < bound for bound, _ in CERTAINTY)
