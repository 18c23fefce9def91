"""Intervals, bands and tests against loops, SciPy and simulated truths."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from test_evaluation_resampling import mean_of, of_images

from mmplugins.evaluation.statistics.intervals import (
    band,
    detectable_effect,
    holm,
    interval,
    noise_floor,
    p_value,
    standard_error,
)
from mmplugins.evaluation.statistics.resampling import Bootstrap, Estimate, ratio_of_sums


class TestInterval:
    @pytest.mark.parametrize(("method", "name"), [("bca", "BCa"), ("percentile", "percentile")])
    @pytest.mark.parametrize("level", [0.8, 0.95])
    def test_equals_scipy_on_the_same_resamples(self, generator, method, name, level):
        numerator, denominator = generator.lognormal(size=(2, 35))
        estimate = Bootstrap(35).estimate(ratio_of_sums(numerator, denominator))
        found = interval(estimate, level, method)
        nothing_yet = scipy.stats.bootstrap((numerator,), np.mean, n_resamples=2)
        nothing_yet.bootstrap_distribution = estimate.draws
        theirs = scipy.stats.bootstrap(
            (numerator, denominator),
            lambda a, b, axis: a.sum(axis) / b.sum(axis),
            paired=True,
            n_resamples=0,
            bootstrap_result=nothing_yet,
            confidence_level=level,
            method=name,
        )
        assert (found.low, found.high) == pytest.approx(theirs.confidence_interval, rel=1e-10)
        assert standard_error(estimate) == pytest.approx(theirs.standard_error)
        assert found.half_width == pytest.approx((found.high - found.low) / 2)

    def test_is_elementwise(self, generator):
        values = generator.lognormal(size=(2, 3, 20))
        found = interval(of_images(values))
        for at in np.ndindex(2, 3):
            alone = interval(of_images(values[at]))
            np.testing.assert_allclose(
                (found.value[at], found.low[at], found.high[at]),
                (alone.value, alone.low, alone.high),
            )

    def test_holds_the_truth_as_often_as_it_says(self, generator):
        truth, held = np.exp(0.5), {"bca": 0, "percentile": 0}
        low = 0
        for seed in range(300):
            estimate = of_images(generator.lognormal(size=80), count=400, seed=seed)
            for method in held:
                found = interval(estimate, 0.9, method)
                held[method] += found.low <= truth <= found.high
            low += p_value(estimate.combine(lambda x: x - truth)) <= 0.1
        assert 0.83 < held["percentile"] / 300 < 0.93
        assert held["percentile"] - 3 <= held["bca"] < 0.94 * 300
        assert 0.06 < low / 300 < 0.17

    def test_all_images_equal_leave_no_width(self):
        found = interval(of_images(np.full(6, 0.1)))
        assert (found.low, found.high) == pytest.approx((0.1, 0.1), rel=1e-12)

    def test_one_image_tells_nothing(self):
        estimate = of_images(np.array([0.3]))
        found = interval(estimate)
        assert estimate.value == 0.3
        assert np.isnan([found.low, found.high, standard_error(estimate), p_value(estimate)]).all()

    def test_value_outside_all_resamples_has_no_bca(self):
        def distinct(weights):  # a bootstrap sees fewer distinct images than there are
            return np.count_nonzero(weights, axis=1).astype(float)

        estimate = Bootstrap(40).estimate(distinct)
        assert np.isnan(interval(estimate).low)
        assert 20 < interval(estimate, method="percentile").low < 25

    def test_acceleration_that_turns_the_levels_around_has_no_bca(self):
        value = np.array(1.0)
        draws = np.linspace(0, 1.001, 1000)  # all but one below the value
        left_out = np.where(np.arange(500) == 0, 0.0, 1.0)  # one image is all: acceleration 1 / 6
        estimate = Estimate(value, draws, (left_out,), Bootstrap(500))
        assert np.isfinite(interval(estimate, 0.99).high)
        assert np.isnan(interval(estimate, 0.9999).high)  # z of 3.0 + 3.9 > 6

    def test_undefined_value_and_resamples(self):
        holders = np.zeros((4, 60))
        for row, count in enumerate((0, 1, 10, 60)):
            holders[row, :count] = 1  # images that have such an object at all
        values = holders * np.linspace(0, 1, 60)
        estimate = Bootstrap(60).estimate(ratio_of_sums(values, holders))
        found = interval(estimate)
        absent = np.array([(Bootstrap(60).weights @ row == 0).sum() for row in holders])
        assert found.undefined.tolist() == absent.tolist()
        assert found.undefined[0] == 1000
        assert found.undefined[1] > 300
        assert np.isnan(found.low).tolist() == [True, True, False, False]
        assert np.isnan(p_value(estimate)).tolist() == [True, True, False, False]

    def test_few_undefined_resamples_are_left_out(self):
        holders = np.repeat([1.0, 0.0], [4, 40])
        values = np.array([0.1, 0.4, 0.5, 0.9] + [0.0] * 40)
        estimate = Bootstrap(44).estimate(ratio_of_sums(values, holders))
        found = interval(estimate, method="percentile")
        defined = estimate.draws[Bootstrap(44).weights[:, :4].sum(1) > 0]
        assert 0 < found.undefined == 1000 - len(defined)
        assert (found.low, found.high) == tuple(np.percentile(defined, [2.5, 97.5]))
        assert standard_error(estimate) == pytest.approx(defined.std(ddof=1))

    def test_errors(self):
        estimate = of_images(np.arange(5.0))
        with pytest.raises(ValueError, match="'bca' or 'percentile', not 'basic'"):
            interval(estimate, method="basic")
        for function in (interval, band, p_value):
            with pytest.raises(ValueError, match="`level` = 95"):
                function(estimate, level=95)


class TestBand:
    def test_holds_the_whole_curve_as_often_as_it_says(self, generator):
        held = pointwise = 0
        for seed in range(200):
            curve = of_images(generator.standard_normal((12, 60)), count=400, seed=seed)
            found, single = band(curve), interval(curve)
            held += (found.low <= 0).all() and (found.high >= 0).all()
            pointwise += (single.low <= 0).all() and (single.high >= 0).all()
        assert 0.88 < held / 200 < 0.98
        assert pointwise / 200 < 0.7

    def test_of_one_point_is_as_wide_as_its_interval(self, generator):
        point = of_images(generator.standard_normal((1, 80)))
        assert band(point).half_width == pytest.approx(1.96 * standard_error(point), rel=0.06)

    def test_fixed_and_undefined_points_have_no_part(self, generator):
        curve = generator.random((3, 40))
        ones = np.ones_like(curve)
        curve[1], ones[2], curve[2] = 1, 0, 0
        estimate = Bootstrap(40).estimate(ratio_of_sums(curve, ones))
        found = band(estimate)
        assert found.low[1] == found.high[1] == 1
        assert np.isnan(found.low[2])
        alone = band(estimate.combine(lambda values: values[..., :1]))
        assert found.half_width[0] == pytest.approx(alone.half_width[0])


class TestTests:
    def test_p_value_counts_resamples(self, generator):
        estimate = of_images(generator.standard_normal((3, 25)) + 0.3, count=500)
        for p, value, draws in zip(
            p_value(estimate), estimate.value, estimate.draws.T, strict=True
        ):
            assert p == (sum(abs(d - value) >= abs(value) for d in draws) + 1) / 501

    def test_p_value_ends(self):
        assert p_value(of_images(np.zeros(5))) == 1
        assert p_value(of_images(np.full(5, 0.1))) == 1 / 1001

    @given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.01, 0.02, np.nan])), max_size=12))
    def test_holm_is_its_slow_loop(self, p_values):
        found = holm(np.array(p_values))
        known = [p for p in p_values if not np.isnan(p)]
        for level in {0.0, 0.05, *known}:  # rejected one by one, smallest first, until one survives
            rejected, threshold = 0, sorted(known)
            while rejected < len(known):
                if (len(known) - rejected) * threshold[rejected] > level:
                    break
                rejected += 1
            assert np.count_nonzero(found <= level) == (len(known) if level >= 1 else rejected)
        assert np.isnan(found).tolist() == np.isnan(p_values).tolist()
        pairs = sorted(zip(known, found[~np.isnan(found)], strict=True))
        assert all(p <= adjusted <= 1 for p, adjusted in pairs)
        assert [a for _, a in pairs] == sorted(a for _, a in pairs)

    @pytest.mark.parametrize("wrong", [[0.1, 1.1], [-0.1], [[0.1]]])
    def test_holm_refuses_what_is_no_p_value(self, wrong):
        with pytest.raises(ValueError, match="p values are a list"):
            holm(wrong)

    def test_detectable_effect_is_found_with_its_power(self, generator):
        found = 0
        for seed in range(300):
            noise = generator.standard_normal(100)
            found += p_value(of_images(noise + 2.8016 / 10, count=300, seed=seed)) <= 0.05
        assert 0.73 < found / 300 < 0.88
        estimate = of_images(noise)
        assert detectable_effect(estimate) == pytest.approx(2.8016 * standard_error(estimate), 1e-4)
        with pytest.raises(ValueError, match="`power` = 80"):
            detectable_effect(estimate, power=80)

    def test_noise_floor(self, generator):
        values = generator.random((2, 50))
        bootstrap = Bootstrap(50)
        first = bootstrap.estimate(mean_of(values))
        assert (noise_floor(first, first) == 0).all()
        again = bootstrap.estimate(mean_of(values + 1e-3 * generator.standard_normal((2, 50))))
        floor = noise_floor(first, again)
        np.testing.assert_allclose(floor, noise_floor(again, first), rtol=1e-6)
        assert (floor >= abs(again.value - first.value)).all()
        # Two standard errors and a bit of 1e-3 / sqrt(50), and the value.
        assert (floor < 6e-4).all()
