"""True objects and detections as average precision sees them, all in the reference view's frame.

What is not wholly inside the core gets an area that COCO's code leaves out, so that every shift is
asked for the same objects: as truth it need not be found, as a detection it is never wrong. Of
detections on a canvas that is what touches no content at all, see `Plan.slack`.
Other areas are in pixels of the original image, as COCO's small, medium and large are: of objects
the annotation's, of detections that of the box or mask over the scale of both axes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from pycocotools import mask as coco_masks

from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.coco import OUTSIDE, Annotations
from mmplugins.evaluation.predictions.consistency import has_masks
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.shifts import Rectangle, Shift, moved

ROUNDING = 1e-2  # pixels that a scaled box may stick out of the content that it fills


def cores(records: Sequence[Record]) -> list[Rectangle]:
    """What every shift keeps in sight."""
    return [record.scene.core for record in records]


def kinds_of(records: Sequence[Record]) -> tuple[str, ...]:
    """Boxes, and masks where all objects and all detections have one."""
    truths = [record.truth for record in records]
    drawn = all(t.found.masks is not None or not len(t.found) for t in truths if t)
    return ("box", "mask") if drawn and all(map(has_masks, records)) else ("box",)


def truth_of(
    records: Sequence[Record],
    kind: str,
    inside: Sequence[Rectangle],
    slack: float = ROUNDING,
) -> Annotations:
    """The objects of every image; those outside its rectangle, or cut by it, are to be ignored.

    Args:
        records: one an image.
        kind: "box" or "mask".
        inside: a rectangle for each image.
        slack: pixels that an object may stick out of it.

    Raises:
        ValueError: nothing is known of an image.
    """
    if unknown := [record.image for record in records if record.truth is None]:
        raise ValueError(f"the truth about image {unknown[0]} is not known")
    truths = [record.truth for record in records]
    areas = []
    for truth, rectangle in zip(truths, inside, strict=True):
        # A mask ends where the view does, its box goes on.
        counts = truth.found.inside(rectangle, -slack)
        if kind == "mask" and len(truth.found):
            counts &= truth.found.inside(rectangle, -slack, kind)
        areas.append(np.where(counts, truth.area, OUTSIDE))
    return Annotations([truth.found for truth in truths], areas, [truth.crowd for truth in truths])


def found_in(
    records: Sequence[Record],
    view: int,
    kind: str,
    inside: Sequence[Rectangle],
    *,
    shift: Shift = (0, 0),
    slack: float = 0.0,
) -> Annotations:
    """The detections of one view of every image, moved back.

    Args:
        records: one an image.
        view: its number; 0 is the reference.
        kind: "box" or "mask".
        inside: a rectangle for each image; detections that are not wholly inside are never wrong.
        shift: of the view.
        slack: pixels that a detection may stick out of the rectangle.
    """
    dy, dx = shift
    seen = (record.views[view] for record in records)
    if kind == "box":  # masks take time to move
        seen = (replace(found, masks=None) for found in seen)
    # What shares nothing with the rectangle is neither right nor wrong.
    near = (found.touching(moved(r, shift)) for found, r in zip(seen, inside, strict=True))
    views = [found.shifted(-dy, -dx) for found in near]
    areas = [
        np.where(
            found.inside(rectangle, -slack, kind) if len(found) else np.zeros(0, bool),
            _area(found, kind) / (record.scale[0] * record.scale[1]),
            OUTSIDE,
        )
        for record, found, rectangle in zip(records, views, inside, strict=True)
    ]
    return Annotations(views, areas)


def found_by(
    records: Sequence[Record], plan: Plan, view: int, kind: str, inside: Sequence[Rectangle]
) -> Annotations:
    """`found_in` a view of a plan of shifts.

    Raises:
        ValueError: what is rolled around the border does not come back in one piece.
    """
    if view and plan.mode == "roll":
        raise ValueError("mode roll cuts objects at the border: move detections by another mode")
    shift = plan.shifts[view - 1] if view else (0, 0)
    return found_in(records, view, kind, inside, shift=shift, slack=plan.slack)


def centres(
    found: Detections, kind: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(y, x) of the middle of each box, or of the box around each mask."""
    boxes = found.extents(kind) if len(found) else found.boxes
    return (boxes[:, 1] + boxes[:, 3]) / 2, (boxes[:, 0] + boxes[:, 2]) / 2


def _area(found: Detections, kind: str) -> Float[np.ndarray, " n"]:
    if kind == "mask":
        return coco_masks.area(list(found.masks or [])).astype(np.float64).reshape(-1)
    return (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
