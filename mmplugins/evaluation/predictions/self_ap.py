"""sAP: how well the detections of one view predict those of the other, as average precision.

    sAP = 1/2 [AP(B | A as ground truth) + AP(A | B as ground truth)]

A are the detections in the reference view, B those in the shifted view, moved back; AP is COCO's,
the mean over IoU .50:.95 and the classes of the ground truth, with matches by its rules,
https://github.com/cocodataset/cocoapi. Unlike PC it ranks by score, over all images.

Detections that are not wholly inside the core (shrunk by the margin) are treated as COCO treats
objects outside a range of area: as ground truth they need not be found, and finding them is neither
right nor wrong; as detections they are right where they match an object inside, and never wrong. A
detection inside whose only partner is outside is therefore left out, where PC would count it as
found.

Deviations from COCO's defaults: no limit of 100 detections an image, which would call the rest of
a crowd lost. A direction without ground truth inside the core has no AP, and the other direction
stands alone; without any in both, sAP = 1. COCO matches greedily and prefers objects inside, so
among boxes of one class that all overlap at the core's border it can mistake partners.
"""

from collections.abc import Sequence

import numpy as np

from mmplugins.evaluation.predictions.coco import OUTSIDE, Annotations, matched
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.shifts import Rectangle
from mmplugins.evaluation.statistics.weighted import Matches, mean_average_precision

INSIDE = 1.0  # an area


class SelfAP:
    """Matches once; then gives sAP for any weights of the images, 1 each if not told.

    Args:
        references: A, one an image, above the wanted score.
        shifted_backs: B, likewise.
        cores: one an image.
        margin: what each core is shrunk by.
        kind: "box" or "mask".
    """

    def __init__(
        self,
        references: Sequence[Detections],
        shifted_backs: Sequence[Detections],
        cores: Sequence[Rectangle],
        *,
        margin: float = 0.0,
        kind: str = "box",
    ) -> None:
        if not len(references) == len(shifted_backs) == len(cores):
            raise ValueError(
                f"{len(references)} references, {len(shifted_backs)} shifted views and "
                f"{len(cores)} cores are not of the same images"
            )
        there, back = (
            _annotations(views, cores, margin, kind) for views in (references, shifted_backs)
        )
        matches = matched([(there, back), (back, there)], kind)
        self._directions = [list(direction["all"].values()) for direction in matches]
        self._images = len(cores)

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """[b] for weights [b, images], a scalar for [images]; NaN where all weights are 0."""
        weights = np.ones(self._images) if weights is None else np.asarray(weights, float)
        rows = np.atleast_2d(weights)
        there, back = (_average_precision(direction, rows) for direction in self._directions)
        there, back = np.where(np.isnan(there), back, there), np.where(np.isnan(back), there, back)
        value = np.nan_to_num((there + back) / 2, nan=1.0)
        value[rows.sum(axis=1) == 0] = np.nan
        return value.reshape(weights.shape[:-1])


def _annotations(
    views: Sequence[Detections], cores: Sequence[Rectangle], margin: float, kind: str
) -> Annotations:
    """Serve as ground truth and as detections."""
    areas = [
        np.where(view.inside(core, margin, kind), INSIDE, OUTSIDE)
        for view, core in zip(views, cores, strict=True)
    ]
    return Annotations(views, areas)


def _average_precision(classes: Sequence[Matches], weights: np.ndarray) -> np.ndarray:
    """AP for each row of weights; NaN without ground truth inside."""
    return mean_average_precision(classes)(weights).mean(axis=1)
