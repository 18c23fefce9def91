"""Resamples, intervals and tests against loops, SciPy, known variances and simulated truths."""

import doctest

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.evaluation import resampling, statistics
from mmplugins.evaluation.resampling import Bootstrap, Estimate, divide, ratio_of_sums
from mmplugins.evaluation.statistics import (
    band,
    detectable_effect,
    holm,
    interval,
    noise_floor,
    p_value,
    standard_error,
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def mean_of(values: np.ndarray):
    """Statistic: the mean over images, the last axis."""
    return ratio_of_sums(values, np.ones_like(values))


def of_images(values: np.ndarray, **options):
    return Bootstrap(values.shape[-1], **options).estimate(mean_of(values))


@pytest.mark.parametrize("module", [resampling, statistics])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


class TestResamples:
    def test_multiplicities_are_kept(self):
        weights = Bootstrap(50).weights
        assert weights.shape == (1000, 50)
        assert (weights.sum(1) == 50).all()
        binomial = scipy.stats.binom(50, 1 / 50)
        for times in range(4):
            assert np.mean(weights == times) == pytest.approx(binomial.pmf(times), abs=0.01)

    def test_same_for_all_who_name_the_seed_and_other_for_others(self):
        assert np.array_equal(Bootstrap(9, 20, seed=3).weights, Bootstrap(9, 20, seed=3).weights)
        assert not np.array_equal(Bootstrap(9, 20, seed=3).weights, Bootstrap(9, 20).weights)
        with pytest.raises(ValueError, match="read-only"):
            Bootstrap(9).weights[:] = 1

    def test_ratio_of_sums_is_that_of_repeated_images(self, generator):
        numerator, denominator = generator.random((2, 3, 11))
        estimate = Bootstrap(11, 150).estimate(ratio_of_sums(numerator, denominator))
        for b, weights in enumerate(Bootstrap(11, 150).weights.astype(int)):
            for shift in range(3):
                sums = [np.repeat(x[shift], weights).sum() for x in (numerator, denominator)]
                assert estimate.draws[b, shift] == pytest.approx(sums[0] / sums[1], rel=1e-12)
        for i in range(11):
            rest = [np.delete(x, i, axis=1).sum(1) for x in (numerator, denominator)]
            np.testing.assert_allclose(estimate.left_out[0][i], rest[0] / rest[1], rtol=1e-12)
        np.testing.assert_allclose(estimate.value, numerator.sum(1) / denominator.sum(1))

    def test_any_function_of_weights_is_a_statistic(self, generator):
        values = generator.random(9)

        def maximum(weights):
            return np.where(weights > 0, values, -1).max(1)

        estimate = Bootstrap(9, 300).estimate(maximum)
        assert estimate.value == values.max()
        expected = [np.repeat(values, w).max() for w in Bootstrap(9, 300).weights.astype(int)]
        assert estimate.draws.tolist() == expected

    def test_spread_is_the_standard_error_and_not_that_of_a_deduplicated_bootstrap(self, generator):
        values = generator.standard_normal(400)
        bootstrap = Bootstrap(400, 4000)
        known = values.std() / 20
        found = standard_error(bootstrap.estimate(mean_of(values)))
        assert found / known == pytest.approx(1, abs=0.04)
        without_copies = (bootstrap.weights > 0).astype(float)
        subsample = mean_of(values)(without_copies).std()
        assert subsample / known == pytest.approx(0.763, abs=0.04)  # the instrument sees the fault

    def test_errors(self):
        with pytest.raises(ValueError, match="0 images"):
            Bootstrap(0)
        with pytest.raises(ValueError, match="one statistic for each"):
            Bootstrap(3).estimate()
        with pytest.raises(ValueError, match="shapes differ"):
            ratio_of_sums([1, 2], [1])
        with pytest.raises(ValueError, match="0 over 0"):
            ratio_of_sums([1, np.nan], [1, 1])


class TestRuns:
    def test_is_the_crosswise_resample_of_runs_and_images(self, generator):
        values = generator.random((3, 8))
        bootstrap = Bootstrap(8, 140)
        estimate = bootstrap.estimate(*map(mean_of, values))
        runs = bootstrap.run_weights(3).astype(int)
        for b, images in enumerate(bootstrap.weights.astype(int)):
            drawn = [np.repeat(values[r], images).mean() for r in np.repeat(range(3), runs[b])]
            assert estimate.draws[b] == pytest.approx(np.mean(drawn))
        assert estimate.value == pytest.approx(values.mean())
        np.testing.assert_allclose(
            estimate.left_out[0], [np.delete(values, i, 1).mean() for i in range(8)]
        )
        np.testing.assert_allclose(
            estimate.left_out[1], [np.delete(values, r, 0).mean() for r in range(3)]
        )

    def test_variance_is_the_sum_of_both(self, generator):
        of_runs, of_images = generator.standard_normal((5, 1)) * 0.1, generator.standard_normal(200)
        estimate = Bootstrap(200, 4000).estimate(*map(mean_of, of_runs + of_images))
        known = np.sqrt(of_runs.var() / 5 + of_images.var() / 200)
        assert standard_error(estimate) / known == pytest.approx(1, abs=0.04)

    def test_tells_what_it_covers(self, generator):
        values = generator.random((3, 8))
        one = interval(of_images(values[0]))
        assert one.covers == "one training run: interval covers test images only"
        three = interval(Bootstrap(8).estimate(*map(mean_of, values)))
        assert three.covers == "interval covers test images and 3 training runs"
        assert three.runs == 3
        assert three.images == 8


class TestPairs:
    def test_difference_is_that_of_the_images(self, generator):
        first = generator.standard_normal(60)
        second = first + 0.1 * generator.standard_normal(60)
        bootstrap = Bootstrap(60)
        first, second, gain = map(bootstrap.estimate, map(mean_of, (first, second, second - first)))
        difference = second - first
        np.testing.assert_allclose(difference.draws, gain.draws, atol=1e-14)
        np.testing.assert_allclose(difference.left_out[0], gain.left_out[0], atol=1e-14)
        assert standard_error(difference) < 0.3 * standard_error(second)

    def test_ratios_and_means_are_formed_within_resamples(self, generator):
        curve = of_images(generator.random((4, 30)))
        mean = curve.combine(lambda values: values.mean(-1))
        np.testing.assert_array_equal(mean.draws, curve.draws.mean(1))
        relative = curve / curve.combine(lambda values: values[..., :1])
        np.testing.assert_allclose(relative.draws, curve.draws / curve.draws[:, :1])
        assert interval(relative).low[0] == interval(relative).high[0] == 1

    @pytest.mark.parametrize(
        "other", [Bootstrap(30, seed=1), Bootstrap(30, count=9), Bootstrap(31)]
    )
    def test_refuses_what_is_not_paired(self, other):
        first = Bootstrap(30).estimate(mean_of(np.arange(30.0)))
        with pytest.raises(ValueError, match="not paired"):
            first - other.estimate(mean_of(np.arange(float(other.images))))

    def test_refuses_other_numbers_of_runs(self):
        statistic = mean_of(np.arange(30.0))
        bootstrap = Bootstrap(30)
        with pytest.raises(ValueError, match="2 run"):
            bootstrap.estimate(statistic) - bootstrap.estimate(statistic, statistic)


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
        assert (
            floor < 6e-4
        ).all()  # 2 and a bit standard errors of 1e-3 / sqrt(50), plus the value


def test_divide_by_zero_is_nan_without_a_warning():
    assert np.isnan(divide(np.array([1.0, 0.0]), np.array([0.0, 0.0]))).all()
