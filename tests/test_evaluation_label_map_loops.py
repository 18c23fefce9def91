"""Metrics of label maps against loops over pixels."""

import itertools
import math

import numpy as np
import pytest
from test_evaluation_label_maps import CLASSES, IGNORED, softmax

from mmplugins.evaluation.predictions.label_maps import (
    Sums,
    boundary_band,
    class_counts,
    consistency,
    cut,
    overlap,
    total_variation,
)


def slow_band(labels, radius, circular):
    """Infinitely repeated or ending, the map is a function of places; borders are by its values."""
    height, width = labels.shape

    def label(y, x):
        inside = 0 <= y < height and 0 <= x < width
        return labels[y % height, x % width] if circular or inside else None

    def is_edge(y, x):
        around = {label(y - 1, x), label(y + 1, x), label(y, x - 1), label(y, x + 1)}
        return label(y, x) is not None and bool(around - {None, label(y, x)})

    places = itertools.product(range(-radius, height + radius), range(-radius, width + radius))
    edges = [place for place in places if is_edge(*place)]
    near = [
        any(math.hypot(y - v, x - u) < radius for v, u in edges)
        for y, x in itertools.product(range(height), range(width))
    ]
    return np.reshape(near, labels.shape)


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("radius", [1, 3, 4, 5])
def test_band_is_that_of_a_loop(radius, circular):
    labels = np.zeros((16, 18), dtype=int)
    labels[3:5, 12:] = 1  # corners, and a lone pixel
    labels[11, 3] = 2
    np.testing.assert_array_equal(
        boundary_band(labels, radius=radius, circular=circular),
        slow_band(labels, radius, circular),
    )


@pytest.mark.parametrize("circular", [False, True])
def test_all_sums_are_those_of_a_loop(circular):
    rng = np.random.default_rng(4)
    height, width, (dy, dx), core = 20, 24, (3, -2), (2, 4, 15, 21)
    reference, shifted = rng.integers(0, CLASSES, (2, height, width), dtype=np.uint8)
    q, q_shifted = softmax(5, (CLASSES, height, width)), softmax(6, (CLASSES, height, width))
    truth = rng.choice([0, 1, 2, IGNORED], size=(height, width))
    truth[3] = reference[3] % 3
    band = rng.random((height, width)) < 0.4

    agree = {True: [], False: []}
    sets = {name: [set() for _ in range(CLASSES)] for name in ("reference", "shifted", "truth")}
    distance = 0.0
    for y in range(core[0], core[2]):
        for x in range(core[1], core[3]):
            v, u = (y + dy) % height, (x + dx) % width
            if truth[y, x] == IGNORED:
                continue
            agree[bool(band[y, x])].append(reference[y, x] == shifted[v, u])
            sets["reference"][reference[y, x]].add((y, x))
            sets["shifted"][shifted[v, u]].add((y, x))
            sets["truth"][truth[y, x]].add((y, x))
            distance += sum(abs(q[c, y, x] - q_shifted[c, v, u]) for c in range(CLASSES)) / 2

    def shared(one, other):
        pairs = list(zip(sets[one], sets[other], strict=True))
        return [len(a & b) for a, b in pairs], [len(a | b) for a, b in pairs]

    first, second = overlap(reference, shifted, (dy, dx), core, circular=circular)
    counted = cut(truth != IGNORED, core)
    result = consistency(first, second, counted, cut(band, core), num_classes=CLASSES)
    inside, outside = agree[True], agree[False]
    assert result.boundary == Sums(int(sum(inside)), len(inside))
    assert result.interior == Sums(int(sum(outside)), len(outside))
    assert result.everywhere == Sums(int(sum(inside + outside)), len(inside + outside))
    for counts, expected in (
        (result.classes, shared("reference", "shifted")),
        (
            class_counts(second, cut(truth, core), counted, num_classes=CLASSES),
            shared("shifted", "truth"),
        ),
    ):
        np.testing.assert_array_equal(counts.intersection, expected[0])
        np.testing.assert_array_equal(counts.union, expected[1])
    variation = total_variation(*overlap(q, q_shifted, (dy, dx), core, circular=circular), counted)
    assert variation.total == pytest.approx(distance, rel=1e-13)
    assert variation.count == len(inside + outside)
