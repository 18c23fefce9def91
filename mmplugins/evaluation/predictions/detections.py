"""Detections of one view: boxes, scores, classes and masks; moved, thresholded and compared.

Coordinates are pixels of the network's input. Boxes are (left, top, right, bottom), edges and not
centres of pixels, so the box of a mask ends one beyond its last pixel. Masks are compressed run
lengths as COCO has them (https://github.com/cocodataset/cocoapi). Every method takes a `kind`:
"box" reads the boxes, "mask" the masks and their bounding boxes and nothing of the boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import index

import numpy as np
from pycocotools import mask as coco_masks

from mmplugins.evaluation.predictions.run_lengths import moved
from mmplugins.evaluation.shifts import Rectangle

KINDS = ("box", "mask")


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector finds in one view.

    Attributes:
        boxes: [n, 4] left, top, right, bottom; float64.
        scores: [n] float64.
        labels: [n] int64, the classes.
        masks: n run lengths, `{"size": [height, width], "counts": bytes or str}`; None without.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Sequence[dict] | None = None

    def __post_init__(self) -> None:
        """Convert the arrays and hold them to one length.

        Raises:
            ValueError: lengths differ, a box or score is not finite, a label is no integer, or
                masks are not compressed run lengths of one size.
        """
        if not np.array_equal(self.labels, np.asarray(self.labels, dtype=np.int64)):
            raise ValueError("labels must be integers")
        for name, dtype in (("boxes", np.float64), ("scores", np.float64), ("labels", np.int64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or not self.scores.shape == self.labels.shape == (count,):
            raise ValueError(
                "boxes [n, 4], scores [n] and labels [n] must agree, not "
                f"{self.boxes.shape}, {self.scores.shape} and {self.labels.shape}"
            )
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite")
        if self.masks is not None:
            self._check_masks(self.masks)

    def _check_masks(self, masks: Sequence[dict]) -> None:
        if len(masks) != len(self):
            raise ValueError(f"{len(self)} boxes cannot have {len(masks)} masks")
        if any(not isinstance(mask["counts"], bytes | str) for mask in masks):
            raise ValueError("masks must be compressed run lengths: counts in bytes or str")
        if len({tuple(mask["size"]) for mask in masks}) > 1:
            raise ValueError("masks of one view must have one size")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, which: np.ndarray) -> "Detections":
        """Those of a boolean mask or of indices."""
        rows = np.arange(len(self))[which]
        masks = None if self.masks is None else [self.masks[row] for row in rows]
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], masks)

    def above(self, score: float) -> "Detections":
        """Those of at least this score."""
        return self[self.scores >= score]

    def shifted(self, dy: float, dx: float) -> "Detections":
        """Moved down by `dy` and right by `dx`; what leaves the frame of a mask is lost.

        Raises:
            ValueError: masks, and a shift that is no whole number of pixels.
        """
        boxes = self.boxes + np.array([dx, dy, dx, dy])
        if self.masks is None:
            return replace(self, boxes=boxes)
        if dy != round(dy) or dx != round(dx):
            raise ValueError(f"masks move by whole pixels only, not by ({dy}, {dx})")
        masks = moved(self.masks, index(round(dy)), index(round(dx)))
        return replace(self, boxes=boxes, masks=masks)

    def extents(self, kind: str = "box") -> np.ndarray:
        """[n, 4]: the boxes, or the bounding boxes of the masks.

        Raises:
            ValueError: unknown `kind`, or masks asked where there are none.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if kind == "box":
            return self.boxes
        if self.masks is None:
            raise ValueError("kind='mask' needs detections with masks")
        boxes = coco_masks.toBbox(list(self.masks)).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)

    def touching(self, core: Rectangle) -> "Detections":
        """Those whose box or mask shares some of it: no other overlaps what lies within."""
        kinds = ("box",) if self.masks is None else KINDS
        top, left, bottom, right = core
        shares = np.zeros(len(self), bool)
        for kind in kinds:
            x1, y1, x2, y2 = self.extents(kind).T
            shares |= (x2 > left) & (x1 < right) & (y2 > top) & (y1 < bottom)
        return self[shares]

    def inside(self, core: Rectangle, margin: float = 0.0, kind: str = "box") -> np.ndarray:
        """[n] bool: extents that lie in the core shrunk by `margin` on each side.

        All of an extent has to: one that the shrunk core cuts is outside, one that touches its
        border from within is inside. One without area (an empty mask) is outside.
        """
        top, left, bottom, right = core
        x1, y1, x2, y2 = self.extents(kind).T
        fits_x = (x1 >= left + margin) & (x2 <= right - margin) & (x2 > x1)
        fits_y = (y1 >= top + margin) & (y2 <= bottom - margin) & (y2 > y1)
        return fits_x & fits_y


def overlaps(first: Detections, second: Detections, kind: str = "box") -> np.ndarray:
    """[n, m] IoU of every pair of one class; 0 for pairs of different classes."""
    a, b = first.extents(kind), second.extents(kind)
    same = first.labels[:, None] == second.labels
    if kind == "mask":
        if not same.any():
            return np.zeros(same.shape)
        iou = coco_masks.iou(list(first.masks), list(second.masks), [False] * len(second))
        if iou.min() < 0:  # the C code's answer to frames of different sizes
            raise ValueError(
                f"masks of sizes {first.masks[0]['size']} and {second.masks[0]['size']} "
                "cannot be compared"
            )
        return np.where(same, iou, 0.0)
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    shared = sides.clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros(same.shape), where=same & (union > 0))
