"""A metric M as a function of the size r, test size over training size, in a few numbers.

    delta       M(r) - M(1)
    relative    M(r) / M(1)
    ResAUC      mean of M(r) / M(1) over log2 r: down in [-1, 0], up in [0, 1]
    peak        r* = argmax M(r), and M(r*) / M(1): 1 unless apparent size matters,
                https://arxiv.org/abs/1906.06423
    RR90        largest r >= 1 up to which M stays at 0.9 M(1) or more

Between sizes M is linear in log2 r. ResAUC is the trapezoid's, and where sizes end before their
octave does the mean over what there is; a side without sizes has none. Of equally good sizes the
peak is the one nearest to 1, the smaller of two as near. RR90 ends where M first falls below its
level, as a size that recovers beyond does not make those before it fit for use; where M never falls
it is the largest size tested, a lower bound.

Values may have leading axes, as the replicates of a bootstrap do; every number then has them too.
Where M(1) is 0, ratios to it and RR90 are NaN, and a NaN among the values makes NaN of what it
enters.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.statistics.resampling import divide

Values = Float[np.ndarray, "*B S"]
Numbers = Float[np.ndarray, "*B"] | np.float64  # one where values have no leading axes
KEPT = 0.9  # of M(1), by RR90


def delta(ratios: Sequence[float], values: Values) -> Values:
    """M(r) - M(1) at every size, 1 included."""
    _, values, at_1 = _checked(ratios, values)
    return values - at_1[..., None]


def relative(ratios: Sequence[float], values: Values) -> Values:
    """M(r) / M(1) at every size, 1 included."""
    _, values, at_1 = _checked(ratios, values)
    return divide(values, at_1[..., None])


def res_auc_down(ratios: Sequence[float], values: Values) -> Numbers:
    """Mean of M(r) / M(1) from half the training size to it."""
    return _mean_relative(ratios, values, -1, 0)


def res_auc_up(ratios: Sequence[float], values: Values) -> Numbers:
    """Mean of M(r) / M(1) from the training size to twice of it."""
    return _mean_relative(ratios, values, 0, 1)


def peak(ratios: Sequence[float], values: Values) -> tuple[Numbers, Numbers]:
    """The ratio r* of the best size, and M(r*) / M(1)."""
    ratios, values, at_1 = _checked(ratios, values)
    order = np.lexsort((ratios, np.abs(np.log2(ratios))))  # argmax takes the first of equals
    best = values.max(-1)
    place = ratios[order][values[..., order].argmax(-1)]
    return np.where(np.isnan(best), np.nan, place)[()], divide(best, at_1)[()]


def rr90(ratios: Sequence[float], values: Values) -> Numbers:
    """The largest ratio up to which at least 0.9 M(1) is left; NaN without a size above 1."""
    ratios, values, at_1 = _checked(ratios, values)
    up = np.flatnonzero(ratios >= 1)
    up = up[np.argsort(ratios[up])]
    logs, values, level = np.log2(ratios[up]), values[..., up], KEPT * at_1
    defined = (at_1 > 0) & ~np.isnan(values).any(-1) & (len(up) > 1)
    below = values < level[..., None]
    after = below.argmax(-1)  # never 0 where it falls, as M(1) is above its level
    before = np.maximum(after - 1, 0)
    high, low = (np.take_along_axis(values, at[..., None], -1)[..., 0] for at in (before, after))
    share = divide(high - level, high - low)
    crossing = logs[before] + share * (logs[after] - logs[before])
    end = np.where(below.any(-1), crossing, logs[-1])
    return np.where(defined, 2**end, np.nan)[()]


def _mean_relative(ratios: Sequence[float], values: Values, low: float, high: float) -> Numbers:
    """Mean over log2 r in [low, high], as weights of the sizes."""
    ratios, values, at_1 = _checked(ratios, values)
    order = np.argsort(ratios)
    logs = np.log2(ratios[order])
    nodes = np.unique(np.clip(logs, low, high))  # sizes within, and an end that sizes go beyond
    if len(nodes) < 2:
        return np.full(at_1.shape, np.nan)[()]
    widths = np.diff(nodes) / (nodes[-1] - nodes[0])
    shares = (np.append(widths, 0) + np.append(0, widths)) / 2  # of the trapezoids at each node
    weights = np.array([shares @ np.interp(nodes, logs, one) for one in np.eye(len(logs))])
    enters = order[weights > 0]
    return divide(values[..., enters] @ weights[weights > 0], at_1)[()]


def _checked(
    ratios: Sequence[float], values: Values
) -> tuple[Float[np.ndarray, " S"], Values, Float[np.ndarray, "*B"]]:
    """Sizes, values of every size, none of them a mark of absence, and M(1)."""
    ratios = np.asarray(ratios, dtype=np.float64)
    if not (np.isfinite(ratios) & (ratios > 0)).all() or len({*ratios.tolist()}) < len(ratios):
        raise ValueError(f"sizes are positive, and none is given twice: {ratios.tolist()}")
    if 1 not in ratios:
        raise ValueError(f"the training size, 1, is not among the sizes {ratios.tolist()}")
    if values.shape[-1:] != ratios.shape:
        raise ValueError(f"{len(ratios)} sizes, but values of shape {values.shape}")
    if (values < 0).any():
        raise ValueError("a value below 0: give NaN where nothing was measured (-1 in pycocotools)")
    return ratios, values, values[..., ratios.tolist().index(1)]
