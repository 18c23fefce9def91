"""sAP: how well the detections of one view predict those of the other, as average precision.

    sAP = 1/2 [AP(B | A as ground truth) + AP(A | B as ground truth)]

A are the detections in the reference view, B those in the shifted view, moved back; AP is COCO's,
the mean over IoU .50:.95 and the classes of the ground truth, by its own code,
https://github.com/cocodataset/cocoapi. Unlike PC it ranks by score, over all images.

Detections that are not wholly inside the core (shrunk by the margin) are treated as COCO treats
objects outside a range of area, for its code is told an area of 1 inside and of 0 outside: as
ground truth they need not be found, and finding them is neither right nor wrong; as detections
they are right where they match an object inside, and never wrong. A detection inside whose only
partner is outside is therefore left out, where PC would count it as found.

Deviations from COCO's defaults: no limit of 100 detections an image, which would call the rest of
a crowd lost. A direction without ground truth inside the core has no AP, and the other direction
stands alone; without any in both, sAP = 1. COCO matches greedily and prefers objects inside, so
among boxes of one class that all overlap at the core's border it can mistake partners.
"""

import copy
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import count

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.detection_matching import Core
from mmplugins.evaluation.detections import Detections

INSIDE, OUTSIDE = 1.0, 0.0
COCO_TYPES = {"box": "bbox", "mask": "segm"}


class SelfAP:
    """Matches once; then gives sAP for any weights of the images.

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
        cores: Sequence[Core],
        *,
        margin: float = 0.0,
        kind: str = "box",
    ) -> None:
        if not len(references) == len(shifted_backs) == len(cores):
            raise ValueError(
                f"{len(references)} references, {len(shifted_backs)} shifted views and "
                f"{len(cores)} cores are not of the same images"
            )
        both = references, shifted_backs
        with redirect_stdout(StringIO()):
            self._directions = [
                _matched(truth, found, cores, margin, kind) for truth, found in (both, both[::-1])
            ]
        self._images = len(cores)

    def __call__(self, weights: Sequence[int] | None = None) -> float:
        """The value with each image taken so many times, without weights once; NaN of no image.

        Raises:
            ValueError: weights that are no counts, one an image.
        """
        weights = np.ones(self._images, int) if weights is None else np.asarray(weights)
        counts = weights.dtype.kind in "iu" and (weights >= 0).all()
        if not counts or weights.shape != (self._images,):
            raise ValueError(f"weights must be {self._images} counts, one an image")
        if not weights.any():
            return float("nan")
        picks = np.repeat(np.arange(self._images), weights)
        with redirect_stdout(StringIO()):
            values = [_average_precision(direction, picks) for direction in self._directions]
        defined = [value for value in values if not np.isnan(value)]
        return float(np.mean(defined)) if defined else 1.0


def _as_coco(views: Sequence[Detections], cores: Sequence[Core], margin: float, kind: str) -> COCO:
    """Annotations that serve as ground truth and as detections."""
    numbers = count(1)  # COCO's code takes a number of 0 for no match
    annotations = []
    for image, (view, core) in enumerate(zip(views, cores, strict=True)):
        inside = view.inside(core, margin, kind)
        for row, (x1, y1, x2, y2) in enumerate(view.boxes.tolist()):
            annotation = {
                "id": next(numbers),
                "image_id": image,
                "category_id": int(view.labels[row]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": INSIDE if inside[row] else OUTSIDE,
                "iscrowd": 0,
                "score": float(view.scores[row]),
            }
            if kind == "mask":
                annotation["segmentation"] = view.masks[row]
            annotations.append(annotation)
    coco = COCO()
    coco.dataset = {
        # Sizes are asked for, and used for polygons only.
        "images": [{"id": image, "height": 0, "width": 0} for image in range(len(views))],
        "categories": [{"id": label} for label in sorted({a["category_id"] for a in annotations})],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _matched(
    truth: Sequence[Detections],
    found: Sequence[Detections],
    cores: Sequence[Core],
    margin: float,
    kind: str,
) -> COCOeval:
    evaluation = COCOeval(
        *(_as_coco(views, cores, margin, kind) for views in (truth, found)), COCO_TYPES[kind]
    )
    evaluation.params.areaRng = [[(INSIDE + OUTSIDE) / 2, INSIDE + 1]]
    evaluation.params.areaRngLbl = ["inside"]
    evaluation.params.maxDets = [max(map(len, found), default=0)]
    evaluation.evaluate()
    return evaluation


def _average_precision(evaluation: COCOeval, picks: np.ndarray) -> float:
    """AP of a selection of images with repetitions; NaN without ground truth inside."""
    images, classes = len(evaluation.params.imgIds), len(evaluation.params.catIds)
    if not classes:
        return float("nan")
    chosen = copy.copy(evaluation)
    chosen.evalImgs = [
        evaluation.evalImgs[number * images + image] for number in range(classes) for image in picks
    ]
    chosen.params = copy.copy(evaluation.params)
    chosen.params.imgIds = list(range(len(picks)))
    chosen._paramsEval = chosen.params
    chosen.accumulate()
    precision = chosen.eval["precision"]
    return precision[precision > -1].mean() if (precision > -1).any() else float("nan")
