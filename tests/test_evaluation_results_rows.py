"""Rows: known values, what they are of, and runs that do not fit together."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from evaluation_results import BOOTSTRAP, IMAGES, PLAN, curve, mean
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.results.rows import Finding, Row, estimate_all, from_json, rows, to_json
from mmplugins.evaluation.results.sets import over_sets
from mmplugins.evaluation.statistics.intervals import band, interval
from mmplugins.evaluation.statistics.resampling import ratio_of_sums


class TestRows:
    def test_are_one_for_each_point_with_its_shift_kind_and_sets(self, generator):
        found = rows(estimate_all([curve(generator)], BOOTSTRAP), PLAN)
        shifts, sets = found[: len(PLAN.shifts)], found[len(PLAN.shifts) :]
        assert [(row.dy, row.dx) for row in shifts] == list(PLAN.shifts)
        for row in shifts:
            whole = row.dy % 16 == 0 and row.dx % 16 == 0
            assert row.kind == ("position" if whole else "aliasing")
            assert row.sets == ("pgrid" if whole else "sub",)
            assert row.point is None
        assert [(row.point, row.dy, row.kind, row.sets) for row in sets] == [
            ("pgrid", None, None, ()),
            ("sub", None, None, ()),
        ]

    def test_of_no_shift_are_the_reference(self, generator):
        over_shifts = curve(generator)[0].then(
            "AP", "shift", [(0, 0), (0, 16)], lambda values: values[:, :2]
        )
        reference, shifted = rows(estimate_all([[over_shifts]], BOOTSTRAP), PLAN)
        assert (reference.point, reference.dy, reference.dx) == ("reference", 0, 0)
        assert (reference.kind, reference.sets) == (None, ())
        assert (shifted.point, shifted.kind) == (None, "position")

    def test_hold_interval_and_band_of_their_point(self, generator):
        (finding, _) = estimate_all([curve(generator)], BOOTSTRAP)
        alone, together = interval(finding.estimate), band(finding.estimate)
        for at, row in enumerate(rows([finding], PLAN)):
            assert (row.value, row.low, row.high) == (
                alone.value[at],
                alone.low[at],
                alone.high[at],
            )
            assert (row.band_low, row.band_high) == (together.low[at], together.high[at])
            assert row.half_width == pytest.approx((row.high - row.low) / 2)
            assert (row.images, row.runs, row.undefined) == (IMAGES, 1, 0)

    def test_of_equal_images_have_no_width(self):
        [row] = rows(estimate_all([[mean([0.75] * IMAGES)]], BOOTSTRAP))
        assert (row.value, row.low, row.high, row.half_width) == (0.75, 0.75, 0.75, 0)
        assert math.isnan(row.band_low)  # one point is no curve

    def test_of_runs_are_their_mean_in_whatever_order_they_were_measured(self):
        first = [mean([0.2] * IMAGES), mean([1.0] * IMAGES, metric="sAP")]
        second = [mean([0.0] * IMAGES, metric="sAP"), mean([0.4] * IMAGES)]
        pc, sap = rows(estimate_all([first, second], BOOTSTRAP))
        assert (pc.metric, pc.value, pc.runs) == ("PC", pytest.approx(0.3), 2)
        assert (sap.metric, sap.value) == ("sAP", 0.5)
        assert (pc.low, pc.high) == pytest.approx((0.2, 0.4))  # drawn as a pair of one run

    def test_of_an_exact_model_has_infinite_decibels_and_no_interval(self):
        decibels = mean([0.0] * IMAGES).then(
            "EQ-dB", "set", ["pgrid"], lambda error: np.where(error == 0, np.inf, 0.0)
        )
        [row] = rows(estimate_all([[decibels]], BOOTSTRAP))
        assert row.value == math.inf
        assert math.isnan(row.low)

    def test_without_truth_are_undefined(self):
        nothing = ratio_of_sums(np.zeros((1, IMAGES)), np.zeros((1, IMAGES)))
        [row] = rows(estimate_all([[replace(mean([0] * IMAGES), statistic=nothing)]], BOOTSTRAP))
        assert math.isnan(row.value)
        assert row.undefined == BOOTSTRAP.count


class TestOverSets:
    def test_is_the_mean_that_a_measure_of_its_own_would_be(self, generator):
        over_shifts, of_its_own = curve(generator)
        [found] = over_sets(estimate_all([[over_shifts]], BOOTSTRAP), PLAN)
        [expected] = estimate_all([[of_its_own]], BOOTSTRAP)
        assert found.measure.key[:-1] == expected.measure.key[:-1]
        for row, other in zip(rows([found]), rows([expected]), strict=True):
            assert row.point == other.point
            assert (row.value, row.low, row.high) == pytest.approx(
                (other.value, other.low, other.high), rel=1e-12
            )
        ones = np.ones((1, IMAGES))
        np.testing.assert_allclose(found.measure.statistic(ones)[0], found.estimate.value)

    def test_leaves_out_what_is_told_of_already(self, generator):
        findings = estimate_all([curve(generator)], BOOTSTRAP)
        assert over_sets(findings, PLAN) == []
        reference = replace(
            findings[0].measure,
            points=[(0, 0), *PLAN.shifts[1:]],  # as many, one of them the reference
        )
        assert over_sets([Finding(reference, findings[0].estimate)], PLAN) == []

    def test_is_of_sets_whose_shifts_a_curve_has(self, generator):
        whole = len(PLAN.sets[0].shifts)
        part = curve(generator)[0].then(
            "PC", "shift", PLAN.shifts[:whole], lambda values: values[:, :whole]
        )
        [found] = over_sets(estimate_all([[part]], BOOTSTRAP), PLAN)
        assert found.measure.points == ("pgrid",)
        few = part.then("PC", "shift", PLAN.shifts[:3], lambda values: values[:, :3])
        assert over_sets(estimate_all([[few]], BOOTSTRAP), PLAN) == []


class TestEstimateAll:
    def test_asks_each_statistic_for_each_resample_once(self):
        seen = []

        def statistic(weights):
            seen.append(len(weights))
            return weights.mean(1, keepdims=True)

        measure = replace(mean([0] * IMAGES), statistic=statistic)
        estimate_all([[measure]], BOOTSTRAP)
        assert sum(seen) == 1 + BOOTSTRAP.count + IMAGES  # all images, resamples, one left out

    def test_shows_its_progress(self):
        shown = []

        def track(things):
            for number, thing in enumerate(things, 1):
                shown.append((number, len(things)))
                yield thing

        estimate_all([[mean([0] * IMAGES), mean([0] * IMAGES, part="mask")]], BOOTSTRAP, track)
        assert shown == [(1, 2), (2, 2)]

    def test_refuses_runs_that_were_not_measured_alike(self):
        one, other = [mean([0] * IMAGES)], [mean([0] * IMAGES, part="mask")]
        with pytest.raises(ValueError, match=r"runs 1 and 3 were .* only 1 has PC of box"):
            estimate_all([one, one, other], BOOTSTRAP)
        with pytest.raises(ValueError, match=r"runs 1 and 2 were .* only 2 has PC of mask"):
            estimate_all([one, one + other], BOOTSTRAP)

    def test_refuses_the_same_measure_twice_and_no_run(self):
        with pytest.raises(ValueError, match="twice: PC of box"):
            estimate_all([[mean([0] * IMAGES)] * 2], BOOTSTRAP)
        with pytest.raises(ValueError, match="one training run at least"):
            estimate_all([], BOOTSTRAP)

    def test_refuses_more_values_than_points(self):
        measure = Measure(
            *("task", "AP", "box", "set", ["pgrid"]), lambda weights: np.zeros((len(weights), 2))
        )
        with pytest.raises(ValueError, match=r"AP of box .* 1 points, but values of shape \(2,\)"):
            estimate_all([[measure]], BOOTSTRAP)


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(numbers, numbers, st.one_of(st.none(), st.integers(-128, 128), st.floats(-1, 1)))
def test_rows_survive_json(value, low, dy):
    row = Row(
        *("task", "AP", "box", "shift", None, dy, dy, "position", ("pgrid", "sub")),
        *(value, low, 1.0, math.nan, math.nan, 0.5, 7, 1, 0),
    )
    text = json.dumps(to_json(row), allow_nan=False)
    assert repr(from_json(Row, json.loads(text))) == repr(row)  # repr, for NaN is not itself
