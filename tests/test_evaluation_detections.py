"""Detections of a view: kept, moved and laid over each other."""

import numpy as np
import pytest
from detection_scenes import (
    FRAME,
    detections,
    drawn,
    iou_of,
    scene,
    scores_of,
    small_boxes,
    with_masks,
)
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from mmplugins.evaluation.predictions.detections import Detections, overlaps
from mmplugins.evaluation.predictions.matching import (
    THRESHOLDS,
    compare,
)
from mmplugins.evaluation.predictions.run_lengths import moved


class TestDetections:
    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="must agree"):
            Detections(np.zeros((2, 4)), np.zeros(3), np.zeros(2, int))
        with pytest.raises(ValueError, match="must agree"):
            Detections(np.zeros((2, 5)), np.zeros(2), np.zeros(2, int))
        with pytest.raises(ValueError, match="cannot have 0 masks"):
            detections([[0, 0, 1, 1]], masks=[])

    def test_values_are_checked(self):
        with pytest.raises(ValueError, match="finite"):
            detections([[0, 0, np.nan, 1]])
        with pytest.raises(ValueError, match="finite"):
            detections([[0, 0, 1, 1]], scores=[np.inf])
        with pytest.raises(ValueError, match="integers"):
            detections([[0, 0, 1, 1]], labels=[0.5])

    def test_masks_are_checked(self):
        boxes = [[0, 0, 1, 1]] * 2
        with pytest.raises(ValueError, match="compressed"):
            detections(boxes[:1], masks=[{"size": [2, 2], "counts": [0, 4]}])
        small, large = (coco_masks.encode(np.ones((n, n), np.uint8, order="F")) for n in (2, 3))
        with pytest.raises(ValueError, match="one size"):
            detections(boxes, masks=[small, large])
        one, other = detections(boxes[:1], masks=[small]), detections(boxes[:1], masks=[large])
        with pytest.raises(ValueError, match="cannot be compared"):
            overlaps(one, other, "mask")

    def test_kinds_are_checked(self):
        with pytest.raises(ValueError, match="kind must be one of box, mask, not 'segm'"):
            scene(0).extents("segm")
        with pytest.raises(ValueError, match="needs detections with masks"):
            compare(detections([]), detections([]), FRAME, kind="mask")

    def test_above_keeps_the_border(self):
        found = detections([[0, 0, 1, 1]] * 3, scores=[0.2, 0.3, 0.4])
        assert found.above(0.3).scores.tolist() == [0.3, 0.4]

    def test_selection_takes_masks_along(self):
        found = scene(0)
        chosen = found[np.array([5, 2])]
        assert chosen.masks == [found.masks[5], found.masks[2]]
        assert np.array_equal(chosen.boxes, found.boxes[[5, 2]])

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_inside_takes_no_cut_box(self, kind):
        core = (10, 20, 90, 120)
        boxes = np.array(
            [
                [25, 15, 115, 85],  # touches every side of the core less 5
                [24, 15, 115, 85],
                [25, 14, 115, 85],
                [25, 15, 116, 85],
                [25, 15, 115, 86],
                [0, 0, 8, 8],
                [30, 30, 30, 40],  # no area
            ]
        )
        found = with_masks(detections(boxes))
        assert found.inside(core, 5, kind).tolist() == [True] + [False] * 6

    def test_boxes_of_masks_end_behind_the_last_pixel(self):
        found = scene(1)
        assert np.array_equal(found.extents("mask"), found.boxes)


class TestShift:
    @given(
        st.integers(0, 2**32 - 1), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([0, 1])
    )
    def test_masks_move_as_pixels_do(self, seed, dy, dx, fill):
        rng = np.random.default_rng(seed)
        pixels = np.full((7, 6), fill, np.uint8, order="F")
        block = tuple(slice(*sorted(rng.integers(0, side + 1, 2))) for side in (7, 6))
        pixels[block] = rng.integers(0, 2, pixels[block].shape)
        expected = np.zeros_like(pixels)
        for y in range(7):
            for x in range(6):
                if 0 <= y + dy < 7 and 0 <= x + dx < 6:
                    expected[y + dy, x + dx] = pixels[y, x]
        assert moved([coco_masks.encode(pixels)], dy, dx) == [coco_masks.encode(expected)]

    @pytest.mark.parametrize("corner", [(0, 0), (0, 100), (68, 0), (68, 100), (30, 40)])
    def test_masks_that_stay_in_the_frame_are_exact(self, corner):
        pixels = np.zeros(FRAME[2:], np.uint8, order="F")
        shape = np.random.default_rng(0).integers(0, 2, (28, 28))
        shape[[0, -1]] = shape[:, [0, -1]] = 1
        pixels[34:62, 50:78] = shape
        expected = np.zeros_like(pixels)
        expected[corner[0] : corner[0] + 28, corner[1] : corner[1] + 28] = shape
        (mask,) = moved([coco_masks.encode(pixels)], corner[0] - 34, corner[1] - 50)
        assert mask == coco_masks.encode(expected)
        text = {**mask, "counts": mask["counts"].decode()}
        assert moved([text], 34 - corner[0], 50 - corner[1]) == [coco_masks.encode(pixels)]

    @given(st.integers(-200, 200), st.integers(-200, 200))
    def test_boxes_come_back_exactly(self, dy, dx):
        found = detections(np.float32([[1.1, 2.2, 30.3, 40.4], [-5.7, 0.1, 1000.3, 777.7]]))
        there = found.shifted(dy, dx)
        assert np.allclose(there.boxes - found.boxes, [dx, dy, dx, dy], rtol=0, atol=1e-9)
        assert np.array_equal(there.shifted(-dy, -dx).boxes, found.boxes)

    def test_fractions_of_pixels_are_for_boxes_only(self):
        found = detections([[0, 0, 4, 4]])
        assert found.shifted(0.25, -0.5).boxes.tolist() == [[-0.5, 0.25, 3.5, 4.25]]
        with pytest.raises(ValueError, match="whole pixels"):
            with_masks(found).shifted(0.25, 0)


class TestOverlaps:
    @given(small_boxes, small_boxes)
    def test_boxes_and_their_filled_masks(self, first, second):
        a, b = drawn(first), drawn(second)
        expected = np.array(
            [
                [iou_of(p, q) * (i == j) for q, j in zip(b.boxes, b.labels, strict=True)]
                for p, i in zip(a.boxes, a.labels, strict=True)
            ]
        ).reshape(len(a), len(b))
        assert np.allclose(overlaps(a, b), expected, rtol=0, atol=1e-15)
        assert np.allclose(
            overlaps(with_masks(a), with_masks(b), "mask"), expected, rtol=0, atol=1e-15
        )

    @pytest.mark.parametrize("size", [(32, 32), (40, 20), (7, 50)])
    @pytest.mark.parametrize("move", [(0, 0), (1, 0), (0, 1), (3, 2), (-3, 1)])
    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_a_moved_box(self, size, move, kind):
        (w, h), (a, b) = size, map(abs, move)
        one = with_masks(detections([[20, 20, 20 + w, 20 + h]]))
        result = scores_of(one, one.shifted(move[1], move[0]), kind=kind)
        expected = (w - a) * (h - b) / (2 * w * h - (w - a) * (h - b))
        assert result["PC"] == pytest.approx((expected >= THRESHOLDS).mean())
        for name, threshold in (("PC_50", 0.5), ("PC_75", 0.75), ("mAISC", 0.9)):
            assert result[name] == (expected >= threshold)
        if expected >= 0.5:
            assert result["mIoU_match"] == pytest.approx(expected, rel=1e-14)
            assert result["CD_px"] == pytest.approx(np.hypot(a, b), rel=1e-14)
            assert result["CD"] == pytest.approx(np.hypot(a, b) / np.sqrt(w * h), rel=1e-14)
            assert result["SRD"] == result["SD"] == 0
        else:
            assert np.isnan(result["mIoU_match"])

    def test_one_pixel_of_32(self):
        one = detections([[20, 20, 52, 52]])
        result = scores_of(one, one.shifted(0, 1))
        assert round(float(result["mIoU_match"]), 4) == 0.9394
