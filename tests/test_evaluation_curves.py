"""Curves over shifts: closed forms, a slow loop, and mixtures that are refused."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.evaluation.predictions.label_maps import class_counts, overlap
from mmplugins.evaluation.shifts import below_a_period, shift_set, whole_periods
from mmplugins.evaluation.statistics.curves import auc_shift, summarise

PERIOD = 16
SETS = {"whole": whole_periods(PERIOD), "sub": below_a_period(PERIOD)}


@pytest.fixture(params=SETS)
def shifts(request):
    return SETS[request.param]


def distances(shifts):
    return np.array([math.hypot(*shift) for shift in shifts])


def test_summary_of_a_curve():
    values = np.array([40.0, 30.0, 50.0, 30.0])
    summary = summarise([(16, 0), (0, -16), (32, 0), (0, 32)], values, 50.0)
    np.testing.assert_array_equal(summary.delta, [-10, -20, 0, -20])
    assert summary.mean == 37.5
    assert summary.std == pytest.approx(math.sqrt((2.5**2 + 7.5**2 + 12.5**2 + 7.5**2) / 4))
    assert summary.minimum == 30
    assert summary.rps == 75
    np.testing.assert_array_equal(summary.worst, [0, -16])  # the first of equals


def test_a_constant_curve_has_area_one(shifts):
    values = np.full(len(shifts), 0.3)
    assert auc_shift(shifts, values, 0.3, period=PERIOD) == pytest.approx(1, rel=1e-14)
    assert summarise(shifts, values, 0.3).rps == pytest.approx(100, rel=1e-14)


@given(st.floats(0.1, 100), st.floats(0, 0.19))
@pytest.mark.parametrize("shifts", SETS.values(), ids=SETS)
def test_a_log_linear_curve_has_the_area_of_its_middle(shifts, unshifted, slope):
    far = distances(shifts)
    values = unshifted * (1 - slope * np.log(far))
    middle = 1 - slope * np.log(far.min() * far.max()) / 2
    area = auc_shift(shifts, values, unshifted, period=PERIOD)
    assert area == pytest.approx(middle, rel=1e-12)


def test_area_is_that_of_a_loop_over_means_at_each_distance(shifts):
    values = np.random.default_rng(0).random(len(shifts))
    groups = {}
    for (dy, dx), value in zip(shifts, values, strict=True):
        groups.setdefault(dy * dy + dx * dx, []).append(value / 0.8)
    points = [(math.log(k) / 2, sum(v) / len(v)) for k, v in sorted(groups.items())]
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        area += (x1 - x0) * (y0 + y1) / 2
    expected = area / (points[-1][0] - points[0][0])
    assert auc_shift(shifts, values, 0.8, period=PERIOD) == pytest.approx(expected, rel=1e-12)
    order = np.random.default_rng(1).permutation(len(shifts))
    reordered = auc_shift([shifts[i] for i in order], values[order], 0.8, period=PERIOD)
    assert reordered == pytest.approx(expected, rel=1e-12)


def test_fractions_of_a_pixel_are_below_a_period():
    values = np.full(6, 0.5)
    assert auc_shift(shift_set("frac", period=PERIOD), values, 1.0, period=PERIOD) == 0.5


def test_replicates_of_a_bootstrap_are_curves_of_their_own(shifts):
    rng = np.random.default_rng(2)
    values, unshifted = rng.random((4, 3, len(shifts))), rng.random((4, 3)) + 0.1
    summary = summarise(shifts, values, unshifted)
    areas = auc_shift(shifts, values, unshifted, period=PERIOD)
    for at in np.ndindex(4, 3):
        single = summarise(shifts, values[at], unshifted[at])
        for name in ("delta", "mean", "std", "minimum", "rps", "worst"):
            np.testing.assert_allclose(getattr(summary, name)[at], getattr(single, name))
        area = auc_shift(shifts, values[at], unshifted[at], period=PERIOD)
        assert areas[at] == pytest.approx(area, rel=1e-14)


def test_a_model_that_finds_nothing_has_no_ratios(shifts):
    values = np.zeros((2, len(shifts)))
    values[1] = 0.2
    unshifted = np.array([0.0, 0.4])
    np.testing.assert_allclose(summarise(shifts, values, unshifted).rps, [np.nan, 50])
    np.testing.assert_allclose(auc_shift(shifts, values, unshifted, period=PERIOD), [np.nan, 0.5])


def test_what_was_not_measured_is_not_skipped(shifts):
    values = np.full(len(shifts), 0.5)
    values[2] = np.nan
    summary = summarise(shifts, values, 0.5)
    assert np.isnan([summary.mean, summary.minimum, summary.rps]).all()
    assert np.isnan(auc_shift(shifts, values, 0.5, period=PERIOD))
    assert np.isnan(summary.delta).sum() == 1


def test_miou_of_a_rolling_stripe_in_closed_form():
    """A model that ignores the shift altogether: a stripe w wide, d off, has IoU (w-d)/(w+d)."""
    height, width, stripe, shifts = 4, 64, 24, [(0, 4), (0, 8), (0, 16)]
    truth = np.zeros((height, width), dtype=int)
    truth[:, :stripe] = 1
    everything = np.ones(truth.shape, dtype=bool)
    whole = (0, 0, height, width)

    def miou(shift):
        _, said = overlap(truth, truth, shift, whole, circular=True)
        shared, either = class_counts(said, truth, everything, num_classes=2)
        return (shared / either).mean()

    values = np.array([miou(shift) for shift in shifts])
    rest = width - stripe
    expected = [((stripe - d) / (stripe + d) + (rest - d) / (rest + d)) / 2 for _, d in shifts]
    summary = summarise(shifts, values, miou((0, 0)))
    np.testing.assert_allclose(summary.delta, np.array(expected) - 1, rtol=1e-13)
    np.testing.assert_array_equal(summary.worst, (0, 16))


# Errors


@pytest.mark.parametrize(
    ("shifts", "message"),
    [
        (SETS["whole"] + SETS["sub"], "10 of aliasing, 24 of position"),
        ([(16, 0), (20, 0)], "1 of mixed, 1 of position"),
        ([(20, 0), (0, 40)], "2 of mixed"),
        ([(16, 3), (32, 5)], "2 of mixed"),  # whole on one axis only
        ([(16, 0), (0, -16)], "two distances"),
        ([(0, 0), (16, 0)], r"\(0, 0\) is no point"),
        ([(0, 0), (1, 0)], r"\(0, 0\) is no point"),
    ],
)
def test_an_area_is_of_one_kind_of_shifts(shifts, message):
    with pytest.raises(ValueError, match=message):
        auc_shift(shifts, np.ones(len(shifts)), 1.0, period=PERIOD)


@pytest.mark.parametrize(
    ("values", "unshifted", "message"),
    [
        (np.ones(2), 1.0, "one value a shift"),
        (np.ones((2, 3)), 1.0, "one value a shift"),
        (np.array([0.5, -1.0, 0.5]), 1.0, "NaN where nothing"),
        (np.ones(3), -1.0, "NaN where nothing"),
    ],
)
def test_values_that_fit_no_shift_or_mark_absence_are_refused(values, unshifted, message):
    shifts = [(16, 0), (32, 0), (64, 0)]
    with pytest.raises(ValueError, match=message):
        summarise(shifts, values, unshifted)


def test_no_shifts_make_no_curve():
    with pytest.raises(ValueError, match="at least one"):
        summarise([], np.ones(0), 1.0)
