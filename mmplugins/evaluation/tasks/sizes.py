"""What curves over sizes, AP or mIoU, come to; see `statistics.sizes`."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.statistics.sizes import (
    delta,
    peak,
    relative,
    res_auc_down,
    res_auc_up,
    rr90,
)

MODES = ("resize", "extent", "crop")  # whose points are ratios to the training size
Ratios = Sequence[float]
Number = Callable[[Ratios, Float[np.ndarray, "b S"]], Float[np.ndarray, " b"]]
# Each number of a curve, and the ratios it needs one of.
NUMBERS: tuple[tuple[str, Callable[[float], bool], Number], ...] = (
    ("ResAUC down", lambda ratio: ratio < 1, res_auc_down),
    ("ResAUC up", lambda ratio: ratio > 1, res_auc_up),
    ("peak", lambda ratio: ratio != 1, lambda ratios, values: peak(ratios, values)[0]),
    ("peak/M(1)", lambda ratio: ratio != 1, lambda ratios, values: peak(ratios, values)[1]),
    ("RR90", lambda ratio: ratio > 1, rr90),
)


def size_numbers(curves: Sequence[Measure]) -> list[Measure]:
    """M(r) - M(1) and M(r) / M(1) at every other size, and one measure for each number.

    The numbers are over the axis `sizes`, whose points are the modes; one that the sizes of a mode
    do not define, as ResAUC down where all are 1 or more, is left out for this mode.

    Args:
        curves: M over the sizes of each mode, of one metric and part; their axis is the mode and
            their points are ratios, 1 among them.

    Raises:
        ValueError: no curves over sizes, or of different metrics or parts, or two of one mode.
    """
    ratios = {curve.axis: _ratios(curve) for curve in curves}
    if len({(curve.level, curve.metric, curve.part) for curve in curves}) != 1:
        raise ValueError("give curves of one metric and part")
    if len(ratios) < len(curves):
        raise ValueError(f"{curves[0].metric}: two curves of one mode")
    measures = [one for curve in curves if len(curve.points) > 1 for one in _changes(curve)]
    for name, needs, number in NUMBERS:
        defined = [curve for curve in curves if any(map(needs, ratios[curve.axis]))]
        if defined:
            measures.append(_joined(defined, [ratios[c.axis] for c in defined], name, number))
    return measures


def _changes(curve: Measure) -> list[Measure]:
    """From the training size to all others."""
    ratios = _ratios(curve)
    others = [at for at, ratio in enumerate(ratios) if ratio != 1]
    points = [curve.points[at] for at in others]
    return [
        curve.then(
            f"{curve.metric} {name}",
            curve.axis,
            points,
            lambda values, change=change: change(ratios, values)[:, others],
        )
        for name, change in (("delta", delta), ("relative", relative))
    ]


def _joined(
    curves: Sequence[Measure], ratios: Sequence[Ratios], name: str, number: Number
) -> Measure:
    """One number of the curves of several modes."""

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b P"]:
        values = (curve.statistic(weights) for curve in curves)
        return np.stack([number(*of_mode) for of_mode in zip(ratios, values, strict=True)], 1)

    first = curves[0]
    modes = [curve.axis for curve in curves]
    return Measure(first.level, f"{first.metric} {name}", first.part, "sizes", modes, statistic)


def _ratios(curve: Measure) -> list[float]:
    """The points as numbers.

    Raises:
        ValueError: they are none, or 1 is not among them.
    """
    name = f"{curve.metric} over {curve.axis}"
    if curve.axis not in MODES:
        raise ValueError(f"{name} is no curve over sizes: {', '.join(MODES)}")
    try:
        ratios = [float(point) for point in curve.points]
    except (TypeError, ValueError):
        raise ValueError(f"{name}: its points are no ratios: {list(curve.points)}") from None
    if 1 not in ratios:
        raise ValueError(f"{name}: the training size, 1, is not among {list(curve.points)}")
    return ratios
