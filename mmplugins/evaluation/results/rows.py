"""From measures to rows: each value, how sure it is, and what it is the value of.

Interval: BCa over images (and training runs), for each point alone. Band: sup-t, holds all points
of a measure at once, a curve over shifts for instance. See `statistics.intervals` for both.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

import numpy as np

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.shifts import kind_of
from mmplugins.evaluation.sizes import AnyPlan
from mmplugins.evaluation.statistics.intervals import band, interval
from mmplugins.evaluation.statistics.resampling import Bootstrap, Estimate

CONFIDENCE = 0.95  # of all intervals and bands
REFERENCE = "reference"  # the unshifted view among shifts
Track = Callable[[Sequence], Iterable]  # goes through a sequence, and may show how far it is
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Finding:
    """A measure and its estimate over images and training runs."""

    measure: Measure
    estimate: Estimate


@dataclass(frozen=True)
class Row:
    """One value; `Measure` tells of the first four fields, `Interval` of images, runs, undefined.

    Attributes:
        level: of the suite.
        metric: its name.
        part: of the model or the data.
        axis: what the measure's points are.
        point: name of this one; None for a shift, but `reference` for (0, 0).
        dy: of a shift, in pixels down.
        dx: likewise to the right.
        kind: position, aliasing or mixed, of a shift other than (0, 0).
        sets: of shifts that this one is in.
        value: NaN where undefined.
        low: of the interval.
        high: likewise.
        band_low: of the band; NaN where the measure has one point.
        band_high: likewise.
        half_width: of the interval.
        images: that the value is of.
        runs: of training.
        undefined: resamples that the interval leaves out.
        encodings: how the model's encodings meet a new grid.
    """

    level: str
    metric: str
    part: str
    axis: str
    point: str | None
    dy: float | None
    dx: float | None
    kind: str | None
    sets: tuple[str, ...]
    value: float
    low: float
    high: float
    band_low: float
    band_high: float
    half_width: float
    images: int
    runs: int
    undefined: int
    encodings: str = ""


def estimate_all(
    measures_of_runs: Sequence[Sequence[Measure]], bootstrap: Bootstrap, track: Track = iter
) -> list[Finding]:
    """Estimate every measure, once: this is what takes the time.

    Args:
        measures_of_runs: those of each training run of one recipe, in any order.
        bootstrap: the same for all that is to be compared.
        track: goes through the measures, e.g. with a progress bar.

    Raises:
        ValueError: no run, runs of different measures, a measure twice, or one with more or fewer
            values than points.
    """
    if not measures_of_runs:
        raise ValueError("give the measures of one training run at least")
    first, *others = (by_key(measures) for measures in measures_of_runs)
    for number, other in enumerate(others, 2):
        if differing := [key for key in (*first, *other) if (key in first) != (key in other)]:
            has = 1 if differing[0] in first else number
            raise ValueError(
                f"training runs 1 and {number} were not measured alike: only {has} has "
                f"{_title(differing[0])}"
            )
    findings = []
    for key in track(list(first)):
        estimate = bootstrap.estimate(*(run[key].statistic for run in (first, *others)))
        if estimate.value.shape != (len(first[key].points),):
            raise ValueError(
                f"{_title(key)} has {len(first[key].points)} points, but values of shape "
                f"{estimate.value.shape}"
            )
        findings.append(Finding(first[key], estimate))
    return findings


def by_key(measures: Iterable[Measure]) -> dict[tuple, Measure]:
    """Measures by what they are of.

    Raises:
        ValueError: two are of the same.
    """
    found: dict[tuple, Measure] = {}
    for measure in measures:
        if measure.key in found:
            raise ValueError(f"measured twice: {_title(measure.key)}")
        found[measure.key] = measure
    return found


def rows(
    findings: Iterable[Finding], plan: AnyPlan | None = None, encodings: str = ""
) -> list[Row]:
    """A row for each point of each finding; `plan` is needed where points are shifts."""
    return [row for finding in findings for row in _rows(finding, plan, encodings)]


def _rows(finding: Finding, plan: AnyPlan | None, encodings: str) -> list[Row]:
    measure, estimate = finding.measure, finding.estimate
    with np.errstate(invalid="ignore"):  # the decibels of an exact model are infinite
        found, curve = interval(estimate, CONFIDENCE), band(estimate, CONFIDENCE)
    alone = len(measure.points) == 1
    result = []
    for at, point in enumerate(measure.points):
        name, (dy, dx), kind, sets = point, (None, None), None, ()
        if measure.axis == "shift":
            (dy, dx), name = point, None if any(point) else REFERENCE
            kind = kind_of(point, plan.period) if any(point) else None
            sets = tuple(group.name for group in plan.sets if point in group.shifts)
        row = Row(
            **dict(level=measure.level, metric=measure.metric, part=measure.part),
            **dict(axis=measure.axis, point=name, dy=dy, dx=dx, kind=kind, sets=sets),
            value=float(found.value[at]),
            low=float(found.low[at]),
            high=float(found.high[at]),
            band_low=math.nan if alone else float(curve.low[at]),
            band_high=math.nan if alone else float(curve.high[at]),
            half_width=float(found.half_width[at]),
            images=found.images,
            runs=found.runs,
            undefined=int(found.undefined[at]),
            encodings=encodings,
        )
        result.append(row)
    return result


def to_json(thing: Any) -> dict[str, Any]:
    """A row, or what holds one, as a flat dict that JSON can hold: NaN becomes null."""
    plain: dict[str, Any] = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if isinstance(value, Row):
            plain |= to_json(value)
        elif isinstance(value, float) and not math.isfinite(value):
            plain[field.name] = None if math.isnan(value) else str(value)
        else:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def from_json(kind: type[T], plain: dict[str, Any]) -> T:
    """The `kind` that `to_json` was given.

    Raises:
        KeyError, TypeError, ValueError: `plain` is of something else.
    """
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.type is Row:
            values[field.name] = from_json(Row, plain)
            continue
        # A field that later versions added has a default.
        value = (
            plain[field.name] if field.default is MISSING else plain.get(field.name, field.default)
        )
        if field.type is float:
            value = math.nan if value is None else float(value)
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _title(key: tuple) -> str:
    level, metric, part, axis, points = key
    return f"{metric} of {part} ({level}) over {len(points)} points ({axis})"
