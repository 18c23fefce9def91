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

Departures: masks have zones by the centre of the box around them. On the reference view a zone's
frame is the content, and all objects that the view shows whole count; the counterfactual is of the
objects inside the core, in frames of the view. A zone without objects is NaN.
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np
from jaxtyping import Float, Int

from mmplugins.evaluation.inference.plan import Plan
from mmplugins.evaluation.inference.record import Record
from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.predictions.coco import Annotations, matched
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.shifts import Rectangle, Shift
from mmplugins.evaluation.statistics.remembered import remembered
from mmplugins.evaluation.statistics.resampling import Statistic
from mmplugins.evaluation.statistics.weighted import Matches, mean_average_precision
from mmplugins.evaluation.tasks.average_precision import MOST
from mmplugins.evaluation.tasks.objects import centres, cores, found_in, truth_of

ZONES = 5
ZONE_NAMES = tuple(f"{zone}-{zone + 1}" for zone in range(ZONES))


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
    truth = truth_of(records, kind, views)
    found = found_in(records, plan, 0, kind, views)
    frames = [record.scene.content for record in records]
    truth_zones, found_zones = (
        [_zones(side.views[image], kind, frame, (0, 0)) for image, frame in enumerate(frames)]
        for side in (truth, found)
    )
    by_zone = _by_zone((truth, truth_zones), (found, found_zones), kind, len(records))
    measure = Measure("task", "zone AP", kind, "zone", ZONE_NAMES, remembered(_mean(by_zone)))

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
    unmoved = found_in(records, plan, 0, kind, inside)
    placed = [found_in(records, plan, 1 + s, kind, inside) for s in range(len(plan.shifts))]

    def pooled(sides: Sequence[Annotations]) -> tuple[Annotations, list[Int[np.ndarray, " n"]]]:
        """All images under the first shift, then under the next, .., and the zones there."""
        zones = [
            _zones(found, kind, frame, shift)
            for side, shift in zip(sides, plan.shifts, strict=True)
            for found, frame in zip(side.views, frames, strict=True)
        ]
        return _joined(sides), zones

    times = len(plan.shifts)
    objects = pooled([truth] * times)
    of_placed, of_unmoved = (
        remembered(_mean(_by_zone(objects, pooled(found), kind, len(records))))
        for found in (placed, [unmoved] * times)
    )
    statistics = {
        "placed zone AP": of_placed,
        "unmoved zone AP": of_unmoved,
        "zone effect": lambda weights: of_placed(weights) - of_unmoved(weights),
    }
    return [
        Measure("task", name, kind, "zone", ZONE_NAMES, statistic)
        for name, statistic in statistics.items()
    ]


def _zones(found: Detections, kind: str, frame: Rectangle, shift: Shift) -> Int[np.ndarray, " n"]:
    """Of detections moved by `shift`, in a frame."""
    top, left, bottom, right = frame
    y, x = centres(found, kind)
    return zone_of(y + shift[0] - top, x + shift[1] - left, bottom - top, right - left)


def _joined(sides: Sequence[Annotations]) -> Annotations:
    """One after the other, as if all were of different images."""
    views, areas = (
        [each for side in sides for each in part(side)]
        for part in (attrgetter("views"), attrgetter("areas"))
    )
    crowds = None if sides[0].crowds is None else [each for side in sides for each in side.crowds]
    return Annotations(views, areas, crowds)


def _by_zone(
    truth: tuple[Annotations, Sequence[Int[np.ndarray, " n"]]],
    found: tuple[Annotations, Sequence[Int[np.ndarray, " n"]]],
    kind: str,
    images: int,
) -> list[list[Matches]]:
    """Matches within each zone; image i + k `images` counts as image i does."""
    by_zone = []
    for zone in range(ZONES):
        sides = (side.only([each == zone for each in zones]) for side, zones in (truth, found))
        classes = matched(*sides, kind, most=MOST)["all"]
        by_zone.append([_folded(of_class, images) for of_class in classes])
    return by_zone


def _folded(matches: Matches, images: int) -> Matches:
    truths = matches.truths.reshape(-1, images).sum(axis=0)
    return replace(matches, image=matches.image % images, truths=truths)


def _mean(by_zone: Sequence[Sequence[Matches]]) -> Statistic:
    """[b, zones]: AP over IoU .50:.95."""
    statistics = [mean_average_precision(classes) for classes in by_zone]
    return lambda weights: np.stack([each(weights).mean(axis=-1) for each in statistics], axis=1)
