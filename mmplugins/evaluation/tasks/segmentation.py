"""Whether a segmenter is right: mIoU under shifts, by class, and by where in the picture.

    IoU       of a class: intersection / union of predicted and true pixels, each summed over images
    mIoU      mean over the classes that have a union, at the reference (0, 0) and at each shift
    zone mIoU the same over the pixels of one annulus of the content, and the variance
              of the five zones, of percentages
Pixels that count are those of the core whose truth is known, the same at every shift.
Zones: https://arxiv.org/abs/2310.13215, there of boxes. What lies in them differs: sky is above and
roads below. So canvases are asked the counterfactual: the same content, put into zone after zone.
    placed    mIoU over the pixels that lie in a zone of the view, pooled over shifts
    unmoved   of the same pixels, the same number of times, but as the reference view labels them
    effect    placed - unmoved: what it is worth to lie there

Departures: zones of the reference count all content that it shows, not only the core, which in
mode window ends before the border that zones are about. A zone without pixels is NaN, and so is
the variance then.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from mmplugins.evaluation.measures import Axis, Measure
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.label_maps import (
    class_counts,
    counted,
    cut,
    overlap,
    visible,
    whole,
)
from mmplugins.evaluation.predictions.segmentation import (
    COUNT,
    ImageSums,
    consistency_measures,
    consistency_sums,
    images_last,
)
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.shifts import Rectangle
from mmplugins.evaluation.statistics.remembered import remembered
from mmplugins.evaluation.statistics.resampling import Statistic, ratio_of_sums
from mmplugins.evaluation.statistics.weighted import mean_iou
from mmplugins.evaluation.tasks.zones import ZONE_NAMES, ZONES, zone_of


def image_sums(record: Record, plan: Plan, num_classes: int) -> dict[str, np.ndarray]:
    """All that segmenters are measured by, of one image: label maps are large, this is small."""
    return consistency_sums(record, plan, num_classes) | accuracy_sums(record, plan, num_classes)


def segmentation_measures(
    sums: Sequence[ImageSums], plan: Plan, classes: Sequence[str]
) -> list[Measure]:
    """Of all images' sums: of predictions, and of the task where every image has a truth."""
    return consistency_measures(sums, plan) + accuracy_measures(sums, plan, classes)


def accuracy_sums(record: Record, plan: Plan, num_classes: int) -> dict[str, np.ndarray]:
    """Intersection and union of each class with the truth; nothing where none is known.

    Returns:
        right: [2, 1 + S, C], at the reference and at each shift.
        zones: [2, 5, C], at the reference.
        placed, unmoved: [2, 5, C], on canvases.
    """
    scene, truth, frame = record.scene, record.truth, visible(record.scene)
    if truth is None:
        return {}
    inside = counted(truth, scene.core)
    right = np.zeros((2, 1 + len(plan.shifts), num_classes), COUNT)
    for s, shift in enumerate([(0, 0), *plan.shifts]):
        if whole(shift):
            rolled = plan.mode == "roll"
            pair = overlap(truth, record.views[s], shift, scene.core, circular=rolled)
            right[:, s] = class_counts(*pair, inside, num_classes=num_classes)[:, 0]
    seen = counted(truth, frame) * (1 + _zones(frame, frame))
    pair = cut(truth, frame), cut(record.views[0], frame)
    zones = class_counts(*pair, seen, num_classes=num_classes, groups=ZONES)
    sums = {"right": right, "zones": zones.astype(COUNT)}
    on_canvas = plan.mode in ("canvas", "masked_canvas")
    return sums | (_counterfactual(record, plan, inside, num_classes) if on_canvas else {})


def accuracy_measures(
    sums: Sequence[ImageSums], plan: Plan, classes: Sequence[str]
) -> list[Measure]:
    """Of all images' sums, where every image has a truth."""
    if not all("right" in image for image in sums):
        return []

    def measure(metric: str, axis: Axis, points: Sequence, statistic: Statistic) -> Measure:
        return Measure("task", metric, "labels", axis, points, statistic)

    right, zones = images_last(sums, "right"), images_last(sums, "zones")
    by_zone = measure("zone mIoU", "zone", ZONE_NAMES, remembered(mean_iou(*zones)))
    measures = [
        measure("mIoU", "shift", [(0, 0), *plan.shifts], remembered(mean_iou(*right))),
        measure("IoU", "class", classes, ratio_of_sums(*right[:, 0])),
        by_zone,
        by_zone.then("zone mIoU variance", "zone", ["all"], _variance),
    ]
    if "placed" in sums[0]:
        placed, unmoved = (
            remembered(mean_iou(*images_last(sums, name))) for name in ("placed", "unmoved")
        )
        statistics = {
            "placed zone mIoU": placed,
            "unmoved zone mIoU": unmoved,
            "zone effect": lambda weights: placed(weights) - unmoved(weights),
        }
        measures += [measure(name, "zone", ZONE_NAMES, each) for name, each in statistics.items()]
    return measures


def _counterfactual(
    record: Record, plan: Plan, inside: Bool[np.ndarray, "h w"], num_classes: int
) -> dict[str, np.ndarray]:
    """The content in the zones of the view that shifts put it into, and as labelled unmoved."""
    core, view = record.scene.core, record.scene.view
    placed, unmoved = np.zeros((2, 2, ZONES, num_classes), COUNT)
    for shifted, (dy, dx) in zip(record.views[1:], plan.shifts, strict=True):
        there = tuple(int(side + step) for side, step in zip(core, (dy, dx, dy, dx), strict=True))
        group = inside * (1 + _zones(there, (0, 0, *view)))
        for sums, said in ((placed, cut(shifted, there)), (unmoved, cut(record.views[0], core))):
            truth = cut(record.truth, core)
            sums += class_counts(truth, said, group, num_classes=num_classes, groups=ZONES)
    return {"placed": placed, "unmoved": unmoved}


def _variance(values: Float[np.ndarray, "b 5"]) -> Float[np.ndarray, "b 1"]:
    return (100 * values).var(-1, keepdims=True)


def _zones(rectangle: Rectangle, frame: Rectangle) -> Integer[np.ndarray, "h w"]:
    """The annulus of the frame that each pixel's centre lies in, 0 along the border."""
    y, x = (np.arange(rectangle[a], rectangle[a + 2]) - frame[a] + 0.5 for a in (0, 1))
    return zone_of(y[:, None], x, frame[2] - frame[0], frame[3] - frame[1], ZONES)
