"""Errors of features from the sums of all images: by shift, border, set of shifts and block.

    FEE, FES, RET@1   at every shift that is a whole number of cells, one cell off the border
    FEE_resampled, FES_resampled          at the others, of interpolated maps: never the same thing
    of a set of shifts      the mean of each over the set, and EQ-dB = -20 log10 of the mean FEE
    border leak             mean FEE over whole periods, 0 to 4 cells off the border
    attribution             dFEE: what each block adds to the mean FEE over whole periods

Over whole periods the mean FEE is what position does, E_pos; over less than one, FEE_resampled is
what aliasing does, E_alias.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.features.sums import BORDER, BORDERS, FIELDS
from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.shifts import kind_of
from mmplugins.evaluation.statistics.resampling import Statistic, divide

PREFIX = "feature/"
Sums = Float[np.ndarray, "n S borders fields"]
CELLS, DIFFERENCE, SPREAD, NULL, FOUND, ASKED, RESAMPLED = range(len(FIELDS))


def feature_measures(sums: Sequence[Mapping[str, np.ndarray]], plan: Plan) -> list[Measure]:
    """The measures of all levels.

    Args:
        sums: of each image, as the pass names them; a level counts where all images have it.
        plan: of the views.
    """
    names = [name for name in sums[0] if name.startswith(PREFIX)]
    names = [name for name in names if all(name in of_image for of_image in sums)]
    levels = {name.removeprefix(PREFIX): np.stack([s[name] for s in sums]) for name in names}
    measures = [m for name, of_level in levels.items() for m in _of_level(name, of_level, plan)]
    return [*measures, *_attribution(levels, plan)]


def _of_level(name: str, sums: Sums, plan: Plan) -> list[Measure]:
    resampled = sums[..., RESAMPLED].any((0, 2))
    measures = []
    for suffix, chosen in (("", ~resampled), ("_resampled", resampled)):
        if not chosen.any():
            continue
        shifts = [shift for shift, each in zip(plan.shifts, chosen, strict=True) if each]
        own = sums[:, chosen, BORDER]
        kinds = {"FEE": fee(own), "FES": _fes(own)}
        if not suffix:
            kinds["RET@1"] = _ratio(own, FOUND, ASKED)
        for metric, statistic in kinds.items():
            curve = Measure("feature", metric + suffix, name, "shift", shifts, statistic)
            measures += [curve, *_over_sets(curve, plan)]
    if (position := _position(plan)) and not resampled[position].any():
        points = [str(border) for border in range(BORDERS)]
        leak = _mean_fee(sums[:, position])
        measures.append(Measure("feature", "FEE", name, "border", points, leak))
    return measures


def fee(sums: Float[np.ndarray, "n *axes fields"]) -> Statistic:
    """Relative error at every point; NaN for features that are all alike."""
    ratio = _ratio(sums, DIFFERENCE, SPREAD)
    return lambda weights: np.sqrt(ratio(weights))


def _fes(sums: Float[np.ndarray, "n *axes fields"]) -> Statistic:
    ratio = _ratio(sums, DIFFERENCE, NULL)
    return lambda weights: 1 - ratio(weights)


def _ratio(sums: Float[np.ndarray, "n *axes fields"], above: int, below: int) -> Statistic:
    return partial(_divided, above=sums[..., above], below=sums[..., below])


def _divided(
    weights: Float[np.ndarray, "b n"],
    *,
    above: Float[np.ndarray, "n *axes"],
    below: Float[np.ndarray, "n *axes"],
) -> Float[np.ndarray, "b *axes"]:
    return divide(*(np.tensordot(weights, part, (1, 0)) for part in (above, below)))


def _over_sets(curve: Measure, plan: Plan) -> list[Measure]:
    """The mean of a curve over every set that it has shifts of."""
    measures = []
    for group in plan.sets:
        places = [at for at, shift in enumerate(curve.points) if shift in group.shifts]
        if not places:
            continue

        def mean(values: np.ndarray, places: list[int] = places) -> np.ndarray:
            return values[:, places].mean(1, keepdims=True)

        measures.append(curve.then(curve.metric, "set", (group.name,), mean))
        if curve.metric == "FEE":
            measures.append(measures[-1].then("EQ-dB", "set", (group.name,), _decibel))
    return measures


def _decibel(errors: np.ndarray) -> np.ndarray:
    """NaN of what is exact, which has no level."""
    return -20 * np.log10(errors, out=np.full_like(errors, np.nan), where=errors > 0)


def _position(plan: Plan) -> list[int]:
    """The shifts by whole periods."""
    shifts = enumerate(plan.shifts)
    return [number for number, shift in shifts if kind_of(shift, plan.period) == "position"]


def _mean_fee(sums: Float[np.ndarray, "n S *axes fields"]) -> Statistic:
    errors = fee(sums)
    return lambda weights: errors(weights).mean(1)


def _attribution(levels: Mapping[str, Sums], plan: Plan) -> list[Measure]:
    """What each block of a ViT, or layer of an encoder, adds to the error of the one before."""
    measures, position = [], _position(plan)
    for place in ("blocks", "encoder"):
        names = [name for name in levels if name.startswith(f"{place}.")]
        if not names or not position:
            continue
        own = np.stack([levels[name][:, position, BORDER] for name in names], axis=2)
        if own[..., RESAMPLED].any():
            continue
        errors = _mean_fee(own)

        def added(weights: Float[np.ndarray, "b n"], errors: Statistic = errors):
            return np.diff(errors(weights), axis=1, prepend=0)

        measures.append(Measure("feature", "dFEE", place, "block", names, added))
    return measures
