"""Is the difference between two runs more than chance, and more than the machine's?

Differences are paired: formed within each resample of the same images. p values are adjusted by
Holm over the encodings that one is compared with, for each measure and point alone; a detectable
effect is what a test of these images would have found four times in five, and a noise floor how
far one checkpoint lies from itself when it is run again. See `statistics.intervals` for all four.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.rows import CONFIDENCE, Finding, Row, rows
from mmplugins.evaluation.sizes import AnyPlan
from mmplugins.evaluation.statistics.intervals import (
    detectable_effect,
    holm,
    noise_floor,
    p_value,
)
from mmplugins.evaluation.statistics.resampling import Estimate

_ABSENT = object()


@dataclass(frozen=True, eq=False)
class Measured:
    """One recipe, of one or several training runs, and all that was found of it.

    Attributes:
        name: e.g. of the encoding.
        protocol: what others must share to be compared: images, shifts, mode and so on.
        findings: all from one bootstrap.
    """

    name: str
    protocol: Mapping[str, Any]
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Difference:
    """This less the other, at one point of a measure.

    Attributes:
        other: its name.
        row: the difference as a value of its own.
        p: of "there is none".
        p_holm: adjusted for all others.
        detectable: the least difference that would have been found four times in five.
    """

    other: str
    row: Row
    p: float
    p_holm: float
    detectable: float


@dataclass(frozen=True)
class Noise:
    """One checkpoint less itself, at one point of a measure.

    Attributes:
        cause: what was done again, or otherwise.
        row: the difference as a value of its own.
        floor: size up to which a difference may be the machine's.
    """

    cause: str
    row: Row
    floor: float


def compare(
    this: Measured, others: Sequence[Measured], plan: AnyPlan | None = None
) -> list[Difference]:
    """Differences from each of `others` in every measure that both have.

    Raises:
        InputError: two that cannot be compared, naming the first thing in which they differ.
    """
    for other in others:
        check_comparable(this, other)
    rivals = {other.name: _by_key(other) for other in others}
    if len(rivals) < len(others):
        raise InputError(f"two of one name: {', '.join(other.name for other in others)}")
    result = []
    for finding in this.findings:
        key = finding.measure.key
        found = {name: _less(finding, of[key]) for name, of in rivals.items() if key in of}
        if not found:
            continue
        p = np.stack([p_value(each.estimate, CONFIDENCE) for each in found.values()])
        adjusted = np.stack([holm(of_point) for of_point in p.T], axis=1)
        for name, each, *two in zip(found, found.values(), p, adjusted, strict=True):
            effects = detectable_effect(each.estimate, 1 - CONFIDENCE)
            for row, *numbers in zip(rows([each], plan), *two, effects, strict=True):
                result.append(Difference(name, row, *map(float, numbers)))
    return result


def noise(this: Measured, again: Sequence[Measured], plan: AnyPlan | None = None) -> list[Noise]:
    """How far one checkpoint lies from itself, run `again` or in mixed precision.

    Raises:
        InputError: of other images or another protocol.
    """
    result = []
    for other in again:
        check_comparable(this, other)
        same = _by_key(other)
        for finding in this.findings:
            if (key := finding.measure.key) in same:
                floors = noise_floor(finding.estimate, same[key], CONFIDENCE)
                pairs = zip(rows([_less(finding, same[key])], plan), floors, strict=True)
                result += [Noise(other.name, row, float(floor)) for row, floor in pairs]
    return result


def check_comparable(this: Measured, other: Measured) -> None:
    """Refuse what cannot be paired.

    Raises:
        InputError: naming the first thing in which they differ, or that no measure is common.
    """
    difference = next(differing(_facts(this), _facts(other)), None)
    if difference:
        place, ours, theirs = difference
        raise InputError(
            f"`{this.name}` and `{other.name}` cannot be compared: {place} is {ours} of the first, "
            f"but {theirs} of the second"
        )
    if not _by_key(this).keys() & _by_key(other).keys():
        raise InputError(f"`{this.name}` and `{other.name}` have no measure in common")


def _by_key(measured: Measured) -> dict[tuple, Estimate]:
    return {finding.measure.key: finding.estimate for finding in measured.findings}


def _less(finding: Finding, other: Estimate) -> Finding:
    return Finding(finding.measure, finding.estimate - other)


def _facts(this: Measured) -> dict[str, Any]:
    drawn = {(f.estimate.bootstrap, f.estimate.runs) for f in this.findings}
    if len(drawn) != 1:
        raise InputError(f"`{this.name}`: {len(drawn)} bootstraps; all it needs is one")
    bootstrap, runs = drawn.pop()
    return {**this.protocol, "bootstrap": asdict(bootstrap), "training runs": runs}


def differing(ours: Any, theirs: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """Places in nested dicts and lists where two are not the same, and what is there."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in dict.fromkeys((*ours, *theirs)):
            inner = f"{place}.{key}" if place else str(key)
            yield from differing(ours.get(key, _ABSENT), theirs.get(key, _ABSENT), inner)
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        for index, pair in enumerate(zip_longest(ours, theirs, fillvalue=_ABSENT)):
            yield from differing(*pair, f"{place}[{index}]")
    elif ours is not theirs and ours != theirs:
        yield place, *("absent" if value is _ABSENT else repr(value) for value in (ours, theirs))
