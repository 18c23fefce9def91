"""Where each model's numbers come from, and what they do not say."""

import json
from collections.abc import Mapping
from typing import Any

from mmplugins.evaluation.results.comparison import Noise
from mmplugins.evaluation.results.readings import reading
from mmplugins.evaluation.results.rows import CONFIDENCE
from mmplugins.evaluation.statistics.intervals import covers
from mmplugins.report.cards import Card
from mmplugins.report.names import listed
from mmplugins.report.runs import SHIFTS, SIZES, Model, key


def provenance(model: Model) -> list[tuple[str, str]]:
    """Facts of a model, of all its results."""
    facts: list[tuple[str, str]] = []
    config = model.origin("config") or {}
    facts.append(("config", f"{config.get('path', '?')} (sha256 {config.get('sha256', '?')})"))
    facts += [
        ("checkpoint", f"{each.get('name', '?')} (sha256 {each.get('sha256') or '?'})")
        for each in model.origin("checkpoints") or ()
    ]
    for place, value in (model.origin("position_encodings") or {}).items():
        facts.append((place, _text(value)))
    grids = {getattr(row, "encodings", "") for row in model.rows} - {""}
    facts += [("on another grid", text) for text in sorted(grids)]
    facts.append(("versions", _pairs(model.origin("versions") or {})))
    for kind, results in model.results.items():
        protocol, origin = results.protocol, results.origin
        images = protocol.get("images", ())
        facts.append((f"{kind}: images", str(len(images))))
        told = {name: value for name, value in protocol.items() if name != "images"}
        facts.append((f"{kind}: protocol", _pairs(told)))
        options = {n: v for n, v in origin.get("options", {}).items() if v not in (None, [], False)}
        facts.append((f"{kind}: options", _pairs(options)))
        made = ("tool", "started", "device", "processes", "seconds")
        facts.append((f"{kind}: made by", _pairs({n: origin[n] for n in made if n in origin})))
    return facts


def limits(card: Card) -> list[str]:
    """What a reader should know before believing the page."""
    rows = [
        row for model in card.models for column in card.columns if (row := model.find(column.key))
    ]
    chances = sorted({covers(row.runs) for row in rows})
    result = [f"Intervals hold {CONFIDENCE:.0%} (BCa bootstrap); {listed(chances)}."] * bool(rows)
    result.append(
        "p values are adjusted (Holm) for the models that are compared with the baseline, in stars "
        "and the matrix for all pairs, and in each measure alone: among many measures some fall "
        "below 0.05 by chance."
    )
    modes = {m.results[SHIFTS].protocol.get("mode") for m in card.models if SHIFTS in m.results}
    if "canvas" in modes:
        result.append(
            "Shifted views lie on a canvas larger than the picture, which is foreign to a model "
            "that was trained without: accuracy on it is not accuracy on pictures."
        )
    sizes = {mode for m in card.models if SIZES in m.results for mode in _modes(m)}
    if sizes & {"extent", "aspect"}:
        result.append(
            "What views of mode extent and aspect show beyond the picture, its mirror image or a "
            "plain colour, is foreign to a model, and is more of some sizes and shapes than of "
            "others: compare models, not sizes."
        )
    if floors := _floors(card):
        result.append(
            "One checkpoint run again, or in mixed precision, differs from itself by up to "
            f"{floors}: smaller differences may be the machine's."
        )
    return result


def _modes(model: Model) -> list[str]:
    return list(model.results[SIZES].protocol["sizes"])


def _floors(card: Card) -> str:
    """The largest noise floor of each column."""
    noise: list[Noise] = [n for m in card.models for r in m.results.values() for n in r.noise]
    found = {}
    for column in card.columns:
        of = [n.floor for n in noise if key(n.row) == column.key and n.floor == n.floor]
        if of:
            found[column.title] = reading(column.metric).text(max(of))
    return listed([f"{value} in {title}" for title, value in found.items()])


def _pairs(facts: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {_text(value)}" for name, value in facts.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
