"""Metrics of label maps under shifts: known answers, faults that must show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mmplugins.evaluation.predictions.label_maps import boundary_band, class_counts, cut, overlap

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
    """Counts outside and inside of the band."""
    core = core or core_of(reference)
    first, second = overlap(reference, shifted, shift, core, circular=circular)
    group = 1 + cut(boundary_band(reference, circular=circular), core)
    return class_counts(first, second, group, num_classes=CLASSES, groups=2)


def share(counts):
    """Of pixels that agree: a pixel that does not is in two unions."""
    shared, either = counts.sum(-1)
    return 2 * shared / (shared + either)


def self_miou(counts):
    shared, either = counts.sum(1)
    return (shared[either > 0] / either[either > 0]).mean()


# Known answers


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_constant_map_agrees_at_every_shift(shift):
    constant = np.full((40, 50), 3)
    expected = np.zeros((2, 2, CLASSES))
    expected[:, 0, 3] = 16 * 26
    np.testing.assert_array_equal(compare(constant, constant, shift), expected)


@pytest.mark.parametrize("shift", SHIFTS)
def test_an_exactly_shifted_map_agrees_everywhere(shift):
    scene = pieces()
    counts = compare(window(scene, (0, 0)), window(scene, shift), shift)
    np.testing.assert_array_equal(share(counts), 1)
    assert counts[0].sum() == 12 * 24
    assert self_miou(counts) == 1


def test_shuffled_labels_agree_by_the_sum_of_squared_frequencies():
    rng = np.random.default_rng(0)
    frequencies = np.array([0.5, 0.25, 0.15, 0.1, 0.0])
    labels = rng.choice(CLASSES, size=(200, 200), p=frequencies)
    everything = np.ones(labels.shape, dtype=bool)
    shuffled = rng.permutation(labels.ravel()).reshape(labels.shape)
    found = np.bincount(labels.ravel(), minlength=CLASSES) / labels.size
    counts = class_counts(labels, shuffled, everything, num_classes=CLASSES)
    assert share(counts) == pytest.approx(np.square(found).sum(), abs=0.01)  # four standard errors
    # expected at p: intersection p^2, union 2p - p^2; the class that is absent does not count
    present = frequencies[frequencies > 0]
    assert self_miou(counts) == pytest.approx((present / (2 - present)).mean(), abs=0.01)


@pytest.mark.parametrize("shift", SHIFTS)
def test_rolled_maps_agree_circularly_to_the_border(shift):
    reference = pieces()
    whole = (0, 0, *reference.shape)
    shifted = np.roll(reference, shift, axis=(0, 1))
    counts = compare(reference, shifted, shift, whole, circular=True)
    assert counts[0].sum() == counts[1].sum() == reference.size
    rolled_band = np.roll(boundary_band(reference, circular=True), shift, axis=(0, 1))
    np.testing.assert_array_equal(boundary_band(shifted, circular=True), rolled_band)


def test_a_straight_border_has_the_radius_on_each_side():
    labels = np.zeros((3, 20), dtype=np.uint8)
    labels[:, 10:] = 1
    columns = np.flatnonzero(boundary_band(labels)[1])
    np.testing.assert_array_equal(columns, np.arange(6, 14))
    columns = np.flatnonzero(boundary_band(labels, circular=True)[1])  # the seam is a border too
    np.testing.assert_array_equal(columns, [0, 1, 2, 3, *range(6, 14), 16, 17, 18, 19])


# Faults in the shift back


@pytest.mark.parametrize("off_by", [(1, 0), (0, -1)])
def test_one_pixel_off_costs_agreement_in_the_band_only(off_by):
    scene, (dy, dx) = pieces(), (5, 7)
    reference, shifted = window(scene, (0, 0)), window(scene, (dy, dx))
    core = (6, 6, 27, 35)
    counts = compare(reference, shifted, (dy + off_by[0], dx + off_by[1]), core)
    interior, boundary = share(counts)
    assert interior == 1
    assert boundary < 0.95
    assert self_miou(counts) < 0.99


@pytest.mark.parametrize("fault", [(-8, 3), (-3, 8), (8, 3)], ids=["sign", "axes", "one sign"])
@pytest.mark.parametrize("circular", [False, True])
def test_wrong_signs_and_swapped_axes_show(fault, circular):
    scene, shift = pieces(), (8, -3)
    if circular:
        reference, shifted = scene, np.roll(scene, shift, axis=(0, 1))
    else:
        reference, shifted = window(scene, (0, 0)), window(scene, shift)
    core = core_of(reference)
    right, wrong = (
        compare(reference, shifted, by, core, circular=circular).sum(1) for by in (shift, fault)
    )
    assert share(right) == 1
    assert share(wrong) < 0.95


def test_one_pixel_off_on_real_labels(data_root):
    file = min(data_root.glob("camvid/annotations/val/*.png"))
    scene = np.asarray(Image.open(file)).astype(int)
    scene[scene >= CLASSES] = 0
    reference, shifted = window(scene, (0, 0)), window(scene, (8, -4))
    np.testing.assert_array_equal(share(compare(reference, shifted, (8, -4))), 1)
    interior, boundary = share(compare(reference, shifted, (8, -5)))
    assert interior == 1
    assert boundary < 1


# Properties

maps = hnp.arrays(int, (2, 7, 9), elements=st.integers(0, CLASSES - 1))
groups = hnp.arrays(int, (7, 9), elements=st.integers(0, 3))


@given(maps, groups, st.integers(0, 7))
def test_counts_are_symmetric_and_add_over_a_split_and_over_groups(both, group, row):
    first, second = both

    def counts(a, b, group, groups=3):
        found = class_counts(a, b, group, num_classes=CLASSES, groups=groups)
        assert found.shape == (2, groups, CLASSES)
        assert (found[0] >= 0).all()
        assert (found[0] <= found[1]).all()
        assert found.sum() == 2 * np.count_nonzero(group)
        return found

    whole = counts(first, second, group)
    np.testing.assert_array_equal(counts(second, first, group), whole)
    top = counts(first[:row], second[:row], group[:row])
    bottom = counts(first[row:], second[row:], group[row:])
    np.testing.assert_array_equal(top + bottom, whole)
    together = counts(first, second, group > 0, groups=1)
    np.testing.assert_array_equal(whole.sum(1, keepdims=True), together)


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
