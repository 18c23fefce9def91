"""Curves over sizes: closed forms, slow loops, and what is undefined."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.evaluation.statistics.sizes import (
    delta,
    peak,
    relative,
    res_auc_down,
    res_auc_up,
    rr90,
)

RATIOS = (0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75, 2.0)
LOGS = np.log2(RATIOS)
NUMBERS = {
    "down": res_auc_down,
    "up": res_auc_up,
    "peak": lambda ratios, values: peak(ratios, values)[0],
    "best": lambda ratios, values: peak(ratios, values)[1],
    "rr90": rr90,
}


def curves(least=0.01):
    return st.lists(st.floats(least, 1), min_size=9, max_size=9).map(np.array)


class TestClosedForms:
    @pytest.mark.parametrize("ratios", [RATIOS, (0.7, 1, 1.1), (0.25, 0.6, 1, 4)])
    def test_constant(self, ratios):
        values = np.full(len(ratios), 0.3)
        assert res_auc_down(ratios, values) == pytest.approx(1, rel=1e-14)
        assert res_auc_up(ratios, values) == pytest.approx(1, rel=1e-14)
        assert peak(ratios, values) == (1, 1)
        assert rr90(ratios, values) == max(ratios)
        assert not delta(ratios, values).any()
        assert (relative(ratios, values) == 1).all()

    @given(st.floats(0.01, 100), st.floats(0, 0.9))
    def test_linear_in_octaves(self, at_1, slope):
        """M = M(1) (1 - slope log2 r): half a slope of mean, and a tenth lost after 0.1 / slope."""
        values = at_1 * (1 - slope * LOGS)
        assert res_auc_down(RATIOS, values) == pytest.approx(1 + slope / 2, rel=1e-12)
        assert res_auc_up(RATIOS, values) == pytest.approx(1 - slope / 2, rel=1e-12)
        expected = 2 ** min(0.1 / slope, 1) if slope > 1e-6 else 2
        assert rr90(RATIOS, values) == pytest.approx(expected, rel=1e-9)

    def test_a_tent_larger_than_the_training_size(self):
        """Best at 1.25, linear in octaves on both sides."""
        values = 0.8 - 0.4 * abs(LOGS - math.log2(1.25))
        at_1 = 0.8 - 0.4 * math.log2(1.25)
        assert peak(RATIOS, values) == (1.25, pytest.approx(0.8 / at_1))
        fall = math.log2(1.25) + (0.8 - 0.9 * at_1) / 0.4  # octaves where a tenth of M(1) is gone
        assert rr90(RATIOS, values) == pytest.approx(2**fall)

    def test_only_one_octave_counts(self):
        """What lies beyond half and twice the size ends on the line through it."""
        ratios, values = (0.25, 1, 4), np.array([0.2, 0.4, 0.8])
        assert res_auc_down(ratios, values) == pytest.approx((0.3 + 0.4) / 2 / 0.4)
        assert res_auc_up(ratios, values) == pytest.approx((0.6 + 0.4) / 2 / 0.4)

    def test_less_than_an_octave_is_what_there_is(self):
        ratios, values = (0.8, 1, 1.1, 1.2), np.array([0.2, 0.4, 0.4, 0.1])
        assert res_auc_down(ratios, values) == pytest.approx(0.75)
        first, second = math.log2(1.1), math.log2(1.2 / 1.1)
        expected = (first * 1 + second * (1 + 0.25) / 2) / (first + second)
        assert res_auc_up(ratios, values) == pytest.approx(expected)


class TestPeak:
    @pytest.mark.parametrize(
        ("values", "place"),
        [
            ([9, 1, 1, 1, 5, 1, 1, 1, 1], 0.5),
            ([5, 1, 1, 5, 5, 5, 1, 1, 5], 1),
            ([9, 1, 9, 1, 5, 1, 9, 9, 1], 0.75),  # nearer than 1.5, in octaves
            ([9, 1, 1, 1, 5, 1, 1, 1, 9], 0.5),  # as near as 2
            ([0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ],
    )
    def test_nearest_of_equals(self, values, place):
        assert peak(RATIOS, np.array(values, dtype=float))[0] == place


class TestRR90:
    def test_a_size_that_recovers_does_not_count(self):
        values = np.array([1, 1, 1, 1, 1, 1, 0.8, 1, 1])
        halfway = math.sqrt(1.25 * 1.5)
        assert rr90(RATIOS, values) == pytest.approx(halfway)

    def test_smaller_sizes_do_not_matter(self):
        values = np.array([0, 0, 0, 0, 1, 1, 1, 0.7, 0.7])
        expected = 2 ** (math.log2(1.5) + math.log2(1.75 / 1.5) / 3)
        assert rr90(RATIOS, values) == pytest.approx(expected)

    def test_exactly_nine_tenths_is_enough(self):
        assert rr90((1, 2), np.array([10.0, 9.0])) == 2


def slow_mean(points, low, high):
    """Of the line through points, between two places, by loops."""

    def at(log):
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if x0 <= log <= x1:
                return y0 + (y1 - y0) * (log - x0) / (x1 - x0)
        raise AssertionError

    low, high = max(low, points[0][0]), min(high, points[-1][0])
    xs = [low, *(x for x, _ in points if low < x < high), high]
    area = sum((b - a) * (at(a) + at(b)) / 2 for a, b in itertools.pairwise(xs))
    return area / (high - low)


def slow_peak(points):
    best, place = -1, 0
    for x, y in sorted(points, key=lambda point: (abs(point[0]), point[0])):
        if y > best:
            best, place = y, x
    return place, best


def slow_end(points, level):
    """Where the line first falls below a level, from 0 on."""
    for (x0, y0), (x1, y1) in itertools.pairwise(point for point in points if point[0] >= 0):
        if y1 < level:
            return x0 + (x1 - x0) * (y0 - level) / (y0 - y1)
    return points[-1][0]


@given(st.data())
def test_slow_loops(data):
    others = st.floats(0.2, 5).map(lambda x: round(x, 3)).filter(lambda x: x != 1)
    down = data.draw(st.lists(others.filter(lambda x: x < 1), min_size=1, max_size=4, unique=True))
    up = data.draw(st.lists(others.filter(lambda x: x > 1), min_size=1, max_size=4, unique=True))
    ratios = data.draw(st.permutations([*down, 1.0, *up]))
    values = np.array([data.draw(st.floats(0.01, 1)) for _ in ratios])
    points = sorted(zip(map(math.log2, ratios), values, strict=True))
    at_1 = dict(points)[0]
    place, best = slow_peak(points)
    expected = {
        "down": slow_mean(points, -1, 0) / at_1,
        "up": slow_mean(points, 0, 1) / at_1,
        "peak": 2**place,
        "best": best / at_1,
        "rr90": 2 ** slow_end(points, 0.9 * at_1),
    }
    found = {name: number(ratios, values) for name, number in NUMBERS.items()}
    assert found == pytest.approx(expected, rel=1e-9)


@given(curves(), st.integers(-8, 8))
def test_the_scale_does_not_matter(values, power):
    """Powers of two, so that nothing is rounded and equal sizes stay equal."""
    for number in (*NUMBERS.values(), relative):
        np.testing.assert_array_equal(number(RATIOS, 2.0**power * values), number(RATIOS, values))
    changes = delta(RATIOS, 2.0**power * values)
    np.testing.assert_array_equal(changes, 2.0**power * delta(RATIOS, values))


@given(curves(), st.permutations(range(9)))
def test_the_order_does_not_matter(values, order):
    ratios = [RATIOS[at] for at in order]
    for name, number in NUMBERS.items():
        assert number(ratios, values[order]) == pytest.approx(number(RATIOS, values)), name


@given(curves())
def test_bounds(values):
    shares = relative(RATIOS, values)
    down, up, place, best, end = (number(RATIOS, values) for number in NUMBERS.values())
    slack = 1e-12
    assert shares[:5].min() - slack <= down <= shares[:5].max() + slack
    assert shares[4:].min() - slack <= up <= shares[4:].max() + slack
    assert place in RATIOS
    assert best == shares.max() >= 1
    assert 1 <= end <= 2


def test_replicates_of_a_bootstrap_are_curves_of_their_own():
    values = np.random.default_rng(0).random((4, 3, 9))
    values[1, 2] = 0
    values[2, 0, 7] = np.nan
    for name, number in (NUMBERS | {"delta": delta, "relative": relative}).items():
        found = number(RATIOS, values)
        for at in np.ndindex(4, 3):
            np.testing.assert_allclose(found[at], number(RATIOS, values[at]), err_msg=name)


class TestUndefined:
    def test_a_side_without_sizes(self):
        assert np.isnan(res_auc_down((1, 1.5, 2), np.ones(3)))
        assert np.isnan(res_auc_up((0.5, 1), np.ones((2, 2)))).tolist() == [True, True]
        assert np.isnan(rr90((0.5, 1), np.ones(2)))
        assert peak((1, 2), np.array([1.0, 3.0])) == (2, 3)

    def test_a_model_that_finds_nothing_at_its_training_size(self):
        values = np.array([0.1, 0, 0.1])
        found = {name: number((0.5, 1, 2), values) for name, number in NUMBERS.items()}
        assert found.pop("peak") == 0.5
        assert np.isnan(list(found.values())).all()

    @pytest.mark.parametrize(
        ("missing", "without"),
        [
            (0.5, {"down", "peak", "best"}),
            (1.0, {*NUMBERS}),
            (2.0, {"up", "peak", "best", "rr90"}),
            (4.0, {"peak", "best", "rr90"}),
        ],
    )
    def test_what_was_not_measured_is_not_skipped(self, missing, without):
        ratios = (0.5, 1.0, 2.0, 4.0)
        values = np.where(np.array(ratios) == missing, np.nan, 0.5)
        found = {name for name, number in NUMBERS.items() if np.isnan(number(ratios, values))}
        assert found == without


@pytest.mark.parametrize(
    ("ratios", "values", "message"),
    [
        ((0.5, 2), [1, 1], "training size, 1, is not among"),
        ((1, 1, 2), [1, 1, 1], "given twice"),
        ((0, 1), [1, 1], "sizes are positive"),
        ((1, math.inf), [1, 1], "sizes are positive"),
        ((1, 2), [1, 1, 1], r"2 sizes, but values of shape \(3,\)"),
        ((1, 2), [1, -1], "NaN where nothing was measured"),
        ((), [], "training size, 1, is not among"),
    ],
)
def test_what_is_no_curve_is_refused(ratios, values, message):
    for number in (*NUMBERS.values(), delta, relative):
        with pytest.raises(ValueError, match=message):
            number(ratios, np.array(values, dtype=float))
