"""What a number from a few hundred images is worth: intervals, bands, p values, detectable effects.

Equation: bounds are quantiles of the resamples theta*, p = (k + 1) / (B + 1), and so on below.
Source: Davison & Hinkley, Bootstrap Methods and their Application,
https://doi.org/10.1017/CBO9780511802843; others at their function.
Reads: an `Estimate` of any shape; every number is found elementwise unless the docstring says more.

Undefined numbers: bounds, standard errors and p values are NaN where the value is NaN, where more
than a share (1 - level) / 2 of the resamples is NaN (the quantile could then lie anywhere), and for
a single image. Fewer NaN resamples are left out and counted in `Interval.undefined`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import ArrayLike
from scipy.stats import norm

from mmplugins.evaluation.statistics.resampling import Estimate, divide

_ROUNDING = 1e-12  # relative: sums in another order, not another resample


@dataclass(frozen=True, eq=False)
class Interval:
    """`value` and its bounds at `level`, elementwise; `undefined` counts resamples left out."""

    value: Float[ndarray, "..."]
    low: Float[ndarray, "..."]
    high: Float[ndarray, "..."]
    undefined: Int[ndarray, "..."]
    level: float
    method: str
    images: int
    runs: int

    @property
    def half_width(self) -> Float[ndarray, "..."]:
        """Half the distance between the bounds."""
        return np.asarray((self.high - self.low) / 2)

    @property
    def covers(self) -> str:
        """Which chance the interval is about."""
        return covers(self.runs)


def covers(runs: int) -> str:
    """Which chance an interval of so many training runs is about."""
    if runs == 1:
        return "one training run: interval covers test images only"
    return f"interval covers test images and {runs} training runs"


def standard_error(estimate: Estimate, level: float = 0.95) -> Float[ndarray, "..."]:
    """Standard deviation over resamples; `level` sets how many of them may be undefined."""
    return _each(lambda value, draws: draws.std(ddof=1), estimate, level)[0, ...]


def interval(
    estimate: Estimate, level: float = 0.95, method: Literal["bca", "percentile"] = "bca"
) -> Interval:
    """Pointwise interval: percentiles of the resamples, for BCa at corrected levels.

    BCa (https://doi.org/10.1080/01621459.1987.10478410) takes the bias from the share of resamples
    below the value, ties counted half, and the acceleration from the jackknife. It is NaN where all
    resamples lie on one side of the value and where the acceleration turns the levels around.

    Raises:
        ValueError: an unknown `method`, or a `level` outside (0, 1).
    """
    if method not in ("bca", "percentile"):
        raise ValueError(f"`method` is 'bca' or 'percentile', not {method!r}")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])

    def percentiles(value, draws):
        return np.quantile(draws, tails)

    def bca(value, draws, acceleration):
        levels = _bca_levels(value, draws, acceleration, tails)
        return np.full(2, np.nan) if np.isnan(levels).any() else np.quantile(draws, levels)

    if method == "percentile":
        bounds = _each(percentiles, estimate, level)
    else:
        bounds = _each(bca, estimate, level, _acceleration(estimate.left_out))
    return _as_interval(estimate, bounds, level, method)


def band(estimate: Estimate, level: float = 0.95) -> Interval:
    """Simultaneous (sup-t) band: holds all values, e.g. a curve over shifts, at once.

    value_j +- q se_j, q the quantile over resamples of max_j |theta*_j - value_j| / se_j
    (https://doi.org/10.1002/jae.2656). Points without spread have no width; what is undefined, a
    point or a resample at one point, has no part in the maximum.
    """
    error = standard_error(estimate, level)
    moving = error > 0
    if moving.any():
        deviation = np.abs(estimate.draws - estimate.value)[:, moving] / error[moving]
        largest = np.where(np.isnan(deviation), 0, deviation).max(1)
        error = np.quantile(largest, level) * error
    bounds = np.stack([estimate.value - error, estimate.value + error])
    return _as_interval(estimate, bounds, level, "sup-t")


def p_value(difference: Estimate, level: float = 0.95) -> Float[ndarray, "..."]:
    """Two-sided p value of "the difference is zero".

    (k + 1) / (B + 1), with k of B resamples at least as far from the value as the value is from
    zero (Davison & Hinkley, chapter 4); `level` sets how many may be undefined.
    """

    def p(value, draws):
        as_far = np.abs(draws - value) >= abs(value) * (1 - _ROUNDING)
        return (np.count_nonzero(as_far) + 1) / (len(draws) + 1)

    return _each(p, difference, level)[0, ...]


def holm(p_values: ArrayLike) -> Float[ndarray, " m"]:
    """Adjust p values for m comparisons at once, in the order given.

    max over p_(j) <= p_(i) of (m - j + 1) p_(j), at most one: Holm 1979,
    https://www.jstor.org/stable/4615733. NaN stays NaN and is no comparison.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]

    Raises:
        ValueError: p values that are no list of numbers in [0, 1].
    """
    p_values = np.asarray(p_values, float)
    if p_values.ndim != 1 or np.any((p_values < 0) | (p_values > 1)):
        raise ValueError(f"p values are a list of numbers in [0, 1], not {p_values}")
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # NaN sorts last
    adjusted = np.full_like(p_values, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def detectable_effect(
    difference: Estimate, alpha: float = 0.05, power: float = 0.8
) -> Float[ndarray, "..."]:
    """Minimum detectable effect of a paired difference with this standard error.

    (z_{1 - alpha / 2} + z_power) se, 2.80 se by default: the true difference that a two-sided test
    at `alpha` finds with probability `power` (Bloom 1995,
    https://doi.org/10.1177/0193841X9501900504).

    Raises:
        ValueError: `alpha` or `power` outside (0, 1).
    """
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"`alpha` = {alpha} and `power` = {power} are not both in (0, 1)")
    factor = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    return np.asarray(factor * standard_error(difference, 1 - alpha))


def noise_floor(first: Estimate, second: Estimate, level: float = 0.95) -> Float[ndarray, "..."]:
    """Size up to which a difference may be the machine's: from one checkpoint run twice.

    The same statistic of two runs of one checkpoint (repeated, or fp32 and AMP); the largest size
    in the percentile interval of their paired difference. 0 if the runs agree on every resample.
    """
    found = interval(second - first, level, "percentile")
    return np.asarray(np.max(np.abs([found.value, found.low, found.high]), axis=0))


def _as_interval(
    estimate: Estimate, bounds: Float[ndarray, "2 ..."], level: float, method: str
) -> Interval:
    return Interval(
        value=estimate.value,
        low=bounds[0, ...],
        high=bounds[1, ...],
        undefined=np.asarray(np.isnan(estimate.draws).sum(0)),
        level=level,
        method=method,
        images=estimate.bootstrap.images,
        runs=estimate.runs,
    )


def _each(
    function: Callable, estimate: Estimate, level: float, *arguments: Float[ndarray, "..."]
) -> Float[ndarray, "2 ..."]:
    """`function(value, defined draws, ...)` at each element, NaN by the rule of this module."""
    if not 0 < level < 1:
        raise ValueError(f"`level` = {level} is not in (0, 1)")
    value = estimate.value.ravel()
    draws = estimate.draws.reshape(len(estimate.draws), -1)
    known = ~np.isnan(value) & (np.isnan(draws).mean(0) <= (1 - level) / 2)
    result = np.full((2, value.size), np.nan)
    for at in np.flatnonzero(known & (estimate.bootstrap.images > 1)):
        defined = draws[~np.isnan(draws[:, at]), at]
        result[:, at] = function(value[at], defined, *(a.ravel()[at] for a in arguments))
    return result.reshape(2, *estimate.value.shape)


def _acceleration(left_out: tuple[Float[ndarray, "_ ..."], ...]) -> Float[ndarray, "..."]:
    """Skewness of the jackknife's influences, of images and runs together."""
    influences = [(part.mean(0) - part) * (len(part) - 1) / len(part) for part in left_out]
    cubes = sum((influence**3).sum(0) for influence in influences)
    squares = sum((influence**2).sum(0) for influence in influences)
    return np.where(squares == 0, 0.0, divide(cubes, 6 * squares**1.5))


def _bca_levels(value, draws, acceleration, tails: Float[ndarray, "2"]) -> Float[ndarray, "2"]:
    margin = _ROUNDING * max(abs(value), np.abs(draws).max())
    below, above = draws < value - margin, draws > value + margin
    share = (np.count_nonzero(below) + np.count_nonzero(~above)) / (2 * len(draws))
    if share in (0, 1):
        return np.full(2, np.nan)
    shifted = norm.ppf(share) + norm.ppf(tails)
    scale = 1 - acceleration * shifted
    return np.where(scale > 0, norm.cdf(norm.ppf(share) + divide(shifted, scale)), np.nan)
