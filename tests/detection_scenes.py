"""Detections to test with, and areas counted pixel by pixel."""

import numpy as np
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.predictions.matching import (
    compare,
    statistics,
)

FRAME = (0, 0, 96, 128)  # top, left, bottom, right
DRIFTS = ("CD", "CD_px", "SRD", "SD", "SD_bias")


def detections(boxes, scores=None, labels=None, masks=None):
    count = len(boxes)
    return Detections(
        np.reshape(boxes, (-1, 4)),
        np.full(count, 0.9) if scores is None else scores,
        np.zeros(count, int) if labels is None else labels,
        masks,
    )


def with_masks(found, frame=FRAME):
    """Each box filled."""
    masks = []
    for x1, y1, x2, y2 in found.boxes.astype(int).tolist():
        pixels = np.zeros(frame[2:], np.uint8, order="F")
        pixels[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = 1
        masks.append(coco_masks.encode(pixels))
    return Detections(found.boxes, found.scores, found.labels, masks)


def scene(seed, count=12, frame=FRAME, classes=3):
    """Boxes on whole pixels in the frame, with masks."""
    rng = np.random.default_rng(seed)
    height, width = frame[2:]
    size = rng.integers(4, 40, (count, 2))
    corner = rng.integers(0, [width, height] - size + 1)
    boxes = np.concatenate([corner, corner + size], axis=1)
    return with_masks(
        detections(boxes, rng.uniform(0.3, 1, count), rng.integers(0, classes, count)), frame
    )


def summarise(comparisons, weights=None):
    """Of one shift, under weights [.., images]."""
    weights = np.ones(len(comparisons)) if weights is None else np.asarray(weights, float)
    rows = weights.reshape(-1, len(comparisons))
    return {
        name: statistic(rows)[:, 0].reshape(weights.shape[:-1])
        for name, statistic in statistics([comparisons]).items()
    }


def fragment_rate(comparisons, weights=None):
    """Of one list of shifts for each image."""
    weights = np.ones(len(comparisons)) if weights is None else np.asarray(weights, float)
    rows = weights.reshape(-1, len(comparisons))
    by_shift = list(zip(*comparisons, strict=True))
    return statistics(by_shift)["FR"](rows)[:, 0].reshape(weights.shape[:-1])


def scores_of(a, b, core=FRAME, **options):
    return summarise([compare(a, b, core, **options)])


def shared_area(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def iou_of(first, second):
    shared = shared_area(first, second)
    return shared / (shared_area(first, first) + shared_area(second, second) - shared)


small_boxes = st.lists(
    st.tuples(*[st.integers(0, 10)] * 2, *[st.integers(3, 12)] * 2, st.integers(0, 1)), max_size=5
)


def drawn(rows, seed=0):
    """Detections of tuples (x, y, width, height, label), of many overlaps."""
    boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in rows]
    scores = np.random.default_rng(seed).uniform(0.3, 1, len(rows))
    return detections(boxes, scores, np.array([row[-1] for row in rows], int))
