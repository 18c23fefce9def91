"""AP as a function of the shift or the size: AP, AP50, AP75, AP_S, AP_M, AP_L of all views.

    AP       mean over IoU .50:.95 and the classes with truth; AP50 and AP75 at one IoU
    AP_S     of objects below 32^2 pixels of the original image, AP_M below 96^2, AP_L above

The numbers are COCO's, https://github.com/cocodataset/cocoapi, with its 100 detections of a class
in an image; but boxes and masks are compared on the pixels of the network's input, to which the
truth is scaled, and not on those of the original image. Detections are moved back by the shift and
matched with the same objects under every shift: those wholly inside the core, see `objects.py`. A
figure without any truth is NaN.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.measures import Axis, Measure
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.coco import SIZES, Matched, matched
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.shifts import Shift
from mmplugins.evaluation.statistics.remembered import remembered
from mmplugins.evaluation.statistics.resampling import Statistic
from mmplugins.evaluation.statistics.weighted import Matches, mean_average_precision
from mmplugins.evaluation.tasks.objects import cores, found_by, truth_of

MOST = 100
ALL_IOUS = slice(None)
# Range of areas and IoU thresholds of each figure.
FIGURES = {
    "AP": ("all", ALL_IOUS),
    "AP50": ("all", slice(0, 1)),
    "AP75": ("all", slice(5, 6)),
    "AP_S": ("small", ALL_IOUS),
    "AP_M": ("medium", ALL_IOUS),
    "AP_L": ("large", ALL_IOUS),
}


def match_views(records: Sequence[Record], plan: Plan, kind: str = "box") -> list[Matched]:
    """Matches in the reference and under each shift, for all figures.

    Args:
        records: one an image, with truth.
        plan: of the views.
        kind: "box" or "mask".
    """
    inside = cores(records)
    truth = truth_of(records, kind, inside)
    views = range(1 + len(plan.shifts))
    pairs = [(truth, found_by(records, plan, view, kind, inside)) for view in views]
    return matched(pairs, kind, ranges=SIZES, most=MOST)


def average_precision(views: Sequence[Matched], plan: Plan, kind: str) -> list[Measure]:
    """The figures over shifts: first the reference, (0, 0), then every shift."""
    return figures_of(views, "shift", [(0, 0), *plan.shifts], kind)


def figures_of(
    views: Sequence[Matched], axis: Axis, points: Sequence[Shift | str], kind: str
) -> list[Measure]:
    """The figures of views that were matched for all of them.

    Args:
        views: matches of each.
        axis: what the views are.
        points: one for each view.
        kind: "box" or "mask".
    """
    by_range = {
        name: remembered(_of_views([list(view[name].values()) for view in views])) for name in SIZES
    }

    def figure(of_range: Statistic, ious: slice) -> Statistic:
        return lambda weights: of_range(weights)[..., ious].mean(axis=-1)

    return [
        Measure("task", name, kind, axis, points, figure(by_range[sizes], ious))
        for name, (sizes, ious) in FIGURES.items()
    ]


def _of_views(views: Sequence[Sequence[Matches]]) -> Statistic:
    statistics = [mean_average_precision(classes) for classes in views]

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b V T"]:
        return np.stack([of_view(weights) for of_view in statistics], axis=1)

    return statistic
