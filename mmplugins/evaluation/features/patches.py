"""Classes of patches, from what is known of the pixels, and which patches stand for all."""

import numpy as np
from jaxtyping import Int, Integer
from pycocotools import mask as coco_masks

from mmplugins.evaluation.features.affinity import BACKGROUND, IGNORE
from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.record import Objects


def object_labels(truth: Objects, scene: Scene) -> Integer[np.ndarray, "H W"] | None:
    """The class of each pixel of the reference view; None where objects have no masks.

    Pixels without an object are `BACKGROUND`; those of several classes, of crowds, whose outlines
    are rough, and beyond the content have no known class.
    """
    if truth.found.masks is None and len(truth.found):
        return None
    labels = np.full(scene.view, IGNORE)
    top, left, bottom, right = (max(side, 0) for side in scene.content)
    labels[top:bottom, left:right] = BACKGROUND
    for row, mask in enumerate(truth.found.masks or ()):
        inside = coco_masks.decode(mask).astype(bool) & (labels != IGNORE)
        own = IGNORE if truth.crowd[row] else truth.found.labels[row]
        labels[inside] = np.where(np.isin(labels[inside], (BACKGROUND, own)), own, IGNORE)
    return labels


def patch_labels(
    labels: Integer[np.ndarray, "H W"], patch: int, *, purity: float = 0.75
) -> Integer[np.ndarray, "h w"]:
    """Class of each patch of a label map; 255 where no class covers the part `purity` of it.

    The last row and column of patches may stick out: what is outside has no class.

    Raises:
        ValueError: a purity of which two classes could both have enough.
    """
    if not 0.5 <= purity <= 1:
        raise ValueError(f"purity is a part from 0.5 to 1, not {purity}")
    height, width = labels.shape
    labels = np.pad(labels, ((0, -height % patch), (0, -width % patch)), constant_values=IGNORE)
    cells = labels.reshape(labels.shape[0] // patch, patch, labels.shape[1] // patch, patch)
    cells = cells.transpose(0, 2, 1, 3).reshape(-1, patch * patch)
    out = np.full(len(cells), IGNORE, labels.dtype)
    for each in np.unique(labels[labels != IGNORE]):
        share = (cells == each).mean(1)
        out[(share >= purity) & (share > 0.5)] = each
    return out.reshape(labels.shape[0] // patch, labels.shape[1] // patch)


def chosen(labels: Integer[np.ndarray, "h w"], most: int) -> Int[np.ndarray, " n"]:
    """Numbers, in row-major order, of at most `most` patches with a class; of each class alike.

    Classes with few patches have all of them in, the others as many as each other. Which ones is
    drawn at random, always the same for the same labels.
    """
    known = np.flatnonzero(labels != IGNORE)
    known = np.random.default_rng(0).permutation(known)
    kinds = labels.ravel()[known]
    rank = np.empty(len(known), int)  # among those of its class
    for kind in np.unique(kinds):
        rank[kinds == kind] = np.arange((kinds == kind).sum())
    return np.sort(known[np.argsort(rank, kind="stable")[:most]])
