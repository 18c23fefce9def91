"""Metrics of label maps under shifts: known answers, faults that must show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mmplugins.evaluation.predictions.label_maps import (
    FlipMap,
    Sums,
    agreement,
    boundary_band,
    class_counts,
    consistency,
    cut,
    overlap,
    total_variation,
)

CLASSES = 5
IGNORED = 255
MARGIN = 12
SHIFTS = [(0, 0), (1, 0), (0, -1), (8, -3), (-12, 12), (5, 7)]


def pieces(seed=0, side=12, cells=5):
    """A map of constant rectangles `side` pixels wide, neighbours of which may be of one class."""
    labels = np.random.default_rng(seed).integers(0, CLASSES, (cells, cells + 1))
    return labels.repeat(side, 0).repeat(side, 1)


def window(scene, shift):
    """What a window shows of the scene once its content has moved by the shift."""
    height, width = (side - 2 * MARGIN for side in scene.shape[-2:])
    top, left = MARGIN - shift[0], MARGIN - shift[1]
    return scene[..., top : top + height, left : left + width]


def core_of(view):
    height, width = view.shape[-2:]
    return (MARGIN, MARGIN, height - MARGIN, width - MARGIN)


def compare(reference, shifted, shift, core=None, *, circular=False):
    core = core or core_of(reference)
    first, second = overlap(reference, shifted, shift, core, circular=circular)
    band = cut(boundary_band(reference, circular=circular), core)
    everything = np.ones(first.shape, dtype=bool)
    return consistency(first, second, everything, band, num_classes=CLASSES)


def share(sums):
    return sums.total / sums.count


def self_miou(counts):
    present = counts.union > 0
    return (counts.intersection[present] / counts.union[present]).mean()


def softmax(seed, shape):
    values = np.exp(np.random.default_rng(seed).normal(size=shape))
    return values / values.sum(0)


# Known answers


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_constant_map_agrees_at_every_shift(shift):
    constant = np.full((40, 50), 3)
    result = compare(constant, constant, shift)
    assert result.everywhere == result.interior == Sums(16 * 26, 16 * 26)
    assert result.boundary == Sums(0, 0)
    assert self_miou(result.classes) == 1


@pytest.mark.parametrize("shift", SHIFTS)
def test_an_exactly_shifted_map_agrees_everywhere(shift):
    scene, probabilities = pieces(), softmax(1, (CLASSES, 60, 72))
    reference, shifted = window(scene, (0, 0)), window(scene, shift)
    core = core_of(reference)
    result = compare(reference, shifted, shift)
    assert share(result.everywhere) == share(result.interior) == share(result.boundary) == 1
    assert result.interior.count + result.boundary.count == result.everywhere.count
    assert self_miou(result.classes) == 1
    both = overlap(window(probabilities, (0, 0)), window(probabilities, shift), shift, core)
    counted = np.ones(both[0].shape[1:], dtype=bool)
    assert total_variation(*both, counted) == Sums(0.0, counted.size)
    flips = FlipMap(*reference.shape)
    flips.add(*overlap(reference, shifted, shift, core), counted, core)
    assert flips.flips.sum() == 0
    assert flips.visits.sum() == counted.size


def test_shuffled_labels_agree_by_the_sum_of_squared_frequencies():
    rng = np.random.default_rng(0)
    frequencies = np.array([0.5, 0.25, 0.15, 0.1, 0.0])
    labels = rng.choice(CLASSES, size=(200, 200), p=frequencies)
    everything = np.ones(labels.shape, dtype=bool)
    shuffled = rng.permutation(labels.ravel()).reshape(labels.shape)
    found = np.bincount(labels.ravel(), minlength=CLASSES) / labels.size
    agreed = share(agreement(labels, shuffled, everything))
    assert agreed == pytest.approx(np.square(found).sum(), abs=0.01)  # four standard errors
    # expected at p: intersection p^2, union 2p - p^2; the class that is absent does not count
    present = frequencies[frequencies > 0]
    iou = self_miou(class_counts(labels, shuffled, everything, num_classes=CLASSES))
    assert iou == pytest.approx((present / (2 - present)).mean(), abs=0.01)


def test_disjoint_distributions_are_at_distance_one():
    one, other = np.zeros((2, CLASSES, 3, 4))
    one[0] = other[2] = 1
    counted = np.ones((3, 4), dtype=bool)
    assert total_variation(one, other, counted) == Sums(12.0, 12)
    assert total_variation(one, (one + other) / 2, counted) == Sums(6.0, 12)
    counted[0] = False
    one[:, 0] = 0  # nor need there be a distribution where nothing counts
    assert total_variation(one, other, counted) == Sums(8.0, 8)


@pytest.mark.parametrize("shift", SHIFTS)
def test_rolled_maps_agree_circularly_to_the_border(shift):
    reference = pieces()
    whole = (0, 0, *reference.shape)
    shifted = np.roll(reference, shift, axis=(0, 1))
    result = compare(reference, shifted, shift, whole, circular=True)
    assert result.everywhere == Sums(reference.size, reference.size)
    rolled_band = np.roll(boundary_band(reference, circular=True), shift, axis=(0, 1))
    np.testing.assert_array_equal(boundary_band(shifted, circular=True), rolled_band)


def test_a_straight_border_has_the_radius_on_each_side():
    labels = np.zeros((3, 20), dtype=np.uint8)
    labels[:, 10:] = 1
    columns = np.flatnonzero(boundary_band(labels)[1])
    np.testing.assert_array_equal(columns, np.arange(6, 14))
    columns = np.flatnonzero(boundary_band(labels, circular=True)[1])  # the seam is a border too
    np.testing.assert_array_equal(columns, [0, 1, 2, 3, *range(6, 14), 16, 17, 18, 19])


def test_a_flip_is_counted_where_the_frame_shows_it():
    reference = np.zeros((6, 8), dtype=int)
    core, shift = (1, 2, 5, 7), (1, -2)
    shifted = np.zeros_like(reference)
    shifted[3 + 1, 5 - 2] = 1  # what lies at (3, 5) of the reference
    shifted[1 + 1, 2 - 2] = 1  # at (1, 2), which does not count
    counted = np.ones((4, 5), dtype=bool)
    counted[0, 0] = False
    flips = FlipMap(7, 8)  # a frame larger than this map
    for moved, by in ((shifted, shift), (reference, (0, 1))):
        flips.add(*overlap(reference, moved, by, core), counted, core)
    assert flips.flips.sum() == 1
    expected = np.full((7, 8), np.nan)
    expected[1:5, 2:7] = 0
    expected[1, 2] = np.nan
    expected[3, 5] = 1 / 2
    np.testing.assert_array_equal(flips.mean(), expected)


# Faults in the shift back


@pytest.mark.parametrize("off_by", [(1, 0), (0, -1)])
def test_one_pixel_off_costs_agreement_in_the_band_only(off_by):
    scene, (dy, dx) = pieces(), (5, 7)
    reference, shifted = window(scene, (0, 0)), window(scene, (dy, dx))
    core = (6, 6, 27, 35)
    result = compare(reference, shifted, (dy + off_by[0], dx + off_by[1]), core)
    assert share(result.interior) == 1
    assert share(result.boundary) < 0.95
    assert self_miou(result.classes) < 0.99


@pytest.mark.parametrize("fault", [(-8, 3), (-3, 8), (8, 3)], ids=["sign", "axes", "one sign"])
@pytest.mark.parametrize("circular", [False, True])
def test_wrong_signs_and_swapped_axes_show(fault, circular):
    scene, shift = pieces(), (8, -3)
    if circular:
        reference, shifted = scene, np.roll(scene, shift, axis=(0, 1))
    else:
        reference, shifted = window(scene, (0, 0)), window(scene, shift)
    core = core_of(reference)
    assert share(compare(reference, shifted, shift, core, circular=circular).everywhere) == 1
    assert share(compare(reference, shifted, fault, core, circular=circular).everywhere) < 0.95


def test_one_pixel_off_on_real_labels(data_root):
    file = min(data_root.glob("camvid/annotations/val/*.png"))
    scene = np.asarray(Image.open(file)).astype(int)
    reference, shifted = window(scene, (0, 0)), window(scene, (8, -4))
    core = core_of(reference)
    band = cut(boundary_band(reference), core)
    first, second = overlap(reference, shifted, (8, -4), core)
    everything = np.ones(first.shape, dtype=bool)
    assert share(agreement(first, second, everything)) == 1
    first, second = overlap(reference, shifted, (8, -5), core)
    assert share(agreement(first, second, everything & ~band)) == 1
    assert share(agreement(first, second, band)) < 1


# Properties

maps = hnp.arrays(int, (2, 7, 9), elements=st.integers(0, CLASSES - 1))
masks = hnp.arrays(bool, (2, 7, 9))


@given(maps, masks, st.integers(0, 7), st.integers(0, 99))
def test_sums_are_shares_symmetric_and_add_over_a_split(both, flags, row, seed):
    (first, second), (counted, band) = both, flags
    q, q_shifted = softmax(seed, (CLASSES, 7, 9)), softmax(seed + 1, (CLASSES, 7, 9))

    def sums(a, b, q_a, q_b, rows):
        args = a[rows], b[rows], counted[rows]
        result = consistency(*args, band[rows], num_classes=CLASSES)
        variation = total_variation(q_a[:, rows], q_b[:, rows], counted[rows])
        ratios = [result.everywhere, result.interior, result.boundary, variation]
        assert all(0 <= each.total <= each.count + 1e-9 for each in ratios)
        classes = result.classes
        assert (classes.intersection >= 0).all()
        assert (classes.intersection <= classes.union).all()
        assert classes.intersection.sum() == result.everywhere.total
        flat = [[each.total, each.count] for each in ratios]
        return np.concatenate([np.ravel(flat), classes.intersection, classes.union])

    whole = sums(first, second, q, q_shifted, slice(None))
    np.testing.assert_allclose(sums(second, first, q_shifted, q, slice(None)), whole, rtol=1e-12)
    top = sums(first, second, q, q_shifted, slice(None, row))
    bottom = sums(first, second, q, q_shifted, slice(row, None))
    np.testing.assert_allclose(top + bottom, whole, rtol=1e-12)


# Errors


@pytest.mark.parametrize(
    ("shift", "core", "circular", "message"),
    [
        ((3, 0), (0, 0, 8, 9), False, r"under shift \(3, 0\).*\(3, 0, 11, 9\).*10 x 12"),
        ((0, -1), (0, 0, 8, 9), False, r"\(0, -1, 8, 8\).*leaves"),
        ((-1, 0), (0, 0, 8, 9), False, r"\(-1, 0, 7, 9\).*leaves"),
        ((0, 0), (0, 0, 8, 13), True, "leaves the map of 10 x 12"),
        ((0, 0), (4, 0, 4, 9), False, "empty"),
        ((0.5, 0), (0, 0, 8, 9), False, "whole pixels"),
    ],
)
def test_cores_that_leave_the_map_and_parts_of_pixels_are_refused(shift, core, circular, message):
    labels = np.zeros((10, 12), dtype=int)
    with pytest.raises(ValueError, match=message):
        overlap(labels, labels, shift, core, circular=circular)


def test_other_misuse_is_refused():
    labels, everything = np.zeros((4, 4), dtype=int), np.ones((4, 4), dtype=bool)
    with pytest.raises(ValueError, match="different sizes"):
        overlap(labels, labels[1:], (1, 0), (0, 0, 2, 2), circular=True)
    with pytest.raises(ValueError, match="radius=0"):
        boundary_band(labels, radius=0)
    with pytest.raises(ValueError, match="labels 255 to 255 among"):
        class_counts(labels, labels + IGNORED, everything, num_classes=3)
    with pytest.raises(ValueError, match="labels 3 to 3 among"):
        class_counts(labels, labels + 3, everything, num_classes=3)
    with pytest.raises(ValueError, match="labels -1 to -1 among"):
        class_counts(labels - 1, labels, everything, num_classes=3)
    with pytest.raises(ValueError, match="no softmax"):
        total_variation(np.ones((2, 4, 4)) / 2, np.ones((2, 4, 4)), everything)
    with pytest.raises(ValueError, match=r"core \(0, 0, 4, 3\)"):
        FlipMap(4, 4).add(labels, labels, everything, (0, 0, 4, 3))
    with pytest.raises(ValueError, match="leaves the map of 4 x 3"):
        FlipMap(4, 3).add(labels, labels, everything, (0, 0, 4, 4))
