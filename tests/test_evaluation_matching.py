"""Consistency of detections: closed forms, a matcher that tries everything, properties."""

from itertools import permutations

import numpy as np
import pytest
from detection_scenes import (
    DRIFTS,
    FRAME,
    detections,
    drawn,
    fragment_rate,
    iou_of,
    scene,
    scores_of,
    small_boxes,
    summarise,
    with_masks,
)
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.predictions.matching import (
    THRESHOLDS,
    compare,
    match,
)
from mmplugins.evaluation.predictions.self_ap import SelfAP


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
        assert np.isnan(summarise([compare(none, none, FRAME)], [0])["PC"])
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
