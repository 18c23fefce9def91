"""AP and mIoU as functions of the size: M(R) of the same objects and pixels at every size.

    AP ... AP_L      COCO's figures at each size; small, medium and large by pixels of the original
    AP_S input ...   by pixels of the network's input at that size, in mode resize: what is small at
                     half the size may be large at twice of it: of other objects at every size
    mIoU             over the pixels that all views of a mode show
    slide-gap        mIoU looked at as a whole, less mIoU in crops of the training size
    delta            M(R) - M(R0), whose difference from the model without encodings is DiD(R)

Definitions: COCO, https://github.com/cocodataset/cocoapi; small is below 32^2 pixels, large above
96^2. Detections and labels are scaled back to the training size's frame by the host itself, as it
scales them to the original picture's in testing. In the modes that cut content off, crop and
aspect, what is cut is neither right nor wrong, nor is what is found less than 16 pixels off there.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.predictions.coco import OUTSIDE, Annotations, matched
from mmplugins.evaluation.predictions.coco import SIZES as AREAS
from mmplugins.evaluation.predictions.label_maps import class_counts, counted, cut
from mmplugins.evaluation.predictions.segmentation import COUNT, ImageSums, images_last
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.sizes import SizePlan, SizeSet
from mmplugins.evaluation.statistics.remembered import remembered
from mmplugins.evaluation.statistics.weighted import mean_iou
from mmplugins.evaluation.tasks.average_precision import MOST, figures_of
from mmplugins.evaluation.tasks.objects import ROUNDING, found_in, kinds_of, truth_of
from mmplugins.evaluation.tasks.sizes import MODES as BY_RATIO
from mmplugins.evaluation.tasks.sizes import size_numbers

BY_AREA, INPUT = ("AP_S", "AP_M", "AP_L"), " input"


def detection_measures(records: Sequence[Record], plan: SizePlan) -> list[Measure]:
    """Of boxes and, where there are any, of masks: the figures over sizes, and their numbers."""
    return [
        measure
        for kind in kinds_of(records)
        for measure in _numbers(
            [m for group in plan.sets for m in _of_set(records, plan, group, kind)]
        )
    ]


def accuracy_sums(record: Record, plan: SizePlan, num_classes: int) -> dict[str, np.ndarray]:
    """What a segmenter's label maps add up to; nothing where the truth is not known.

    Returns:
        right/MODE: [2, views, C], intersection and union of each class with the truth.
    """
    if record.truth is None:
        return {}
    sums = {}
    for group in plan.sets:
        core = plan.core(group.mode, record.scene.view)
        truth, inside = cut(record.truth, core), counted(record.truth, core)
        counts = [
            class_counts(truth, cut(said, core), inside, num_classes=num_classes)[:, 0]
            for said in (record.views[plan.index(group.mode, point)] for point in group.points)
        ]
        sums[f"right/{group.mode}"] = np.stack(counts, axis=1).astype(COUNT)
    return sums


def segmentation_measures(sums: Sequence[ImageSums], plan: SizePlan) -> list[Measure]:
    """Of all images' sums: mIoU over sizes, its numbers, and the gap to looking at crops."""
    if not all(image.keys() >= {f"right/{group.mode}" for group in plan.sets} for image in sums):
        return []
    curves = {
        group.mode: Measure(
            *("task", "mIoU", "labels", group.mode, group.points),
            remembered(mean_iou(*images_last(sums, f"right/{group.mode}"))),
        )
        for group in plan.sets
    }
    measures = _numbers(list(curves.values()))
    if "slide" in curves:
        slid, whole = curves["slide"], curves["resize"]
        at = [whole.points.index(point) for point in slid.points]
        measures.append(
            Measure(
                *("task", "slide-gap", "labels", "slide", slid.points),
                lambda weights: whole.statistic(weights)[:, at] - slid.statistic(weights),
            )
        )
    return measures


def _of_set(records: Sequence[Record], plan: SizePlan, group: SizeSet, kind: str) -> list[Measure]:
    """All figures of one mode."""
    inside = [plan.core(group.mode, record.scene.view) for record in records]
    slack = plan.slack(group.mode)
    truth = truth_of(records, kind, inside, max(slack, ROUNDING))
    found = [
        found_in(records, plan.index(group.mode, point), kind, inside, slack=slack)
        for point in group.points
    ]

    def figures(pairs: Sequence[tuple[Annotations, Annotations]]) -> list[Measure]:
        views = matched(pairs, kind, ranges=AREAS, most=MOST)
        return figures_of(views, group.mode, group.points, kind)

    measures = figures([(truth, each) for each in found])
    if group.mode == "resize":
        at_input = [
            tuple(_at_input(one, records, plan, point) for one in (truth, each))
            for point, each in zip(group.points, found, strict=True)
        ]
        measures += [
            m.then(f"{m.metric}{INPUT}", m.axis, m.points, lambda values: values)
            for m in figures(at_input)
            if m.metric in BY_AREA
        ]
    return measures


def _at_input(
    annotations: Annotations, records: Sequence[Record], plan: SizePlan, point: str
) -> Annotations:
    """With areas in pixels of the network's input at this size."""
    areas = []
    for record, of_image in zip(records, annotations.areas, strict=True):
        zoom = plan.window("resize", point, record.scene.view).zoom
        scale = np.prod(record.scale) * np.prod(zoom)
        areas.append(np.where(of_image == OUTSIDE, OUTSIDE, of_image * scale))
    return Annotations(annotations.views, areas, annotations.crowds)


def _numbers(curves: Sequence[Measure]) -> list[Measure]:
    """The curves, and what follows from those of each metric."""
    by_metric: Mapping[str, list[Measure]] = {}
    for curve in curves:
        by_metric.setdefault(curve.metric, []).append(curve)
    numbers = []
    for metric, group in by_metric.items():
        if metric.endswith(INPUT):  # of other objects at every size: no change, and no mean
            continue
        if by_ratio := [curve for curve in group if curve.axis in BY_RATIO]:
            numbers += size_numbers(by_ratio)
        numbers += [_from_square(curve) for curve in group if curve.axis == "aspect"]
    return [*curves, *numbers]


def _from_square(curve: Measure) -> Measure:
    square = curve.points.index("square")
    others = [at for at in range(len(curve.points)) if at != square]
    points = [curve.points[at] for at in others]
    return curve.then(
        f"{curve.metric} delta",
        curve.axis,
        points,
        lambda values: values[:, others] - values[:, [square]],
    )
