"""Consistency of detections: closed forms, a matcher that tries everything, faults put in."""

from dataclasses import fields
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.detection_matching import (
    THRESHOLDS,
    compare,
    fragment_rate,
    match,
    summarise,
)
from mmplugins.evaluation.detection_self_ap import SelfAP
from mmplugins.evaluation.detections import Detections, moved, overlaps, run_lengths

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
        assert moved(coco_masks.encode(pixels), dy, dx) == coco_masks.encode(expected)

    @pytest.mark.parametrize("corner", [(0, 0), (0, 100), (68, 0), (68, 100), (30, 40)])
    def test_masks_that_stay_in_the_frame_are_exact(self, corner):
        pixels = np.zeros(FRAME[2:], np.uint8, order="F")
        shape = np.random.default_rng(0).integers(0, 2, (28, 28))
        shape[[0, -1]] = shape[:, [0, -1]] = 1
        pixels[34:62, 50:78] = shape
        expected = np.zeros_like(pixels)
        expected[corner[0] : corner[0] + 28, corner[1] : corner[1] + 28] = shape
        mask = moved(coco_masks.encode(pixels), corner[0] - 34, corner[1] - 50)
        assert mask == coco_masks.encode(expected)
        text = {**mask, "counts": mask["counts"].decode()}
        assert moved(text, 34 - corner[0], 50 - corner[1]) == coco_masks.encode(pixels)

    @given(st.lists(st.integers(1, 10**6), min_size=1, max_size=12))
    def test_run_lengths(self, runs):
        size = [sum(runs), 1]
        counts = coco_masks.frPyObjects({"size": size, "counts": runs}, *size)["counts"]
        assert run_lengths(counts).tolist() == runs

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


def all_matchings(size_a, size_b):
    """Every one-to-one assignment; -1 for no partner."""
    places = [*range(size_b), *[-1] * size_a]
    return {tuple(choice) for choice in permutations(places, size_a)}


def best_by_trying(a, b, threshold, counts_a, counts_b):
    best = (0, 0.0)
    for choice in all_matchings(len(a), len(b)):
        pairs = [(i, j) for i, j in enumerate(choice) if j >= 0]
        values = [iou_of(a.boxes[i], b.boxes[j]) for i, j in pairs]
        if any(
            value < threshold or a.labels[i] != b.labels[j] or not (counts_a[i] or counts_b[j])
            for value, (i, j) in zip(values, pairs, strict=True)
        ):
            continue
        served = sum(int(counts_a[i]) + int(counts_b[j]) for i, j in pairs)
        best = max(best, (served, sum(values)))
    return best


class TestMatch:
    @given(small_boxes, small_boxes, st.sampled_from([0.05, 0.2, 0.5]), st.booleans())
    def test_as_good_as_trying_everything(self, first, second, threshold, cut):
        a, b = drawn(first[:4]), drawn(second[:4], seed=1)
        core = (2, 2, 15, 15) if cut else (0, 0, 30, 30)
        counts_a, counts_b = a.inside(core), b.inside(core)
        found = match(a, b, threshold, core=core)
        assert len(set(found.reference)) == len(set(found.shifted)) == len(found.iou)
        for i, j, value in zip(found.reference, found.shifted, found.iou, strict=True):
            assert a.labels[i] == b.labels[j]
            assert value == pytest.approx(iou_of(a.boxes[i], b.boxes[j]))
            assert value >= threshold
        served = counts_a[found.reference].sum() + counts_b[found.shifted].sum()
        expected = best_by_trying(a, b, threshold, counts_a, counts_b)
        assert served == expected[0]
        assert found.iou.sum() == pytest.approx(expected[1], abs=1e-4)

    def test_pairs_before_overlap(self):
        # Each of A is 10 from its like in B and, but for the first, 1 from the one before.
        a = detections([[x, 0, x + 30, 10] for x in (0, 11, 22)])
        b = detections([[x, 0, x + 30, 10] for x in (10, 21, 32)])
        found = match(a, b, 0.5)
        assert found.reference.tolist() == found.shifted.tolist() == [0, 1, 2]
        assert found.iou.tolist() == pytest.approx([0.5] * 3)
        found = match(a, b, 0.55)  # fewer, though they would have had the larger sum before
        assert list(zip(found.reference, found.shifted, strict=True)) == [(1, 0), (2, 1)]
        assert found.iou.sum() == pytest.approx(2 * 29 / 31)

    def test_scores_tell_coinciding_boxes_apart(self):
        a = detections([[0, 0, 10, 10]] * 4, scores=[0.9, 0.4, 0.6, 0.5])
        order = np.array([2, 0, 3, 1])
        found = match(a, a[order], 0.5)
        assert order[found.shifted].tolist() == found.reference.tolist()

    def test_everything_counts_without_a_core(self):
        found = detections([[-50, -50, -20, -20]])
        assert match(found, found, 0.5).iou.tolist() == [1]

    @pytest.mark.parametrize("threshold", [0, -0.1, 1.1])
    def test_threshold_is_checked(self, threshold):
        with pytest.raises(ValueError, match="iou_threshold"):
            match(detections([]), detections([]), threshold)


class TestKnownAnswers:
    @pytest.mark.parametrize("kind", ["box", "mask"])
    @pytest.mark.parametrize("core", [FRAME, (20, 20, 80, 100)])
    def test_the_same_again(self, kind, core):
        found = [scene(seed, classes=4) for seed in range(5)]
        images = [compare(a, a, core, margin=2, kind=kind) for a in found]
        result = summarise(images)
        names = ("PC", "PC_50", "PC_75", "PC_macro", "mAISC", "mIoU_match")
        assert [result[name] for name in names] == [1] * len(names)
        assert [result[name] for name in DRIFTS] == [0] * len(DRIFTS)
        assert fragment_rate([[image, image] for image in images]) == 0
        assert SelfAP(found, found, [core] * 5, margin=2, kind=kind)() == pytest.approx(1)

    def test_nothing_at_all(self):
        none = detections([])
        result = scores_of(none, none)
        assert result["PC"] == result["PC_macro"] == 1
        assert np.isnan([result[name] for name in ("mAISC", "mIoU_match", *DRIFTS)]).all()
        assert np.isnan(fragment_rate([[compare(none, none, FRAME)]]))
        assert SelfAP([none], [none], [FRAME])() == 1
        assert np.isnan(summarise([])["PC"])
        assert np.isnan(SelfAP([], [], [])())

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_one_view_empty(self, kind):
        none, some = with_masks(detections([])), scene(0)
        for pair in ((none, some), (some, none)):
            result = scores_of(*pair, kind=kind)
            assert result["PC"] == result["PC_macro"] == 0
            assert SelfAP(*([one] for one in pair), [FRAME], kind=kind)() == 0

    def test_micro_and_macro(self):
        one, three = scene(0, count=1), scene(1, count=3)
        none = detections([])
        images = [compare(one, one, FRAME), compare(three, none, FRAME)]
        result = summarise(images)
        assert result["PC"] == pytest.approx(2 / 5)
        assert result["PC_macro"] == pytest.approx(1 / 2)

    def test_changed_scores(self):
        a = detections([[0, 0, 20, 20], [40, 40, 60, 60]], scores=[0.5, 0.75])
        b = detections(a.boxes, scores=[0.625, 0.5])
        result = scores_of(a, b)
        assert result["SD"] == pytest.approx(0.1875)
        assert result["SD_bias"] == pytest.approx(-0.0625)
        assert result["PC"] == 1

    def test_changed_size(self):
        a, b = detections([[10, 10, 50, 30]]), detections([[15, 10, 45, 30]])
        result = scores_of(a, b)
        assert result["SRD"] == pytest.approx(np.log(4 / 3))
        assert result["CD_px"] == 0

    def test_lost_under_one_shift(self):
        a = scene(0, count=8)
        whole, less = compare(a, a, FRAME), compare(a, a[np.arange(8) != 3], FRAME)
        other = compare(a, a[np.arange(8) != 5], FRAME)
        assert fragment_rate([[whole, less, whole]]) == pytest.approx(1 / 8)
        assert fragment_rate([[whole, less, other]]) == pytest.approx(2 / 8)
        assert summarise([less])["PC"] == pytest.approx(14 / 15)
        weights = np.array([[1, 1], [2, 1], [0, 1]])
        assert fragment_rate([[whole], [less]], weights) == pytest.approx([1 / 16, 1 / 24, 1 / 8])

    def test_a_class_of_its_own(self):
        a = detections([[0, 0, 20, 20]])
        assert scores_of(a, Detections(a.boxes, a.scores, a.labels + 1))["PC"] == 0

    def test_masks_differ_where_boxes_agree(self):
        triangle, square = np.tri(20, dtype=np.uint8), np.ones((20, 20), np.uint8)
        frames = np.zeros((2, 96, 128), np.uint8)
        frames[0, :20, :20], frames[1, :20, :20] = triangle, square
        a, b = (
            detections([[0, 0, 20, 20]], masks=[coco_masks.encode(np.asfortranarray(frame))])
            for frame in frames
        )
        assert scores_of(a, b)["PC"] == 1
        assert scores_of(a, b, kind="mask")["mIoU_match"] == pytest.approx(210 / 400)
        assert scores_of(a, b, kind="mask")["PC"] == pytest.approx(0.1)


class TestCore:
    CORE = (10, 10, 90, 110)

    def test_what_lies_beyond_is_not_asked_for(self):
        inside, cut = [30, 30, 50, 50], [5, 30, 25, 50]
        a, b = detections([inside, cut]), detections([inside])
        for pair in ((a, b), (b, a)):
            assert scores_of(*pair, core=self.CORE)["PC"] == 1
            assert SelfAP(*([one] for one in pair), [self.CORE])() == pytest.approx(1)

    def test_a_partner_just_beyond_will_do(self):
        a, b = detections([[10, 30, 30, 50]]), detections([[9, 30, 29, 50]])
        for pair in ((a, b), (b, a)):
            result = scores_of(*pair, core=self.CORE)
            assert result["PC_50"] == 1
            assert result["PC"] == pytest.approx((THRESHOLDS <= 19 / 21).mean())
            counted = compare(*pair, self.CORE)
            assert {counted.references, counted.shifted} == {0, 1}
        assert scores_of(a, b, core=self.CORE)["CD_px"] == 1
        assert np.isnan(scores_of(b, a, core=self.CORE)["CD_px"])

    def test_drifts_are_of_references_inside(self):
        a = detections([[9, 30, 29, 50], [40, 30, 60, 50]], scores=[0.5, 0.75])
        b = detections([[12, 30, 32, 50], [41, 30, 61, 50]], scores=[0.75, 0.625])
        result = scores_of(a, b, core=self.CORE)
        assert result["CD_px"] == pytest.approx(1)
        assert result["SD_bias"] == pytest.approx(-0.125)
        assert result["mIoU_match"] == pytest.approx(19 / 21)
        assert result["PC_50"] == 1

    def test_what_is_lost_inside_counts(self):
        a = detections([[30, 30, 50, 50], [60, 60, 80, 80]])
        assert scores_of(a, a[np.array([0])], core=self.CORE)["PC"] == pytest.approx(2 / 3)
        value = SelfAP([a], [a[np.array([0])]], [self.CORE])()
        # Recall 1/2 at precision 1: 51 of COCO's 101 points; the other way is right, then wrong.
        assert value == pytest.approx((51 / 101 + 1) / 2)

    def test_the_margin_shrinks_the_core_for_self_ap_too(self):
        a, b = detections([[30, 30, 50, 50], [12, 30, 32, 50]]), detections([[30, 30, 50, 50]])
        assert SelfAP([a], [b], [self.CORE])() < 1
        assert SelfAP([a], [b], [self.CORE], margin=3)() == pytest.approx(1)

    def test_the_references_are_the_same_under_every_shift(self):
        a = scene(3, count=30)
        margins = [compare(a, a.shifted(0, dx), self.CORE, margin=4) for dx in (0, 3, -7)]
        assert len({one.references for one in margins}) == 1
        assert 0 < margins[0].references < 30


class TestProperties:
    @given(small_boxes, small_boxes, st.booleans())
    def test_symmetric_bounded_and_blind_to_order(self, first, second, cut):
        a, b = drawn(first), drawn(second, seed=1)
        core = (2, 2, 15, 15) if cut else (0, 0, 30, 30)
        there, back = scores_of(a, b, core), scores_of(b, a, core)
        for name in ("PC", "PC_50", "PC_75", "PC_macro"):
            assert there[name] == back[name]
            assert 0 <= there[name] <= 1
        if not cut:
            for name in ("CD_px", "SRD", "SD", "mIoU_match"):
                assert there[name] == pytest.approx(back[name], nan_ok=True, abs=1e-5)
            assert there["SD_bias"] == pytest.approx(-back["SD_bias"], nan_ok=True, abs=1e-5)
        turned = scores_of(a[::-1], b[::-1], core)
        for name in ("PC", "mAISC", "mIoU_match"):
            assert turned[name] == pytest.approx(there[name], nan_ok=True, abs=1e-5)

    @given(small_boxes, small_boxes)
    def test_self_ap_is_symmetric_and_bounded(self, first, second):
        a, b = drawn(first), drawn(second, seed=1)
        core = (0, 0, 30, 30)
        value = SelfAP([a], [b], [core])()
        assert 0 <= value <= 1 + 1e-12
        assert value == SelfAP([b], [a], [core])()
        assert SelfAP([a], [a], [core])() == pytest.approx(1)

    @given(small_boxes)
    def test_identity(self, rows):
        a = drawn(rows)
        result = scores_of(a, a[::-1])
        assert result["PC"] == 1
        if rows:
            assert [result[name] for name in DRIFTS] == [0] * len(DRIFTS)
            assert result["mIoU_match"] == 1


def jittered(images=6):
    """Images and their detections, found again with errors."""
    rng = np.random.default_rng(0)
    for seed in range(images):
        a = scene(seed, count=seed + 2)
        boxes = a.boxes + rng.integers(-2, 3, a.boxes.shape)
        yield a, with_masks(detections(boxes, rng.uniform(0.3, 1, len(a)), a.labels))


def plain_ap(truth, found, kind):
    """AP as everyone computes it."""
    rows = [
        {
            "id": 100 * image + row + 1,
            "image_id": image,
            "category_id": int(view.labels[row]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "segmentation": view.masks[row],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        for image, view in enumerate(truth)
        for row, (x1, y1, x2, y2) in enumerate(view.boxes)
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": n, "height": 96, "width": 128} for n in range(len(truth))],
        "categories": [{"id": n} for n in range(3)],
        "annotations": rows,
    }
    coco.createIndex()
    results = [
        {
            "image_id": image,
            "category_id": int(view.labels[row]),
            "score": float(view.scores[row]),
            **(
                {"segmentation": view.masks[row]}
                if kind == "mask"
                else {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            ),
        }
        for image, view in enumerate(found)
        for row, (x1, y1, x2, y2) in enumerate(view.boxes)
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), {"box": "bbox", "mask": "segm"}[kind])
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


class TestSelfAP:
    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_mean_of_two_plain_evaluations(self, kind):
        a, b = zip(*jittered(), strict=True)
        wide = (-9, -9, 200, 200)
        expected = (plain_ap(a, b, kind) + plain_ap(b, a, kind)) / 2
        assert 0.1 < expected < 0.9
        assert SelfAP(a, b, [wide] * 6, kind=kind)() == pytest.approx(expected, rel=1e-12)

    def test_crowds_are_counted_whole(self):
        corner = np.stack(np.meshgrid(range(0, 110, 10), range(0, 110, 10)), -1).reshape(-1, 2)
        crowd = detections(np.concatenate([corner, corner + 8], axis=1))
        assert SelfAP([crowd], [crowd], [(0, 0, 120, 120)])() == pytest.approx(1)


class TestWeights:
    def test_weights_repeat_images(self):
        pairs = list(jittered())
        weights = np.array([[1, 1, 1, 1, 1, 1], [0, 3, 1, 0, 2, 1], [0, 0, 0, 6, 0, 0]])
        sums = [compare(a, b, FRAME) for a, b in pairs]
        weighted = summarise(sums, weights)
        self_ap = SelfAP(*zip(*pairs, strict=True), [FRAME] * 6)
        for row, counts in enumerate(weights):
            picks = np.repeat(np.arange(6), counts)
            for name, value in summarise([sums[pick] for pick in picks]).items():
                assert weighted[name].shape == (3,)
                assert weighted[name][row] == pytest.approx(value, rel=1e-12)
            a, b = zip(*(pairs[pick] for pick in picks), strict=True)
            repeated = SelfAP(a, b, [FRAME] * len(a))()
            assert self_ap(counts) == self_ap(weights)[row] == pytest.approx(repeated, rel=1e-12)

    def test_no_image_drawn(self):
        pairs = list(jittered())
        sums = [compare(a, b, FRAME) for a, b in pairs]
        assert all(np.isnan(value) for value in summarise(sums, np.zeros(6)).values())
        assert np.isnan(SelfAP(*zip(*pairs, strict=True), [FRAME] * 6)(np.zeros(6, int)))

    def test_self_ap_of_the_same_images(self):
        none = detections([])
        with pytest.raises(ValueError, match="not of the same images"):
            SelfAP([none], [none, none], [FRAME])

    def test_sums_are_of_one_image(self):
        a = scene(0)
        sums = compare(a, a, FRAME)
        for field in fields(sums):
            shape = {"found_references": (10,), "found_shifted": (10,), "found": (12,)}
            assert np.shape(getattr(sums, field.name)) == shape.get(field.name, ())


class TestFaults:
    """A perfect detector, its detections moved back wrongly."""

    FRAME = (0, 0, 400, 400)
    FAULTS = (
        ("sign", lambda dy, dx: (dy, dx), (2 * 6, 2 * 3)),
        ("axes", lambda dy, dx: (-dx, -dy), (6 - 3, 3 - 6)),
        ("one more in x", lambda dy, dx: (-dy, -dx - 1), (0, -1)),
        ("one less in y", lambda dy, dx: (-dy + 1, -dx), (1, 0)),
    )

    def truth(self):
        rng = np.random.default_rng(0)
        corner = np.stack(np.meshgrid([20, 150, 270], [20, 150, 270]), -1).reshape(-1, 2)
        boxes = np.concatenate([corner, corner + rng.integers(60, 100, (9, 2))], axis=1)
        labels = np.arange(9) % 2
        return with_masks(detections(boxes, rng.uniform(0.3, 1, 9), labels), self.FRAME)

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_moved_back_rightly(self, kind):
        a = self.truth()
        result = scores_of(a, a.shifted(6, 3).shifted(-6, -3), self.FRAME, kind=kind)
        assert (result["PC"], result["CD_px"]) == (1, 0)

    @pytest.mark.parametrize("kind", ["box", "mask"])
    @pytest.mark.parametrize(("name", "back", "off"), FAULTS, ids=[row[0] for row in FAULTS])
    def test_each_fault_shows(self, name, back, off, kind):
        # Large boxes one pixel off still overlap by .95; one of 10 pixels does not.
        a = self.truth()
        small = with_masks(detections([[350, 350, 360, 360]], labels=[2]), self.FRAME)
        b = a.shifted(6, 3).shifted(*back(6, 3))
        result = scores_of(a, b, self.FRAME, kind=kind)
        assert result["PC_50"] == 1
        assert result["CD_px"] == pytest.approx(np.hypot(*off), rel=1e-12)
        assert result["mIoU_match"] < 1
        shifted = small.shifted(6, 3).shifted(*back(6, 3))
        assert scores_of(small, shifted, self.FRAME, kind=kind)["PC"] < 1


class TestRealData:
    @pytest.mark.parametrize("name", ["coco_tiny", "nuclei"])
    def test_truth_fed_back(self, data_root, name):
        files = sorted((data_root / name / "annotations").glob("*val*.json"))
        coco = COCO(files[0])
        views, cores = [], []
        for image in coco.loadImgs(coco.getImgIds()):
            found = coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=False))
            boxes = np.reshape([row["bbox"] for row in found], (-1, 4)).astype(float)
            boxes[:, 2:] += boxes[:, :2]
            masks = [coco.annToRLE(row) for row in found]
            labels = np.array([row["category_id"] for row in found], int)
            views.append(detections(boxes, np.ones(len(found)), labels, masks))
            cores.append((32, 32, image["height"] - 32, image["width"] - 32))
        for kind in ("box", "mask"):
            back = [view.shifted(8, -16).shifted(-8, 16) for view in views]
            pairs = list(zip(views, back, cores, strict=True))
            images = [compare(a, b, core, margin=16, kind=kind) for a, b, core in pairs]
            result = summarise(images)
            assert sum(image.references for image in images) > 20
            assert result["PC"] == result["PC_macro"] == result["mAISC"] == 1
            assert result["mIoU_match"] == pytest.approx(1, abs=1e-12)
            assert [result[key] for key in DRIFTS] == pytest.approx([0] * 5, abs=1e-12)
            assert fragment_rate([[image] for image in images]) == 0
            assert SelfAP(views, back, cores, margin=16, kind=kind)() == pytest.approx(1)
