"""A metric M as a function of the shift d = (dy, dx), in a few numbers.

    Delta M(d)    M(d) - M(0)
    mean, std     over the shifts; std divides by their number: they are the whole set, no sample
    rPS           100 mean / M(0), after rPC, https://arxiv.org/abs/1907.07484
    AUC-shift     1 / ln(dmax / dmin)  integral of M(d) / M(0)  d ln|d|,  |d| in Euclidean pixels

The integral is the trapezoid's, over the mean of M at each distance. A model of period P (the least
common multiple of its strides and windows) errs under shifts of whole periods by its sense of
position, and under shifts of less than one by aliasing too: AUC-shift is of one kind of shifts.

Values may have leading axes, as the replicates of a bootstrap do; every number then has them too.
Where M(0) is 0, ratios to it are NaN, and a NaN among the values makes NaN of what it enters.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

from mmplugins.evaluation.shifts import Shift, kind_of
from mmplugins.evaluation.statistics.resampling import divide

Numbers = Float[np.ndarray, "*B"] | np.float64  # one where values have no leading axes


@dataclass(frozen=True, eq=False)
class CurveSummary:
    """A curve's numbers; `worst` is the shift of the least value, the first one of equals."""

    delta: Float[np.ndarray, "*B S"]
    mean: Numbers
    std: Numbers
    minimum: Numbers
    rps: Numbers
    worst: Num[np.ndarray, "*B 2"]


def summarise(
    shifts: Sequence[Shift],
    values: Float[np.ndarray, "*B S"],
    unshifted: Float[np.ndarray, "*B"] | float,
) -> CurveSummary:
    """Numbers of a curve, of any shifts; `unshifted` is M(0)."""
    values, unshifted = _checked(shifts, values, unshifted)
    mean = values.mean(-1)
    return CurveSummary(
        delta=values - unshifted[..., None],
        mean=mean,
        std=values.std(-1),
        minimum=values.min(-1),
        rps=100 * divide(mean, unshifted),
        worst=np.asarray(shifts)[values.argmin(-1)],
    )


def auc_shift(
    shifts: Sequence[Shift],
    values: Float[np.ndarray, "*B S"],
    unshifted: Float[np.ndarray, "*B"] | float,
    *,
    period: int,
) -> Numbers:
    """Area under the curve relative to M(0), over the logarithm of the distance."""
    values, unshifted = _checked(shifts, values, unshifted)
    kinds = Counter(kind_of(shift, period) for shift in shifts)
    if len(kinds) > 1 or "mixed" in kinds:
        found = ", ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items()))
        raise ValueError(
            f"AUC-shift is of whole periods of {period} px (position) or of less than one "
            f"(aliasing), not of both: {found}"
        )
    # squares of pixels and of quarters of them are exact, so that equal distances stay equal
    squares, group = np.unique(np.square(shifts).sum(-1), return_inverse=True)
    if len(squares) < 2:
        raise ValueError(f"AUC-shift needs two distances at least: all are {squares[0] ** 0.5} px")
    at_distance = np.stack([values[..., group == k].mean(-1) for k in range(len(squares))], -1)
    logs = np.log(squares)  # twice those of distances, which the division by the range undoes
    area = ((at_distance[..., 1:] + at_distance[..., :-1]) / 2 * np.diff(logs)).sum(-1)
    return divide(area / (logs[-1] - logs[0]), unshifted)


def _checked(
    shifts: Sequence[Shift],
    values: Float[np.ndarray, "*B S"],
    unshifted: Float[np.ndarray, "*B"] | float,
) -> tuple[Float[np.ndarray, "*B S"], Float[np.ndarray, "*B"]]:
    """Values of every shift, none of them a mark of absence."""
    unshifted = np.asarray(unshifted, dtype=np.float64)
    if not all(map(any, shifts)):
        raise ValueError("the shift (0, 0) is no point of a curve: its value is M(0)")
    if len(shifts) == 0 or values.shape != (*unshifted.shape, len(shifts)):
        raise ValueError(
            f"{len(shifts)} shifts and M(0) of shape {unshifted.shape}, values of {values.shape}: "
            "one value a shift, and at least one"
        )
    if (values < 0).any() or (unshifted < 0).any():
        raise ValueError("a value below 0: give NaN where nothing was measured (-1 in pycocotools)")
    return values, unshifted
