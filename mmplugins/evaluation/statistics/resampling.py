"""Resamples of test images: how a statistic would have come out on other images.

Equation: a resample is a vector of multiplicities w ~ Multinomial(n; 1/n, ..., 1/n), and theta* =
statistic(w); for a ratio of sums, theta* = sum_i w_i a_i / sum_i w_i b_i.
Source: Efron & Tibshirani, An Introduction to the Bootstrap, https://doi.org/10.1201/9780429246593.
Reads: sums and counts per image, or any function of weights [b, n] -> [b, ...].

The resamples follow from (images, count, seed) alone. Models, encodings and shifts that share a
`Bootstrap` are therefore paired, and differences, ratios and means of `Estimate`s are formed within
each resample. Multiplicities stay: a resample without its duplicates is a subsample of 63 % of the
images, whose spread is sqrt(.368 / .632) = .763 of the standard error.

Several training runs of one recipe see the same images: runs and images are resampled crosswise,
one vector of weights for all runs (Owen, pigeonhole bootstrap, https://doi.org/10.1214/07-AOAS122).
Images drawn afresh for each run would average away the error that all runs share. Of R runs the
variance between runs comes out too small by (R - 1) / R, as with every bootstrap of R things.

Undefined: a ratio with denominator zero is NaN, on a resample as on all images.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike

Statistic = Callable[[Float[ndarray, "b n"]], Float[ndarray, "b ..."]]

_ROWS = 128  # resamples evaluated at once: bounds the memory of a statistic


@dataclass(frozen=True)
class Bootstrap:
    """`count` resamples of `images` images, the same for all who name the same `seed`.

    >>> accuracy = Bootstrap(images=4).estimate(ratio_of_sums([1, 2, 0, 3], [3, 3, 3, 3]))
    >>> float(accuracy.value)
    0.5

    Raises:
        ValueError: no images or no resamples.
    """

    images: int
    count: int = 1000
    seed: int = 0

    def __post_init__(self):
        if self.images < 1 or self.count < 1:
            raise ValueError(f"cannot draw {self.count} resamples of {self.images} images")

    @cached_property
    def weights(self) -> Float[ndarray, "B n"]:
        """How often each image is in each resample."""
        return self._draw(np.random.default_rng(self.seed), self.images)

    def run_weights(self, runs: int) -> Float[ndarray, "B runs"]:
        """How often each training run is in each resample."""
        return self._draw(np.random.default_rng([self.seed, runs]), runs)

    def _draw(self, generator: np.random.Generator, things: int) -> Float[ndarray, "B things"]:
        weights = generator.multinomial(things, np.full(things, 1 / things), self.count)
        weights = weights.astype(np.float64)
        weights.flags.writeable = False  # shared by all who ask
        return weights

    def estimate(self, *statistics: Statistic) -> "Estimate":
        """Evaluate one statistic, or the same one of several training runs, on the resamples.

        Raises:
            ValueError: no statistic.
        """
        if not statistics:
            raise ValueError("give one statistic for each training run")
        ones = np.ones((1, self.images))
        runs = len(statistics)
        values = np.stack([statistic(ones)[0] for statistic in statistics])
        draws = np.stack([_in_parts(s, self.count, self.weights.__getitem__) for s in statistics])
        left_out = [np.mean([self._leave_one_out(s) for s in statistics], axis=0)]
        if runs == 1:
            drawn = draws[0]
        else:
            drawn = np.einsum("br,rb...->b...", self.run_weights(runs) / runs, draws)
            left_out.append((values.sum(0) - values) / (runs - 1))
        return Estimate(np.asarray(values.mean(0)), drawn, tuple(left_out), self, runs)

    def _leave_one_out(self, statistic: Statistic) -> Float[ndarray, "n ..."]:
        def rows(part: slice) -> Float[ndarray, "b n"]:
            return (np.arange(self.images)[part, None] != np.arange(self.images)).astype(np.float64)

        return _in_parts(statistic, self.images, rows)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A statistic on all images, on each resample and with each image (and run) left out.

    Runs are averaged already. Estimates from one `Bootstrap` are combined within resamples, which
    pairs them; here each image gains alike, so that nothing about the gain is left to chance:

    >>> bootstrap = Bootstrap(images=4)
    >>> first = bootstrap.estimate(ratio_of_sums([1, 2, 0, 3], [3, 3, 3, 3]))
    >>> second = bootstrap.estimate(ratio_of_sums([2, 3, 1, 4], [3, 3, 3, 3]))
    >>> bool(first.draws.std() > 0.1), bool((second - first).draws.std() < 1e-12)
    (True, True)
    """

    value: Float[ndarray, "..."]
    draws: Float[ndarray, "B ..."]
    left_out: tuple[Float[ndarray, "_ ..."], ...]
    bootstrap: Bootstrap
    runs: int = 1

    def combine(self, function: Callable[..., ndarray], *others: "Estimate") -> "Estimate":
        """Apply a function of the last axes, e.g. a mean over shifts, within each resample.

        Raises:
            ValueError: `others` were drawn differently, so that pairs would not match.
        """
        all_of_them = (self, *others)
        for other in others:
            if (other.bootstrap, other.runs) != (self.bootstrap, self.runs):
                raise ValueError(
                    f"not paired: {self.bootstrap} with {self.runs} run(s) and "
                    f"{other.bootstrap} with {other.runs} run(s)"
                )
        return Estimate(
            np.asarray(function(*(e.value for e in all_of_them))),
            function(*(e.draws for e in all_of_them)),
            tuple(
                function(*parts) for parts in zip(*(e.left_out for e in all_of_them), strict=True)
            ),
            self.bootstrap,
            self.runs,
        )

    def __sub__(self, other: "Estimate") -> "Estimate":
        return self.combine(np.subtract, other)

    def __truediv__(self, other: "Estimate") -> "Estimate":
        return self.combine(divide, other)


def divide(numerator: ArrayLike, denominator: ArrayLike) -> ndarray:
    """Divide elementwise, by zero to NaN without a warning."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    nothing = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator != 0)


def ratio_of_sums(numerator: ArrayLike, denominator: ArrayLike) -> Statistic:
    """Ratio of weighted sums over images, the last axis of both, e.g. [shifts, n].

    A mean over images is the ratio of the images' values and ones (zero and zero where an image has
    no value).

    Raises:
        ValueError: shapes that differ, or numbers that are not finite.
    """
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    if numerator.shape != denominator.shape or numerator.ndim < 1:
        raise ValueError(f"shapes differ: {numerator.shape} over {denominator.shape}")
    if not (np.isfinite(numerator).all() and np.isfinite(denominator).all()):
        raise ValueError("sums per image must be finite: an image without a value counts 0 over 0")

    def statistic(weights: Float[ndarray, "b n"]) -> Float[ndarray, "b ..."]:
        return divide(*(np.tensordot(weights, x, (1, -1)) for x in (numerator, denominator)))

    return statistic


def _in_parts(statistic: Statistic, count: int, rows: Callable[[slice], ndarray]) -> ndarray:
    parts = [slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)]
    # NumPy lets go of the interpreter where the work is: threads share the processors.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return np.concatenate(list(pool.map(lambda part: statistic(rows(part)), parts)))
