"""Matches of detections with objects by COCO's rules, for many views of an image at once.

Detections by falling score each take, of the objects of their class with an IoU of at least the
threshold that nobody took before, the one of largest IoU; crowds can be taken again and again.
Objects to be ignored are taken only where no other can be. The overlaps are COCO's own code's,
https://github.com/cocodataset/cocoapi, and so are the numbers; that code matches one view, range of
areas and threshold after the other, which takes many times as long as a detector's pass.

What the rules know of areas also serves to leave things out. An object with an area outside a range
need not be found, and finding it is neither right nor wrong. A detection with an area outside is
right where it matches an object inside, and never wrong. `OUTSIDE` is outside every range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco_masks

from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.statistics.weighted import IOU_THRESHOLDS, Matches

Ranges = Mapping[str, tuple[float, float]]  # ends included
Matched = Mapping[str, Mapping[int, Matches]]  # by range of areas and label

OUTSIDE = -1.0
ALL: Ranges = {"all": (0, 1e10)}
SIZES: Ranges = {
    **ALL,
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}


@dataclass(frozen=True, eq=False)
class Annotations:
    """Objects or detections of every image, with their areas; crowds where there are any."""

    views: Sequence[Detections]
    areas: Sequence[Float[np.ndarray, " n"]]
    crowds: Sequence[Bool[np.ndarray, " n"]] | None = None

    def crowd(self, image: int) -> Bool[np.ndarray, " n"]:
        """Of one image."""
        return np.zeros(len(self.views[image]), bool) if self.crowds is None else self.crowds[image]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Detections of one image that take part, by falling score, and what became of them."""

    image: int
    scores: Float[np.ndarray, " d"]
    labels: Int[np.ndarray, " d"]
    hit: Bool[np.ndarray, "A T d"]
    ignored: Bool[np.ndarray, "A T d"]


def matched(
    pairs: Sequence[tuple[Annotations, Annotations]],
    kind: str,
    *,
    ranges: Ranges = ALL,
    most: int | None = None,
) -> list[Matched]:
    """For each pair of truth and detections, the matches of each class of any truth.

    Args:
        pairs: of the same images.
        kind: "box" or "mask".
        ranges: of areas.
        most: detections of one class in one image that count, by score; all of them without.
    """
    images = len(pairs[0][0].views)
    rows = [_match_image(pairs, image, kind, ranges, most) for image in range(images)]
    labels = [each.labels for truth, _ in pairs for each in truth.views]
    classes = np.unique(np.concatenate([np.zeros(0, int), *labels]))
    return [
        _by_class(classes, truth, [of_image[pair] for of_image in rows], ranges)
        for pair, (truth, _) in enumerate(pairs)
    ]


def _match_image(
    pairs: Sequence[tuple[Annotations, Annotations]],
    image: int,
    kind: str,
    ranges: Ranges,
    most: int | None,
) -> list[_Rows]:
    orders = [_ranked(found.views[image], most) for _, found in pairs]
    objects = [len(truth.views[image]) for truth, _ in pairs]
    shape = len(pairs), max(map(len, orders)), max(objects)
    # Pairs of different sizes are filled up with what overlaps nothing.
    iou = np.full(shape, -1.0)
    crowd = np.zeros((shape[0], 1, 1, shape[2]), bool)
    ignored = np.ones((shape[0], len(ranges), 1, shape[2]), bool)
    beyond = np.ones((shape[0], len(ranges), 1, shape[1]), bool)
    for pair, ((truth, found), order) in enumerate(zip(pairs, orders, strict=True)):
        there, here = truth.crowd(image), slice(objects[pair])
        iou[pair, : len(order), here] = _overlaps(
            truth.views[image], found.views[image][order], there, kind
        )
        crowd[pair, ..., here] = there
        ignored[pair, :, 0, here] = _outside(truth.areas[image], ranges) | there
        beyond[pair, :, 0, : len(order)] = _outside(found.areas[image][order], ranges)
    taken, is_ignored = _greedy(iou, crowd, ignored)
    is_ignored |= ~taken & beyond
    return [
        _Rows(
            image,
            found.views[image].scores[order],
            found.views[image].labels[order],
            taken[pair, ..., : len(order)],
            is_ignored[pair, ..., : len(order)],
        )
        for pair, ((_, found), order) in enumerate(zip(pairs, orders, strict=True))
    ]


def _greedy(
    iou: Float[np.ndarray, "V d g"],
    crowd: Bool[np.ndarray, "V 1 1 g"],
    ignored: Bool[np.ndarray, "V A 1 g"],
) -> tuple[Bool[np.ndarray, "V A T d"], Bool[np.ndarray, "V A T d"]]:
    """Which detections take an object, and which take one that is to be ignored."""
    # The last of equals is taken, so that the first one is when turned around.
    iou, crowd, ignored = (each[..., ::-1] for each in (iou, crowd, ignored))
    views, detections, objects = iou.shape
    shape = views, ignored.shape[1], len(IOU_THRESHOLDS)
    takes, takes_ignored = (np.zeros((*shape, detections), bool) for _ in range(2))
    free = np.ones((*shape, objects), bool)
    # Nobody can take what overlaps it by less than the least threshold.
    for rank in np.flatnonzero((iou >= IOU_THRESHOLDS[0]).any(axis=(0, 2))):
        near = iou[:, None, None, rank]
        possible = free & (near >= IOU_THRESHOLDS[:, None])
        wanted = possible & ~ignored
        possible = np.where(wanted.any(axis=-1, keepdims=True), wanted, possible)
        best = np.where(possible, near, -1.0).argmax(axis=-1)[..., None]
        found = np.take_along_axis(possible, best, axis=-1)
        takes[..., rank] = found[..., 0]
        on_ignored = np.take_along_axis(np.broadcast_to(ignored, free.shape), best, axis=-1)
        takes_ignored[..., rank] = (found & on_ignored)[..., 0]
        on_crowd = np.take_along_axis(np.broadcast_to(crowd, free.shape), best, axis=-1)
        left = np.take_along_axis(free, best, axis=-1) & (~found | on_crowd)
        np.put_along_axis(free, best, left, axis=-1)
    return takes, takes_ignored


def _ranked(found: Detections, most: int | None) -> Int[np.ndarray, " d"]:
    """By falling score, of each class not more than `most`."""
    order = np.argsort(-found.scores, kind="stable")
    if most is None:
        return order
    labels = found.labels[order]
    kept = [np.flatnonzero(labels == label)[:most] for label in np.unique(labels)]
    return order[np.sort(np.concatenate([*kept, np.zeros(0, int)]))]


def _overlaps(
    truth: Detections, found: Detections, crowd: Bool[np.ndarray, " g"], kind: str
) -> Float[np.ndarray, "d g"]:
    """IoU, with crowds the part of the detection that they cover; -1 between classes."""
    same = found.labels[:, None] == truth.labels
    if not same.any():
        return np.full(same.shape, -1.0)
    if kind == "mask":
        sides = [list(found.masks), list(truth.masks)]
    else:
        sides = [np.hstack([b[:, :2], b[:, 2:] - b[:, :2]]) for b in (found.boxes, truth.boxes)]
    return np.where(same, coco_masks.iou(*sides, crowd.astype(int).tolist()), -1.0)


def _outside(areas: Float[np.ndarray, " n"], ranges: Ranges) -> Bool[np.ndarray, "A n"]:
    return np.array([(areas < low) | (areas > high) for low, high in ranges.values()])


def _by_class(
    classes: Int[np.ndarray, " C"], truth: Annotations, rows: Sequence[_Rows], ranges: Ranges
) -> Matched:
    if not rows:
        return {name: {} for name in ranges}
    image = np.repeat([each.image for each in rows], [len(each.scores) for each in rows])
    scores = np.concatenate([each.scores for each in rows])
    labels = np.concatenate([each.labels for each in rows])
    hit, ignored = (
        np.concatenate(part, axis=-1)
        for part in ([each.hit for each in rows], [each.ignored for each in rows])
    )
    result = {}
    for number, (name, ends) in enumerate(ranges.items()):
        counts = np.zeros((len(classes), len(rows)))
        for each, (view, areas) in enumerate(zip(truth.views, truth.areas, strict=True)):
            wanted = ~_outside(areas, {name: ends})[0] & ~truth.crowd(each)
            np.add.at(counts[:, each], np.searchsorted(classes, view.labels[wanted]), 1)
        result[name] = {}
        for label, truths in zip(classes.tolist(), counts, strict=True):
            at = np.flatnonzero(labels == label)
            result[name][label] = Matches(
                image[at], scores[at], hit[number][:, at], ignored[number][:, at], truths
            )
    return result
