"""Numbers of a curve on each set of shifts, against the definitions."""

import numpy as np
import pytest

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.statistics.remembered import remembered
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.tasks.curve import curve_numbers

SETS = (
    ShiftSet("pgrid", ((0, 8), (0, 16), (8, 0))),
    ShiftSet("sub", ((0, 1), (4, 0), (0, 4))),
    ShiftSet("one distance", ((0, 8), (8, 0))),
    ShiftSet("both kinds", ((0, 8), (0, 4))),
    ShiftSet("mixed", ((0, 9), (0, 20))),
)
PLAN = Plan("canvas", SETS, 8, 8)
POINTS = [(0, 0), *PLAN.shifts]
VALUES = dict(zip(POINTS, [0.8, 0.6, 0.4, 0.5, 0.7, 0.3, 0.2, 0.1, 0.9], strict=True))


def curve(values=VALUES, points=POINTS):
    """The values times the weight of the first image."""
    row = np.array([values[point] for point in points])
    return Measure("task", "AP", "box", "shift", points, lambda weights: weights[:, :1] * row)


def numbers(measure, weights=None):
    weights = np.ones((1, 3)) if weights is None else weights
    found = [one for one in curve_numbers(measure, PLAN) if one.axis == "set"]
    return {
        one.metric: dict(zip(one.points, one.statistic(weights).T, strict=True)) for one in found
    }


class TestCurveNumbers:
    @pytest.mark.parametrize("group", SETS, ids=lambda group: group.name)
    def test_definitions(self, group):
        found = numbers(curve())
        values = np.array([VALUES[shift] for shift in group.shifts])
        expected = {
            "AP delta": np.mean(values - 0.8),
            "AP mean": values.mean(),
            "AP std": np.sqrt(np.mean((values - values.mean()) ** 2)),
            "AP min": values.min(),
            "AP min/M(0)": values.min() / 0.8,
            "AP rPS": 100 * values.mean() / 0.8,
        }
        for name, value in expected.items():
            assert found[name][group.name] == pytest.approx(value, rel=1e-12)

    def test_area_of_sets_of_one_kind_with_two_distances(self):
        area = numbers(curve())["AP AUC-shift"]
        assert list(area) == ["pgrid", "sub"]
        assert area["pgrid"] == pytest.approx(((0.6 + 0.5) / 2 + 0.4) / 2 / 0.8)
        assert area["sub"] == pytest.approx((0.7 + (0.3 + 0.2) / 2) / 2 / 0.8)

    def test_without_such_a_set_there_is_none(self):
        plan = Plan("canvas", SETS[2:], 8, 8)
        measure = curve(points=[(0, 0), *plan.shifts])
        assert all("AUC" not in one.metric for one in curve_numbers(measure, plan))

    def test_formed_within_each_resample(self):
        weights = np.array([[1.0, 1, 1], [2, 1, 0], [0, 3, 0]])
        found = numbers(curve(), weights)
        assert found["AP min"]["pgrid"] == pytest.approx([0.4, 0.8, 0])
        assert found["AP rPS"]["pgrid"] == pytest.approx([62.5, 62.5, np.nan], nan_ok=True)

    def test_keys_say_what_it_is(self):
        keys = [one.key for one in curve_numbers(curve(), PLAN)]
        assert len(set(keys)) == 8
        assert keys[0] == ("task", "AP delta", "box", "set", tuple(s.name for s in SETS))

    def test_changes_at_every_shift(self):
        change = curve_numbers(curve(), PLAN)[-1]
        assert change.key == ("task", "AP delta", "box", "shift", PLAN.shifts)
        expected = [
            [VALUES[s] - 0.8 for s in PLAN.shifts],
            [2 * (VALUES[s] - 0.8) for s in PLAN.shifts],
        ]
        assert change.statistic(np.array([[1.0, 1, 1], [2, 1, 0]])) == pytest.approx(
            np.array(expected)
        )

    def test_other_points(self):
        with pytest.raises(ValueError, match="AP is not a curve"):
            curve_numbers(curve(points=POINTS[1:]), PLAN)


class TestRemembered:
    def test_computed_once_for_the_same_weights(self):
        asked = []

        def statistic(weights):
            asked.append(len(weights))
            return weights.sum(axis=1, keepdims=True) * np.arange(3)

        known = remembered(statistic)
        weights = Bootstrap(5, count=4).weights
        for _ in range(2):
            for rows in (weights, weights[:2], np.ones((1, 5)), np.eye(5)):
                np.testing.assert_array_equal(known(rows), rows.sum(1)[:, None] * np.arange(3))
        assert asked == [4, 2, 1, 5]

    def test_what_is_shared_cannot_be_changed(self):
        known = remembered(lambda weights: weights * 2)
        with pytest.raises(ValueError, match="read-only"):
            known(np.ones((1, 2)))[0, 0] = 7
        assert known(np.ones((1, 2))).tolist() == [[2, 2]]
