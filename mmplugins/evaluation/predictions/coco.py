"""Matches of detections with objects, by COCO's own code: https://github.com/cocodataset/cocoapi.

What it knows of areas also serves to leave things out. An object with an area outside a range need
not be found, and finding it is neither right nor wrong. A detection with an area outside is right
where it matches an object inside, and never wrong. `OUTSIDE` is outside every range.
"""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import count

import numpy as np
from jaxtyping import Bool, Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.statistics.weighted import Matches, matches_of

Ranges = Mapping[str, tuple[float, float]]

OUTSIDE = -1.0
ALL: Ranges = {"all": (0, 1e10)}
SIZES: Ranges = {
    **ALL,
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}
COCO_TYPES = {"box": "bbox", "mask": "segm"}


@dataclass(frozen=True, eq=False)
class Annotations:
    """Objects or detections of every image, with their areas; crowds where there are any."""

    views: Sequence[Detections]
    areas: Sequence[Float[np.ndarray, " n"]]
    crowds: Sequence[Bool[np.ndarray, " n"]] | None = None

    def only(self, which: Sequence[Bool[np.ndarray, " n"]]) -> "Annotations":
        """Those of a boolean mask for each image."""
        views, areas, crowds = (
            None if kept is None else [kept[image][rows] for image, rows in enumerate(which)]
            for kept in (self.views, self.areas, self.crowds)
        )
        return Annotations(views, areas, crowds)


def matched(
    truth: Annotations, found: Annotations, kind: str, *, ranges: Ranges = ALL, most: int = 0
) -> dict[str, list[Matches]]:
    """For each range of areas the matches of each class of the truth, by rising label.

    Args:
        truth: objects.
        found: detections.
        kind: "box" or "mask".
        ranges: of areas, ends included.
        most: detections of one class in one image that count, by score; all of them without.
    """
    with redirect_stdout(StringIO()):  # it has much to say
        evaluation = COCOeval(_as_coco(truth, kind), _as_coco(found, kind), COCO_TYPES[kind])
        evaluation.params.areaRng = [list(ends) for ends in ranges.values()]
        evaluation.params.areaRngLbl = list(ranges)
        evaluation.params.maxDets = [most or max(map(len, found.views), default=0)]
        evaluation.evaluate()
    known = bool(evaluation.params.catIds)
    return {name: matches_of(evaluation, name) if known else [] for name in ranges}


def _as_coco(annotations: Annotations, kind: str) -> COCO:
    numbers = count(1)  # COCO's code takes a number of 0 for no match
    rows = []
    for image, (view, areas) in enumerate(zip(annotations.views, annotations.areas, strict=True)):
        crowds = None if annotations.crowds is None else annotations.crowds[image]
        for row, (x1, y1, x2, y2) in enumerate(view.boxes.tolist()):
            annotation = {
                "id": next(numbers),
                "image_id": image,
                "category_id": int(view.labels[row]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(areas[row]),
                "iscrowd": 0 if crowds is None else int(crowds[row]),
                "score": float(view.scores[row]),
            }
            if kind == "mask":
                annotation["segmentation"] = view.masks[row]
            rows.append(annotation)
    coco = COCO()
    coco.dataset = {
        # Sizes are asked for, and used for polygons only.
        "images": [
            {"id": image, "height": 0, "width": 0} for image in range(len(annotations.views))
        ],
        "categories": [{"id": label} for label in sorted({row["category_id"] for row in rows})],
        "annotations": rows,
    }
    coco.createIndex()
    return coco
