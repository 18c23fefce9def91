"""Prediction consistency of a detector: the measures of all its records.

The detections of each view are moved back and compared with those of the reference, those of a
score of at least `score`: what `matching` counts, and sAP, at every shift. On a canvas all that
touches the content counts, and what lies on the canvas alone does not: see `Plan.slack`.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.predictions.matching import compare, statistics
from mmplugins.evaluation.predictions.self_ap import SelfAP
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.shifts import moved

SCORE = 0.3  # of detections that are shown


def consistency_measures(
    records: Sequence[Record],
    plan: Plan,
    *,
    score: float = SCORE,
    track: Callable[[Sequence], Iterable] = iter,
) -> list[Measure]:
    """PC, mAISC, mIoU_match, drifts, FR and sAP, of boxes and, where there are any, of masks.

    Args:
        records: of detections.
        plan: of their views.
        score: of the detections that are compared.
        track: goes through the shifts, e.g. with a progress bar.
    """
    kinds = ("box", "mask") if all(has_masks(record) for record in records) else ("box",)
    views = [moved_back(record, plan, score) for record in records]
    cores = [record.scene.core for record in records]
    references = [found[0] for found in views]
    comparisons, selves = {kind: [] for kind in kinds}, {kind: [] for kind in kinds}
    for number in track(range(1, 1 + len(plan.shifts))):
        backs = [found[number] for found in views]
        for kind in kinds:
            pairs = zip(references, backs, cores, strict=True)
            comparisons[kind].append(
                [compare(a, b, core, margin=-plan.slack, kind=kind) for a, b, core in pairs]
            )
            selves[kind].append(SelfAP(references, backs, cores, margin=-plan.slack, kind=kind))
    measures = []
    for kind in kinds:
        named = {**statistics(comparisons[kind]), "sAP": _stacked(selves[kind])}
        for name, statistic in named.items():
            axis, points = ("none", ("all",)) if name == "FR" else ("shift", plan.shifts)
            measures.append(Measure("prediction", name, kind, axis, points, statistic))
    return measures


def has_masks(record: Record) -> bool:
    """Whether every view has masks."""
    return all(found.masks is not None for found in record.views)


def moved_back(record: Record, plan: Plan, score: float = 0.0) -> list[Detections]:
    """The detections of all views in the coordinates of the reference, as far as they matter.

    What shares nothing with the core has no partner in it.
    """
    shifts = [(0, 0), *plan.shifts]
    return [
        found.above(score).touching(moved(record.scene.core, shift)).shifted(-shift[0], -shift[1])
        for found, shift in zip(record.views, shifts, strict=True)
    ]


def _stacked(selves: Sequence[SelfAP]) -> Callable:
    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b S"]:
        return np.stack([each(weights) for each in selves], axis=1)

    return statistic
