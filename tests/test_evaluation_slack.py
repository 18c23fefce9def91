"""What counts of detections that stick out of the content of a canvas: all that touches it."""

import numpy as np
import pytest
from detection_scenes import detections

from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.predictions.consistency import consistency_measures
from mmplugins.evaluation.record import Objects, Record
from mmplugins.evaluation.tasks.average_precision import average_precision, match_views

PLAN = Plan("canvas", (ShiftSet("one", ((0, 16),)),), period=16, divisor=16)
SCENE = PLAN.scene(64, 64)  # content from 16 to 80
TRUE = [30, 30, 50, 50]


def ap(*wrong, plan=PLAN):
    """With one right detection and others of a higher score."""
    found = detections([TRUE, *wrong], scores=np.array([0.5, *([0.9] * len(wrong))]))
    truth = Objects(detections([TRUE]), np.zeros(1, bool), np.array([400.0]))
    views = [found, found.shifted(0, 16)]
    record = Record("a", plan.scene(64, 64), (1.0, 1.0), views, truth)
    measure = average_precision(match_views([record], plan), plan, "box")[0]
    return measure.statistic(np.ones((1, 1)))[0]


def test_what_sticks_out_is_as_wrong_as_what_does_not():
    assert ap() == pytest.approx([1, 1])
    assert ap([60, 60, 75, 75]) == pytest.approx([0.5, 0.5])
    assert ap([60, 60, 80.5, 75]) == pytest.approx([0.5, 0.5])
    assert ap([2, 30, 18, 50]) == pytest.approx([0.5, 0.5])


def test_what_lies_on_the_canvas_alone_is_neither_right_nor_wrong():
    assert ap([81, 20, 95, 40]) == pytest.approx([1, 1])


def test_an_edge_and_a_window_leave_out_what_they_cut():
    edged = Plan("canvas", PLAN.sets, period=16, divisor=16, edge=8)
    assert ap([60, 60, 72.5, 70], plan=edged) == pytest.approx([1, 1])
    assert (edged.slack, Plan("window", PLAN.sets, 16, 16).slack) == (0, 0)
    assert PLAN.slack == np.inf


def test_consistency_asks_for_it_too():
    out = detections([TRUE, [60, 60, 80.5, 75]])
    truth = Objects(detections([TRUE]), np.zeros(1, bool), np.array([400.0]))
    views = [out, detections([TRUE]).shifted(0, 16)]
    record = Record("a", SCENE, (1.0, 1.0), views, truth)
    (pc,) = (m for m in consistency_measures([record], PLAN) if m.metric == "PC")
    assert pc.statistic(np.ones((1, 1)))[0] == pytest.approx([2 / 3])
