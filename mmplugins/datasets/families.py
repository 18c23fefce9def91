"""The classes of the embedded benchmark, their families, and scores by family.

Needs no OpenMMLab package: any COCO evaluator can call `family_ap`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

# Classes in label order. Each pair of a family is drawn by a fair coin and told apart by one thing
# alone: see `mmplugins.datasets` for what each family asks of a model.
FAMILY_OF_CLASS: Mapping[str, str] = {
    "striped_disk": "appearance",
    "checked_triangle": "appearance",
    "hexagon_above": "arrangement",
    "hexagon_below": "arrangement",
    "hexagon_left": "arrangement",
    "hexagon_right": "arrangement",
    "hexagon_near": "arrangement",
    "hexagon_far": "arrangement",
    "star_left": "location",
    "star_right": "location",
    "cross_in_pair": "repetition",
    "cross_in_array": "repetition",
}
CLASSES: tuple[str, ...] = tuple(FAMILY_OF_CLASS)
# What the label maps name besides the objects: the ground they lie on.
GROUND = "clutter"
SEG_FAMILY_OF_CLASS: Mapping[str, str] = {GROUND: "appearance", **FAMILY_OF_CLASS}
SEG_CLASSES: tuple[str, ...] = tuple(SEG_FAMILY_OF_CLASS)
# Colours of SEG_CLASSES, for viewers.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (90, 90, 90),
    (255, 150, 40),
    (90, 235, 100),
    (70, 130, 255),
    (20, 50, 160),
    (255, 70, 80),
    (140, 5, 30),
    (255, 225, 50),
    (150, 110, 0),
    (215, 90, 255),
    (110, 0, 160),
    (90, 240, 240),
    (0, 120, 130),
)


def group_by_family(families: Sequence[str]) -> dict[str, list[int]]:
    """Positions of each family's members, families in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, family in enumerate(families):
        groups.setdefault(family, []).append(index)
    return groups


def coco_families(categories: Sequence[Mapping]) -> dict[int, str]:
    """Category id -> family of COCO `categories`, whose `supercategory` is the family.

    Raises:
        ValueError: a category without `supercategory`.
    """
    for category in categories:
        if not category.get("supercategory"):
            raise ValueError(
                f"category {category.get('name', category.get('id'))!r} has no `supercategory`; "
                "scores by family need one in each entry of the annotation file's `categories`"
            )
    return {category["id"]: category["supercategory"] for category in categories}


def family_ap(coco_eval) -> dict[str, float]:
    """AP of each family from a pycocotools `COCOeval` after `accumulate()`.

    The mean over the family's classes, all areas and the largest detection limit: what COCOeval
    gives when `params.catIds` holds this family alone. NaN for a family without ground truth.
    """
    families = coco_families(coco_eval.cocoGt.loadCats(coco_eval.params.catIds))
    # precision: (iou, recall, class, area, detection limit); -1 where a class has no ground truth.
    precision = coco_eval.eval["precision"][:, :, :, 0, -1]
    groups = group_by_family([families[cat_id] for cat_id in coco_eval.params.catIds])
    return {
        family: mean_or_nan(precision[:, :, members][precision[:, :, members] > -1])
        for family, members in groups.items()
    }


def family_iou(iou: Sequence[float], families: Sequence[str]) -> dict[str, float]:
    """Mean IoU of each family; classes that never occur (NaN) do not count.

    Raises:
        ValueError: `families` does not name one family for each class.
    """
    iou = np.asarray(iou)
    if len(families) != len(iou):
        raise ValueError(f"`families` names {len(families)} families for {len(iou)} classes")
    groups = group_by_family(families)
    return {
        family: mean_or_nan(iou[members][~np.isnan(iou[members])])
        for family, members in groups.items()
    }


def mean_or_nan(values: np.ndarray) -> float:
    """The mean, and NaN (without numpy's warning) for no values."""
    return float(values.mean()) if values.size else float("nan")
