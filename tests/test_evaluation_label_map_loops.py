"""Metrics of label maps against loops over pixels."""

import itertools
import math

import numpy as np
import pytest
from test_evaluation_label_maps import CLASSES

from mmplugins.evaluation.predictions.label_maps import boundary_band, class_counts, cut, overlap


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
def test_class_counts_are_those_of_sets_of_places(circular):
    rng = np.random.default_rng(4)
    height, width, (dy, dx), core = 20, 24, (3, -2), (2, 4, 15, 21)
    reference, shifted = rng.integers(0, CLASSES, (2, height, width), dtype=np.uint8)
    group = rng.integers(0, 4, (height, width))

    expected = np.zeros((2, 3, CLASSES))
    for number, label in itertools.product(range(3), range(CLASSES)):
        first, second = set(), set()
        for y, x in itertools.product(range(core[0], core[2]), range(core[1], core[3])):
            if group[y, x] == 1 + number:
                if reference[y, x] == label:
                    first.add((y, x))
                if shifted[(y + dy) % height, (x + dx) % width] == label:
                    second.add((y, x))
        expected[:, number, label] = len(first & second), len(first | second)

    pair = overlap(reference, shifted, (dy, dx), core, circular=circular)
    counts = class_counts(*pair, cut(group, core), num_classes=CLASSES, groups=3)
    np.testing.assert_array_equal(counts, expected)
