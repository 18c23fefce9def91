"""Plots across models: by block, accuracy beside consistency, who differs from whom, training."""

from collections.abc import Sequence

import plotly.graph_objects as go

from mmplugins.evaluation.results.figures import SERIES
from mmplugins.evaluation.results.rows import Row
from mmplugins.report.cards import BY_SHIFTS, Card, Column, between
from mmplugins.report.drawing import (
    GREY,
    Choice,
    Panel,
    Plot,
    axis,
    bars_of,
    figure,
    looks,
    plain,
    scaled,
)
from mmplugins.report.names import signed
from mmplugins.report.over_shifts import SETS
from mmplugins.report.verdict import p_text

CERTAINTY = ((0.01, "p < 0.01"), (0.05, "p < 0.05"))  # and all else
COLOURS = ("#00224e", "#7d7c78", "#fee838")  # cividis: start, middle and end


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
        "FEE is the error after it (0 is exact), FES the skill that is left (1 is exact). Black or "
        "white lines: 95 % intervals.",
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
        "Row less column, as value and p adjusted for the models compared (Holm): bright cells are "
        "differences that chance hardly makes, empty ones were not compared.",
        "--against in tools/equivariance.py or tools/resolution.py, with the other models' results",
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
                    pattern=dict(shape=look.hatch, size=5, solidity=0.25),
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
    drawn = figure(axis(place.metric), axis(key[0]), showlegend=False)
    front = _front([(x.value, y.value) for _, x, y in pairs])
    x, y = zip(*front, strict=True)
    line, scales = dict(color=GREY, width=1.5, dash="dot"), (place.read.scale, _scale(key[0]))
    drawn.add_scatter(
        **dict(x=[v * scales[0] for v in x], y=[v * scales[1] for v in y], mode="lines", line=line),
        hoverinfo="skip",
    )
    for model, at, over in pairs:
        look = looks(card)[model.name]
        best = (at.value, over.value) in front
        drawn.add_scatter(
            **dict(x=scaled([at], place.metric), y=scaled([over], key[0])),
            **dict(error_x=bars_of([at], place.metric), error_y=bars_of([over], key[0])),
            **dict(mode="markers+text", name=look.text, textposition="top right"),
            text=[f"<b>{look.text}</b>" if best else look.text],
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
    cells, texts = [], []
    for model in card.models:
        found = [between(model, other, column.key) for other in card.models]
        cells.append([each and _certainty(each.p_holm) for each in found])
        texts.append(
            [
                f"{signed(column.read, each.row.value)}<br>{p_text(each.p_holm)}" if each else ""
                for each in found
            ]
        )
    if not any(cell is not None for line in cells for cell in line):
        return None
    edges = [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1]
    colours = [colour for colour in COLOURS for _ in range(2)]
    drawn = figure("less", "", height=120 + 62 * len(labels))
    drawn.add_heatmap(
        **dict(x=labels, y=labels, z=cells, text=texts, texttemplate="%{text}", xgap=2, ygap=2),
        **dict(
            zmin=-0.5, zmax=2.5, colorscale=[[*pair] for pair in zip(edges, colours, strict=True)]
        ),
        colorbar=dict(
            tickvals=[0, 1, 2],
            ticktext=["else", *(text for _, text in CERTAINTY[::-1])],
            thickness=12,
        ),
        hovertemplate="%{y} less %{x}: %{text}<extra></extra>",
    )
    drawn.update_xaxes(type="category", showgrid=False)
    drawn.update_yaxes(type="category", showgrid=False, autorange="reversed")
    return drawn


def _certainty(p: float) -> int:
    return sum(p < bound for bound, _ in CERTAINTY)
