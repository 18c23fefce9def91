"""Where in the picture a detector is right: zone AP, and the same content put into each zone.

The frame H x W falls into n = 5 annuli: zone i has the points whose distance to the nearest border,
as a part of the frame's height or width, is in [i / 2n, (i + 1) / 2n); 0 is the border, 4 the
centre. An object or a detection is in the zone that its centre is in.

    ZP^{i,i+1}   AP of the objects and the detections of zone i, all others left out
    ZP variance  of the five zones, of percentages: mean of (100 ZP - mean of 100 ZP)^2

Source: https://github.com/Zzh-tju/ZoneEval, of boxes on one fixed set of images, whose zones differ
in what lies in them. Shifted canvases ask the counterfactual, how well the same object is detected
elsewhere. All (image, shift) are pooled, zones are those of the shifted view:

    placed    zone AP of what is detected there
    unmoved   of what is detected in the reference, moved with the content as an exactly equivariant
              detector's detections would be, on the same objects
    effect    placed - unmoved: what it is worth to lie there

An effect of all zones alike need not be of place: the unmoved detections repeat their errors under
every shift, the placed ones make new ones, and of few objects AP prefers errors that repeat. What
tells is the difference between zones, or between encodings.

Departures: masks have zones by the centre of the box around them. On the reference view a zone's
frame is what it shows of the content, and all objects that it shows whole count; the counterfactual
is of the objects inside the core, in frames of the view. A zone without objects is NaN.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.coco import Annotations, matched
from mmplugins.evaluation.predictions.label_maps import visible
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.shifts import Rectangle, Shift
from mmplugins.evaluation.statistics.remembered import remembered
from mmplugins.evaluation.statistics.resampling import Statistic
from mmplugins.evaluation.statistics.weighted import Matches, mean_average_precision
from mmplugins.evaluation.tasks.average_precision import MOST
from mmplugins.evaluation.tasks.objects import centres, cores, found_by, truth_of

ZONES = 5
ZONE_NAMES = tuple(f"{zone}-{zone + 1}" for zone in range(ZONES))
_PLACES = ZONES + 1  # the last one is out of the frame


def zone_of(
    y: Float[np.ndarray, "..."],
    x: Float[np.ndarray, "..."],
    height: float,
    width: float,
    n: int = ZONES,
) -> Int[np.ndarray, "..."]:
    """The annulus that a point of a frame lies in: 0 at the border, n - 1 in the middle, -1 out."""
    rows, columns = np.asarray(y) / height, np.asarray(x) / width
    nearest = np.minimum(np.minimum(rows, 1 - rows), np.minimum(columns, 1 - columns))
    return np.clip(np.floor(2 * n * nearest), -1, n - 1).astype(np.int64)


def zone_precision(records: Sequence[Record], plan: Plan, kind: str) -> list[Measure]:
    """Zone AP of the reference view and its variance."""
    views = [(0, 0, *record.scene.view) for record in records]
    frames = [visible(record.scene) for record in records]
    pair = truth_of(records, kind, views), found_by(records, plan, 0, kind, views)
    by_zone = _by_zone([pair], [(0, 0)], frames, kind)
    measure = Measure("task", "zone AP", kind, "zone", ZONE_NAMES, remembered(by_zone))

    def variance(values: Float[np.ndarray, "b K"]) -> Float[np.ndarray, "b 1"]:
        return (100 * values).var(axis=-1, keepdims=True)

    return [measure, measure.then("zone AP variance", "zone", ["all"], variance)]


def counterfactual_zone_precision(
    records: Sequence[Record], plan: Plan, kind: str
) -> list[Measure]:
    """AP of the same objects put into each zone, of detections there and of unmoved ones.

    Raises:
        ValueError: the mode is no canvas, so that shifts change what there is to see.
    """
    if plan.mode not in ("canvas", "masked_canvas"):
        raise ValueError(f"mode {plan.mode} does not put the same content elsewhere: use canvas")
    inside = cores(records)
    frames = [(0, 0, *record.scene.view) for record in records]
    truth = truth_of(records, kind, inside)
    reference, *others = (
        found_by(records, plan, view, kind, inside) for view in range(1 + len(plan.shifts))
    )

    def pooled(seen: Sequence[Annotations]) -> Statistic:
        return remembered(_by_zone([(truth, found) for found in seen], plan.shifts, frames, kind))

    placed, unmoved = pooled(others), pooled([reference] * len(others))
    statistics = {
        "placed zone AP": placed,
        "unmoved zone AP": unmoved,
        "zone effect": lambda weights: placed(weights) - unmoved(weights),
    }
    return [
        Measure("task", name, kind, "zone", ZONE_NAMES, statistic)
        for name, statistic in statistics.items()
    ]


def _by_zone(
    pairs: Sequence[tuple[Annotations, Annotations]],
    shifts: Sequence[Shift],
    frames: Sequence[Rectangle],
    kind: str,
) -> Statistic:
    """[b, zones]: AP of pairs of truth and detections, each moved by its shift, all pooled.

    Things of different zones are told apart as things of different classes are.
    """
    zoned = [
        tuple(_in_zones(side, shift, frames, kind) for side in pair)
        for pair, shift in zip(pairs, shifts, strict=True)
    ]
    matches = [of_pair["all"] for of_pair in matched(zoned, kind, most=MOST)]
    classes = {label: _pooled([of_pair[label] for of_pair in matches]) for label in matches[0]}
    statistics = [
        mean_average_precision([one for label, one in classes.items() if label % _PLACES == zone])
        for zone in range(ZONES)
    ]
    return lambda weights: np.stack([each(weights).mean(axis=-1) for each in statistics], axis=1)


def _in_zones(
    side: Annotations, shift: Shift, frames: Sequence[Rectangle], kind: str
) -> Annotations:
    """With labels of class and zone."""
    views = []
    for found, (top, left, bottom, right) in zip(side.views, frames, strict=True):
        y, x = centres(found, kind)
        zones = zone_of(y + shift[0] - top, x + shift[1] - left, bottom - top, right - left)
        views.append(replace(found, labels=found.labels * _PLACES + zones % _PLACES))
    return replace(side, views=views)


def _pooled(matches: Sequence[Matches]) -> Matches:
    """As if each image were several."""
    return Matches(
        np.concatenate([each.image for each in matches]),
        np.concatenate([each.score for each in matches]),
        np.concatenate([each.hit for each in matches], axis=1),
        np.concatenate([each.ignored for each in matches], axis=1),
        np.sum([each.truths for each in matches], axis=0),
    )
