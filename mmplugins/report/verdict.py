"""What may be said of the models in plain words: from paired differences, never from looks.

A difference is told as certain only where `cards.certain` says so, and what does not show is told
with the least difference that these images would have shown, four times in five.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmplugins.evaluation.results.comparison import Difference
from mmplugins.evaluation.results.rows import CONFIDENCE
from mmplugins.evaluation.statistics.intervals import covers
from mmplugins.report.cards import BY_SHIFTS, Card, Column, certain, sign
from mmplugins.report.names import listed, names, signed, span
from mmplugins.report.runs import Model

FEW = 4  # differences that can be told with their intervals, and still be read


@dataclass(frozen=True)
class Verdict:
    """One paragraph: what matters most, then all else."""

    lead: str
    rest: Sequence[str]

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join((self.lead, *self.rest))


@dataclass(frozen=True, eq=False)
class _Finding:
    """A difference from the baseline."""

    model: Model
    column: Column
    difference: Difference


def verdict(card: Card) -> Verdict:
    """Of all score cards."""
    if len(card.models) == 1:
        return Verdict("One model alone: there is nothing to compare it with.", [_covers(card)])
    if card.baseline is None:
        lead = "No model without encodings is among them, so nothing is compared with one."
        return Verdict(lead, ["--baseline names another.", _covers(card)])
    base = names(card.models)[card.baseline.name]
    found = [
        _Finding(model, column, difference)
        for column in card.columns
        for model in card.others
        if (difference := card.beside(model, column))
    ]
    if not found:
        lead = f"Nothing is known of differences from {base}: these results were not compared."
        return Verdict(lead, [f"Measure again: {BY_SHIFTS} --against OTHERS.", _covers(card)])
    sure = [each for each in found if certain(each.difference)]
    leaning = [each for each in found if sign(each.difference) != "same" and each not in sure]
    rest = [
        *_leaning(card, leaning),
        *_silent(card, found, base),
        *_unknown(card, found, base),
        _covers(card),
    ]
    if not sure:
        return Verdict(f"No model differs from {base} with certainty.", rest)
    told = _told(card, sure, _full) if len(sure) <= FEW else _shortly(card, sure)
    return Verdict(f"Beside {base}, {told}.", rest)


def _told(card: Card, findings: Sequence[_Finding], text: Callable[[_Finding], str]) -> str:
    """All of a model together: `ape is better in accuracy (AP +4.3 [1.6, 6.4], p = 0.012)`."""
    label = names(card.models)
    return "; ".join(
        f"{label[name]} is {way} in {listed([text(each) for each in own])}"
        for (name, way), own in _by_model(findings).items()
    )


def _shortly(card: Card, findings: Sequence[_Finding]) -> str:
    """Models of which the same is to be told together, the numbers left to the table."""
    label, groups = names(card.models), {}
    total = sum(any(card.beside(model, c) for model in card.others) for c in card.columns)
    for (name, way), own in _by_model(findings).items():
        told = way, _measures([each.column for each in own], total)
        groups.setdefault(told, []).append(label[name])
    return "; ".join(
        f"{listed(own)} {'is' if len(own) == 1 else 'are'} {way} in {measures}"
        for (way, measures), own in groups.items()
    )


def _measures(columns: Sequence[Column], total: int) -> str:
    if len(columns) == total > 2:
        return f"all {total} measures"
    return listed([_named(column) for column in columns])


def _by_model(findings: Sequence[_Finding]) -> dict[tuple[str, str], list[_Finding]]:
    found = {}
    for each in findings:
        found.setdefault((each.model.name, sign(each.difference)), []).append(each)
    order = list(dict.fromkeys(name for name, _ in found))
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))


def _full(each: _Finding) -> str:
    row, read = each.difference.row, each.column.read
    numbers = f"{signed(read, row.value)} {span(read, row, 2)}, {p_text(each.difference.p_holm)}"
    return f"{each.column.noun} ({each.column.title} {numbers})"


def _named(column: Column) -> str:
    return f"{column.noun} ({column.title})"


def _leaning(card: Card, findings: Sequence[_Finding]) -> list[str]:
    """What intervals show, but p values do not, by themselves or adjusted for all models."""
    alone = [each for each in findings if each.difference.p < 1 - CONFIDENCE]
    said = {
        "once all models are counted": alone,
        "though the interval leaves out 0": [each for each in findings if each not in alone],
    }
    return [
        f"Not certain, since p ≥ 0.05 {why}: {_shortly(card, own)}."
        for why, own in said.items()
        if own
    ]


def p_text(p: float) -> str:
    """Such as `p = 0.012`."""
    if math.isnan(p):
        return "p undefined"
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def _silent(card: Card, found: Sequence[_Finding], base: str) -> list[str]:
    """Measures in which nobody differs, and what would have been seen."""
    quiet = []
    for column in card.columns:
        own = [each.difference for each in found if each.column is column]
        if own and all(sign(each) == "same" for each in own):
            least = [each.detectable for each in own if not math.isnan(each.detectable)]
            told = column.read.text(max(least, default=0.0), 2)
            seen = f"; less than {told} could hide" if float(told) else ""
            quiet.append(f"{column.noun} ({column.title}{seen})")
    return [f"No model separates from {base} in {listed(quiet)}."] if quiet else []


def _unknown(card: Card, found: Sequence[_Finding], base: str) -> list[str]:
    """Measures that were taken, but not compared."""
    known = {each.column.title for each in found}
    open_ = [
        _named(column)
        for column in card.columns
        if column.title not in known and sum(bool(m.find(column.key)) for m in card.models) > 1
    ]
    return [f"Not compared with {base}: {listed(open_)}."] if open_ else []


def _covers(card: Card) -> str:
    """How many images, and which chance the intervals are about."""
    rows = [model.find(column.key) for model in card.models for column in card.columns]
    rows = [row for row in rows if row]
    images = listed(sorted({str(row.images) for row in rows}, key=int))
    chance = listed(sorted({covers(row.runs) for row in rows}))
    return f"Measured on {images} test images; {chance}." if rows else ""
