"""Consistency of detectors from records: truth fed back, moved boxes, and moves back gone wrong."""

from dataclasses import replace

import numpy as np
import pytest
from detection_scenes import detections
from hypothesis import given
from hypothesis import strategies as st
from task_records import noisy, plan_of, records_of, truthful

from mmplugins.evaluation.predictions.consistency import consistency_measures, moved_back
from mmplugins.evaluation.predictions.matching import compare, statistics
from mmplugins.evaluation.predictions.self_ap import SelfAP
from mmplugins.evaluation.record import Record

SHIFTS = ((8, 0), (-16, 8), (3, -5))
MODES = ("canvas", "masked_canvas", "window")
PERFECT = ("PC", "PC_50", "PC_75", "PC_macro", "mAISC", "mIoU_match", "sAP")
DRIFTS = ("CD", "CD_px", "SRD", "SD", "SD_bias", "FR")


def values(records, plan, weights=None, **options):
    """By metric and part."""
    weights = np.ones((1, len(records))) if weights is None else np.array([weights], float)
    return {
        (measure.metric, measure.part): measure.statistic(weights)[0]
        for measure in consistency_measures(records, plan, **options)
    }


@pytest.mark.parametrize("mode", MODES)
def test_truth_fed_back_is_consistent(mode):
    # What the border of a window cuts is within a core that reaches there, and is not the same.
    plan = plan_of(*SHIFTS, mode=mode, edge=1 if mode == "window" else 0)
    found = values(records_of(plan, truthful), plan)
    assert {part for _, part in found} == {"box", "mask"}
    for part in ("box", "mask"):
        for metric in PERFECT:
            np.testing.assert_allclose(found[metric, part], np.ones(len(SHIFTS)), atol=1e-12)
        for metric in DRIFTS:
            np.testing.assert_allclose(found[metric, part], 0, atol=1e-12)


@pytest.mark.parametrize("wrong", [(-1, -1), (1, -1), (0.5, 1)], ids=["sign", "column", "half"])
def test_a_detector_that_moves_otherwise_is_caught(wrong):
    def mistaken(truth, shift, scene, generator):
        return truth.found.shifted(*(int(w * s) for w, s in zip(wrong, shift, strict=True)))

    plan = plan_of((16, 16), (-16, 16))
    found = values(records_of(plan, mistaken), plan)
    for metric in ("PC", "mAISC", "sAP"):
        assert found[metric, "box"].max() < 0.9


@given(a=st.integers(-20, 20), b=st.integers(-20, 20), shift=st.tuples(*[st.integers(-9, 9)] * 2))
def test_a_box_that_moves_too_far_has_the_iou_of_its_closed_form(a, b, shift):
    """IoU of w x h moved by (a, b): (w - |a|)(h - |b|) / (2wh - (w - |a|)(h - |b|))."""
    plan = plan_of(shift if any(shift) else (1, 0))
    (dy, dx), scene = plan.shifts[0], plan.scene(192, 256)
    width, height = 60, 40
    box = detections([[100, 90, 100 + width, 90 + height]])
    views = [box, box.shifted(dy + b, dx + a)]
    found = values([Record("0", scene, (1.0, 1.0), views, None)], plan)
    inner = (width - abs(a)) * (height - abs(b))
    iou = inner / (2 * width * height - inner)
    assert {part for _, part in found} == {"box"}
    thresholds = np.linspace(0.5, 0.95, 10)
    assert found["PC", "box"] == pytest.approx((iou >= thresholds).mean())
    if iou >= 0.5:
        assert found["mIoU_match", "box"] == pytest.approx(iou)
        assert found["CD_px", "box"] == pytest.approx(np.hypot(a, b))
        assert found["CD", "box"] == pytest.approx(np.hypot(a, b) / np.sqrt(width * height))
        assert found["SRD", "box"] == pytest.approx(0, abs=1e-12)
    else:
        assert np.isnan(found["mIoU_match", "box"])


def test_one_pixel_of_a_small_box():
    """The design's own example: 32 x 32 moved by one pixel in one direction."""
    plan, box = plan_of((8, 0)), detections([[100, 90, 132, 122]])
    record = Record("0", plan.scene(192, 256), (1.0, 1.0), [box, box.shifted(9, 0)], None)
    assert values([record], plan)["mIoU_match", "box"] == pytest.approx(0.9394, abs=5e-5)


def test_measures_are_those_of_each_shift_by_itself():
    plan, weights = plan_of(*SHIFTS), np.array([[1, 0, 2, 1, 1, 1.0]])
    records = records_of(plan, noisy)
    cores = [record.scene.core for record in records]
    found = values(records, plan, weights[0], score=0.4)
    for part in ("box", "mask"):
        for number, (dy, dx) in enumerate(plan.shifts):
            first = [record.views[0].above(0.4) for record in records]
            other = [r.views[1 + number].above(0.4).shifted(-dy, -dx) for r in records]
            pairs = list(zip(first, other, cores, strict=True))
            alone = statistics([[compare(a, b, core, kind=part) for a, b, core in pairs]])
            for name in set(alone) - {"FR"}:
                wanted = alone[name](weights)[0, 0]
                assert found[name, part][number] == pytest.approx(wanted, rel=1e-12)
            wanted = SelfAP(first, other, cores, kind=part)(weights)[0]
            assert found["sAP", part][number] == pytest.approx(wanted, rel=1e-12)
        assert 0 < found["FR", part] < 1


def test_only_detections_of_the_score_are_compared():
    plan = plan_of(*SHIFTS)
    records = [
        replace(record, views=[replace_scores(view, at) for at, view in enumerate(record.views)])
        for record in records_of(plan, truthful)
    ]
    assert (values(records, plan, score=0.3)["PC", "box"] == 0).all()  # found in one view alone
    assert (values(records, plan, score=0.1)["PC", "box"] == 1).all()
    assert (values(records, plan, score=0.95)["PC", "box"] == 1).all()  # nothing in both
    counts = {len(view) for record in records for view in moved_back(record, plan, 0.3)[1:]}
    assert counts == {0}


def replace_scores(found, view):
    return replace(found, scores=np.full(len(found), 0.2 if view else 0.9))


def test_masks_have_part_where_all_records_have_them():
    plan = plan_of(*SHIFTS)
    records = records_of(plan, truthful, images=2)
    bare = [replace(view, masks=None) for view in records[1].views]
    mixed = values([records[0], replace(records[1], views=bare)], plan)
    assert {part for _, part in mixed} == {"box"}


def test_the_progress_is_told_of_every_shift():
    plan, seen = plan_of(*SHIFTS), []

    def track(numbers):
        for number in numbers:
            seen.append(number)
            yield number

    measures = consistency_measures(records_of(plan, truthful, images=2), plan, track=track)
    assert seen == [1, 2, 3]
    axes = {measure.metric: (measure.axis, tuple(measure.points)) for measure in measures}
    assert axes.pop("FR") == ("none", ("all",))
    assert set(axes.values()) == {("shift", SHIFTS)}
