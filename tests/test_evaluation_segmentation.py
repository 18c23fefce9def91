"""Segmenters whose equivariance is known, in every mode, and faults that must show."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from segmentation_records import CLASSES, IGNORED, MODES, SHIFTS, pieces, plan_of, record_of, values

from mmplugins.evaluation.predictions.segmentation import flip_map
from mmplugins.evaluation.tasks.segmentation import image_sums

RECODED = np.array([0, 2, 2, 1, 4])
AT_SHIFTS = ("mASSC", "mASSC-in", "mASSC-bd", "self-mIoU")


def ignoring(labels):
    truth = labels.copy()
    truth[30:36, 20:50] = IGNORED
    return truth


# Known answers


@pytest.mark.parametrize("edge", [0, 3])
@pytest.mark.parametrize("mode", MODES)
def test_an_equivariant_model_is_consistent_however_wrong(mode, edge):
    plan, labels = plan_of(mode, edge=edge), pieces()
    record = record_of(plan, labels, lambda view: RECODED[view], truth=ignoring(labels))
    found = values([record], plan)
    for metric in AT_SHIFTS:
        np.testing.assert_array_equal(found[metric], 1)
    assert 0 < found["mIoU"][0] < 1
    np.testing.assert_array_equal(found["mIoU"], found["mIoU"][0])
    if mode in ("canvas", "masked_canvas"):
        np.testing.assert_array_equal(found["placed zone mIoU"], found["unmoved zone mIoU"])
        np.testing.assert_array_equal(found["zone effect"], 0)
    else:
        assert "zone effect" not in found
    flips = flip_map([image_sums(record, plan, CLASSES)])
    assert np.nanmax(flips) == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_truth_is_right_everywhere(mode):
    plan, labels = plan_of(mode), pieces()
    found = values([record_of(plan, labels, truth=ignoring(labels))], plan)
    np.testing.assert_array_equal(found["mIoU"], 1)
    np.testing.assert_array_equal(found["IoU"], [1, 1, 1, 1, np.nan])
    np.testing.assert_array_equal(found["zone mIoU"], 1)
    np.testing.assert_array_equal(found["zone mIoU variance"], 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_model_is_consistent_and_has_no_borders(mode):
    plan, labels = plan_of(mode), pieces()
    record = record_of(plan, labels, lambda view: np.full_like(view, 3), truth=labels)
    found = values([record], plan)
    for metric in ("mASSC", "mASSC-in", "self-mIoU"):
        np.testing.assert_array_equal(found[metric], 1)
    np.testing.assert_array_equal(found["mASSC-bd"], np.nan)
    assert found["mIoU"].max() < 0.2


@pytest.mark.parametrize("mode", MODES)
def test_shuffled_labels_agree_by_the_sum_of_squared_frequencies(mode, generator):
    frequencies = [0.5, 0.25, 0.15, 0.1, 0.0]
    plan, labels = plan_of(mode), np.zeros((200, 208), int)

    def model(view):
        return generator.choice(CLASSES, size=view.shape, p=frequencies)

    found = values([record_of(plan, labels, model)], plan)
    expected = np.square(frequencies).sum()  # four standard errors
    np.testing.assert_allclose(found["mASSC"], expected, atol=0.012)
    present = np.array(frequencies[:4])
    np.testing.assert_allclose(found["self-mIoU"], (present / (2 - present)).mean(), atol=0.012)


def test_images_count_alike_for_masscs_and_pixels_for_mious():
    plan, labels = plan_of("roll", [(1, 0)]), np.zeros((8, 16), int)
    record = record_of(plan, labels, truth=labels)
    wrong, small = record.views.copy(), np.full((8, 16), IGNORED)
    wrong[1, :, :4] = 1  # a quarter of the one image, 96 pixels of 128
    small[:2, :4] = 0  # 8 pixels of the other, right
    truth_of_wrong = np.zeros((8, 16), int)
    records = [replace(record, views=wrong, truth=truth_of_wrong), replace(record, truth=small)]
    found = values(records, plan)
    assert found["mASSC"] == (3 / 4 + 1) / 2
    assert found["mIoU"] == pytest.approx([1, (104 / 136 + 0) / 2])
    assert found["self-mIoU"] == pytest.approx((104 / 136 + 0) / 2)
    nothing = replace(record, views=1 - record.views, truth=np.full((8, 16), IGNORED))
    more = values([*records, nothing], plan)  # an image without pixels that count does not count
    np.testing.assert_array_equal(more["mASSC"], found["mASSC"])
    np.testing.assert_array_equal(more["mIoU"], found["mIoU"])


def test_what_lies_outside_of_the_content_is_nothing():
    plan, labels = plan_of("canvas"), pieces()
    record = record_of(plan, labels, truth=labels)
    views, (top, left, bottom, right) = record.views.copy(), record.scene.content
    views[0][:top] = views[0][bottom:] = 2
    views[0][:, :left] = views[0][:, right:] = 1
    truth = np.where(record.truth == IGNORED, 0, record.truth)
    expected = values([record], plan)
    found = values([replace(record, views=views, truth=truth)], plan)
    for metric, value in expected.items():
        np.testing.assert_array_equal(found[metric], value)


def test_a_border_between_content_and_canvas_has_no_band():
    plan, labels = plan_of("canvas"), np.zeros((40, 40), int)
    found = values([record_of(plan, labels)], plan)  # labelled 4 outside
    np.testing.assert_array_equal(found["mASSC-bd"], np.nan)
    np.testing.assert_array_equal(found["mASSC-in"], 1)


def test_parts_of_a_pixel_are_unknown():
    plan, labels = plan_of("roll", [(8, 0), (0.5, 0.0)]), pieces()
    record = record_of(plan, labels, lambda view: view.round().clip(0, 4), truth=labels)
    found = values([record], plan)
    for metric in (*AT_SHIFTS, "mIoU"):
        np.testing.assert_array_equal(found[metric][-2:], [1, np.nan])


def test_without_truth_there_is_no_task_and_every_pixel_counts():
    plan, labels = plan_of("window"), pieces()
    record = record_of(plan, labels, sums={"total_variation": np.array([[3.0, 4]] * len(SHIFTS))})
    found = values([record], plan)
    assert set(found) == {*AT_SHIFTS, "TV"}
    np.testing.assert_array_equal(found["TV"], 0.75)
    top, left, bottom, right = record.scene.core
    pixels = image_sums(record, plan, CLASSES)["agreed"][1].sum(-1)
    np.testing.assert_array_equal(pixels, (bottom - top) * (right - left))


# Flip maps


def test_a_flip_is_counted_where_the_content_is():
    plan, labels = plan_of("canvas", [(8, 0), (3, -2)]), np.zeros((96, 64), int)
    record = record_of(plan, labels)
    top, left, *_ = record.scene.content
    record.views[1, top + 8 + 91, left + 20] = 1
    record.views[2, top + 3 + 91, left - 2 + 20] = 1
    record.views[2, top + 3 + 92, left - 2 + 20] = 1
    expected = np.zeros((64, 64))
    expected[61, 20] = 3 / 4  # the centres of rows 91 and 92 of 96 lie in it, under two shifts
    np.testing.assert_array_equal(flip_map([image_sums(record, plan, CLASSES)]), expected)


@given(st.sampled_from(MODES), st.integers(40, 90), st.integers(40, 90), st.integers(0, 9))
def test_flip_maps_hold_every_flip_once_whatever_the_size(mode, height, width, seed):
    plan, rng = plan_of(mode, edge=1), np.random.default_rng(seed)
    labels = pieces(seed, height, width)

    def model(view):
        return rng.integers(0, CLASSES, view.shape)

    record = record_of(plan, labels, model, truth=ignoring(labels))
    sums = image_sums(record, plan, CLASSES)
    agreed, pixels = sums["agreed"].sum((1, 2))
    assert sums["flips"].sum((1, 2)).tolist() == [pixels - agreed, pixels]
    assert sums["flips"].shape == (2, 64, 64)


# Faults


@pytest.mark.parametrize("fault", [(-4, -8), (8, 4), (4, -8), (5, 8)])
@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_shift_back_shows(mode, fault):
    shifts, wrong = [(4, 8), (-8, -8), (8, 8)], [fault, (-8, -8), (8, 8)]
    labels = pieces()
    record = record_of(plan_of(mode, shifts), labels, truth=labels)
    right, found = (values([record], plan_of(mode, each)) for each in (shifts, wrong))
    for metric in ("mASSC", "self-mIoU", "mIoU"):
        np.testing.assert_array_equal(right[metric][-3:], 1)
        assert found[metric][-3] < 0.97
        np.testing.assert_array_equal(found[metric][-2:], 1)


@pytest.mark.parametrize("mode", MODES)
def test_one_pixel_off_flips_the_band_alone(mode):
    labels = pieces()
    plan, wrong = (plan_of(mode, [(4, dx), (8, 8)], edge=1) for dx in (8, 7))
    found = values([record_of(plan, labels)], wrong)
    assert found["mASSC-in"][0] == 1
    assert found["mASSC-bd"][0] < 0.95


def test_labels_beyond_the_classes_are_refused():
    plan, labels = plan_of("canvas"), pieces()
    with pytest.raises(ValueError, match=r"labels 0 to 3 .* not all of the 3 classes 0 to 2"):
        image_sums(record_of(plan, labels, truth=labels), plan, 3)


# Weights, and real labels


@given(st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any))
def test_weights_are_repetitions(times):
    plan, rng = plan_of("canvas"), np.random.default_rng(0)
    records = []
    for seed in range(3):
        labels = pieces(seed, height=40, width=48)

        def model(view):
            return np.where(rng.random(view.shape) < 0.2, rng.integers(0, 4, view.shape), view)

        records.append(record_of(plan, labels, model, truth=labels))
    repeated = [record for record, n in zip(records, times, strict=True) for _ in range(n)]
    weighted, expected = values(records, plan, times), values(repeated, plan)
    for metric, value in expected.items():
        np.testing.assert_allclose(weighted[metric], value, rtol=1e-12)


@pytest.mark.parametrize("mode", ["window", "canvas"])
def test_real_labels_moved_are_equal_to_themselves(mode, data_root):
    labels = np.asarray(Image.open(min(data_root.glob("camvid/annotations/val/*.png"))))
    labels = np.where(labels < CLASSES, labels, 0)[100:220, 100:260].astype(np.int64)
    plan, wrong = (plan_of(mode, [(8, dx)], edge=1) for dx in (-4, -3))
    record = record_of(plan, labels, truth=labels)
    exact, off = values([record], plan), values([record], wrong)
    for metric in (*AT_SHIFTS, "mIoU"):
        assert exact[metric][-1] == 1
    assert off["mASSC-in"] == 1
    assert max(off[metric][-1] for metric in ("mASSC", "mASSC-bd", "self-mIoU", "mIoU")) < 1
