"""Score cards: a few numbers for each model, and how each differs from the baseline's.

A difference is the results' own, paired on the same images; nothing is compared that they do not
compare. It shows where its interval leaves out zero, and is certain where its p value is below
0.05, too. That is adjusted here (Holm), whatever it was compared with when it was measured: for all
models that are compared with the baseline, or for all pairs.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, TypeVar

from mmplugins.evaluation.results.comparison import Difference
from mmplugins.evaluation.results.readings import Reading, reading
from mmplugins.evaluation.results.rows import CONFIDENCE, REFERENCE, Row
from mmplugins.evaluation.statistics.intervals import holm
from mmplugins.report.runs import Model, key

BY_SHIFTS = "tools/equivariance.py CONFIG CHECKPOINT"
BY_SIZES = "tools/resolution.py CONFIG CHECKPOINT"
DID = "1.5"  # times the training size
LEAST = 5e-4  # half of the last digit that is printed of a share, and more than rounding
K = TypeVar("K")


@dataclass(frozen=True)
class Column:
    """Of a score card.

    Attributes:
        title: of the column.
        plain: what it asks, in a few words.
        noun: what a model is better or worse in.
        says: what it is.
        key: of its rows.
        command: what measures it.
        relative: it is a difference from the baseline, and has no value without.
    """

    title: str
    plain: str
    noun: str
    says: str
    key: Hashable
    command: str
    relative: bool = False

    @property
    def metric(self) -> str:
        """Its name in the results."""
        return self.key[0]

    @property
    def read(self) -> Reading:
        """How its numbers are read."""
        return reading(self.metric)


@dataclass(frozen=True)
class Cell:
    """A model's value in a column.

    Attributes:
        row: the value; None: not measured.
        beside: its difference from the baseline's, where that is known.
        best: better than every other model's, whose differences are all known and certain.
        missing: why there is no row, and what would make one.
    """

    row: Row | None
    beside: Difference | None = None
    best: bool = False
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Card:
    """All score cards of a report.

    Attributes:
        models: the baseline first.
        baseline: what others are compared with, if anything.
        part: whose accuracy and consistency is told: box, mask or labels.
        columns: of the card.
    """

    models: Sequence[Model]
    baseline: Model | None
    part: str
    columns: Sequence[Column]

    @property
    def accuracy(self) -> str:
        """The metric of the task."""
        return "mIoU" if self.part == "labels" else "AP"

    @property
    def consistency(self) -> str:
        """The metric of predictions under shifts."""
        return "mASSC" if self.part == "labels" else "PC"

    @property
    def others(self) -> list[Model]:
        """All but the baseline."""
        return [model for model in self.models if model is not self.baseline]

    def cell(self, model: Model, column: Column) -> Cell:
        """The value of a model, and what is known of it."""
        beside = self.beside(model, column)
        row = model.find(column.key)
        if column.relative:
            row = beside and beside.row
        if row is None:
            return Cell(None, missing=self._missing(model, column))
        rest = [other for other in self.models if other is not model and other.find(column.key)]
        pairs = self.pairs(column.key)
        found = [pairs.get((model.name, other.name)) for other in rest]
        best = bool(found) and all(
            each and sign(each) == "better" and certain(each) for each in found
        )
        return Cell(row, beside, best)

    def beside(self, model: Model, column: Column) -> Difference | None:
        """The difference from the baseline, where it was measured and came to a number."""
        if self.baseline is None:
            return None
        pairs = {other.name: (other, self.baseline) for other in self.others}
        return _adjusted(pairs, column.key).get(model.name)

    def pairs(self, of: Hashable) -> dict[tuple[str, str], Difference]:
        """Every model less every other, where that was measured and came to a number."""
        pairs = {(a.name, b.name): (a, b) for a, b in combinations(self.models, 2)}
        found = _adjusted(pairs, of)
        return found | {(b, a): _turned(each, a) for (a, b), each in found.items()}

    def _missing(self, model: Model, column: Column) -> str:
        if model.undefined(column.key):
            return "measured, but undefined: a share of nothing, for instance"
        if not column.relative:
            return f"not measured: {column.command}"
        if self.baseline is None:
            return "no model without encodings to compare with"
        if model is self.baseline:
            return "the baseline itself: 0 by definition"
        return f"not compared: {column.command} --against, with the results of {self.baseline.name}"


def card(models: Sequence[Model], base: Model | None, metric: str) -> Card:
    """The score card of some models; `metric` is box or mask, of detectors."""
    models = sorted(models, key=lambda model: model is not base)
    parts = {row.part for model in models for row in model.rows if row.level == "task"}
    part = "labels" if "labels" in parts else metric
    accuracy, consistency = ("mIoU", "mASSC") if part == "labels" else ("AP", "PC")
    places = [(accuracy, part, "resize", "1"), (accuracy, part, "shift", REFERENCE)]
    place = max(places, key=lambda of: sum(model.find(of) is not None for model in models))
    return Card(models, base, part, _columns(accuracy, consistency, place, _level(models)))


def _columns(accuracy: str, consistency: str, place: tuple, level: str) -> list[Column]:
    """`place`: the key of the accuracy; `level`: the layer whose features are told of."""
    _, part, mode, _ = place
    by_sizes = mode == "resize"
    seen = "whole pictures at the training size" if by_sizes else "unshifted views"
    consistent = "predictions that stay the same under shifts by whole patches: 100 is exact"
    worst = "what the worst shift by whole patches leaves of it: 100 loses nothing"
    area = f"mean {accuracy} at {{}} sizes, percent of that at the training size"
    did = f"change of {accuracy} from the training size to {DID} times it, less the baseline's"
    return [
        Column(
            accuracy,
            "accuracy",
            "accuracy",
            f"{accuracy} of {part} in {seen}: 100 is best",
            place,
            BY_SIZES if by_sizes else BY_SHIFTS,
        ),
        Column(
            "FES",
            "pgrid: do features move along?",
            "steadiness of features",
            f"skill of features ({level}) under shifts by whole patches: 1 is exact, 0 is chance",
            ("FES", level, "set", "pgrid"),
            f"{BY_SHIFTS} --levels feat",
        ),
        Column(
            consistency,
            "pgrid: do predictions stay?",
            "steadiness of predictions",
            consistent,
            (consistency, part, "set", "pgrid"),
            f"{BY_SHIFTS} --levels pred",
        ),
        Column(
            "M_min/M(0)",
            "pgrid: what the worst shift leaves",
            "what the worst shift leaves",
            f"{accuracy}: {worst}",
            (f"{accuracy} min/M(0)", part, "set", "pgrid"),
            f"{BY_SHIFTS} --levels task",
        ),
        *(
            Column(
                f"ResAUC {way}",
                f"what {sizes} sizes leave",
                f"what {sizes} sizes leave",
                area.format(sizes),
                (f"{accuracy} ResAUC {way}", part, "sizes", "resize"),
                f"{BY_SIZES} --mode resize",
            )
            for way, sizes in (("down", "smaller"), ("up", "larger"))
        ),
        Column(
            f"DiD {DID}x",
            "does the encoding help there?",
            f"transfer to {DID} times the size",
            did,
            (f"{accuracy} delta", part, "resize", DID),
            f"{BY_SIZES} --mode resize",
            relative=True,
        ),
    ]


def between(model: Model, other: Model, of: Hashable) -> Difference | None:
    """A model less another in one value, whichever of the two was compared with the other."""
    if found := model.differences.get((other.name, of)):
        return found
    found = other.differences.get((model.name, of))
    if found is None:
        return None
    return _turned(found, other.name)


def _turned(difference: Difference, other: str) -> Difference:
    """The other way round."""
    row = difference.row
    turned = replace(
        row,
        value=-row.value,
        low=-row.high,
        high=-row.low,
        band_low=-row.band_high,
        band_high=-row.band_low,
    )
    return replace(difference, other=other, row=turned)


def _adjusted(pairs: Mapping[K, tuple[Model, Model]], of: Hashable) -> dict[K, Difference]:
    """Those differences of pairs that are numbers, with p values adjusted for all of them."""
    found = {name: between(*pair, of) for name, pair in pairs.items()}
    found = {name: d for name, d in found.items() if d and not math.isnan(d.row.value)}
    adjusted = holm([each.p for each in found.values()])
    return {
        name: replace(each, p_holm=float(p))
        for (name, each), p in zip(found.items(), adjusted, strict=True)
    }


def sign(difference: Difference) -> Literal["better", "worse", "same"]:
    """What the interval of a difference says; `same`: it holds zero, or is not defined.

    So is what would be zero in print: features of equal models differ by rounding, by the same on
    every image, which any test would find.
    """
    row, good = difference.row, reading(difference.row.metric).good
    if good is None or not (row.low > 0 or row.high < 0) or abs(row.value) < LEAST:
        return "same"
    return "better" if (row.value > 0) == (good == "up") else "worse"


def certain(difference: Difference) -> bool:
    """Whether it shows, and its adjusted p value is below 0.05."""
    return sign(difference) != "same" and difference.p_holm < 1 - CONFIDENCE


def _level(models: Sequence[Model]) -> str:
    """The last layer of the encoder, or the last output of the backbone, that any model has."""
    of_set = {key(row) for model in models for row in model.rows if row.axis == "set"}
    parts = {part for metric, part, _, point in of_set if (metric, point) == ("FES", "pgrid")}
    for first in ("encoder", "backbone"):
        if found := [part for part in parts if part.partition(".")[0] == first]:
            return max(found, key=lambda part: (len(part), part))
    return "backbone.0"
