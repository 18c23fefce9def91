"""Resamples, runs and pairs of models against loops and known variances."""

import doctest

import numpy as np
import pytest
import scipy.stats

from mmplugins.evaluation.statistics import intervals as statistics
from mmplugins.evaluation.statistics import resampling
from mmplugins.evaluation.statistics.intervals import (
    interval,
    standard_error,
)
from mmplugins.evaluation.statistics.resampling import Bootstrap, divide, ratio_of_sums


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


def test_divide_by_zero_is_nan_without_a_warning():
    assert np.isnan(divide(np.array([1.0, 0.0]), np.array([0.0, 0.0]))).all()
