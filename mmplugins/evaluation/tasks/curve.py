"""What a curve over shifts, AP or mIoU, comes to on each set of shifts; see `statistics.curves`."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.shifts import kind_of
from mmplugins.evaluation.statistics.curves import auc_shift, summarise
from mmplugins.evaluation.statistics.resampling import divide

Values = Float[np.ndarray, "b S"]
At0 = Float[np.ndarray, " b"]


def curve_numbers(measure: Measure, plan: Plan) -> list[Measure]:
    """M(d) - M(0) at every shift, and one measure for each number over the sets of shifts.

    Of a set `M delta` is the mean of M(d) - M(0), `M min/M(0)` how much the worst shift leaves;
    AUC-shift is of the sets of one kind, position or aliasing, that have two distances.

    Args:
        measure: M at the reference, (0, 0), and at every shift of the plan.
        plan: of the shifts.

    Raises:
        ValueError: the measure's points are others.
    """
    if list(measure.points) != [(0, 0), *plan.shifts]:
        raise ValueError(f"{measure.metric} is not a curve over the shifts of the plan")
    numbers = {
        "delta": lambda group, values, at_0: summarise(group.shifts, values, at_0).delta.mean(-1),
        "mean": lambda group, values, at_0: summarise(group.shifts, values, at_0).mean,
        "std": lambda group, values, at_0: summarise(group.shifts, values, at_0).std,
        "min": lambda group, values, at_0: summarise(group.shifts, values, at_0).minimum,
        "min/M(0)": lambda group, values, at_0: divide(values.min(-1), at_0),
        "rPS": lambda group, values, at_0: summarise(group.shifts, values, at_0).rps,
    }
    measures = [_over_sets(measure, plan, plan.sets, *number) for number in numbers.items()]
    pure = [group for group in plan.sets if _is_of_one_kind(group, plan.period)]
    if pure:

        def area(group: ShiftSet, values: Values, at_0: At0) -> At0:
            return auc_shift(group.shifts, values, at_0, period=plan.period)

        measures.append(_over_sets(measure, plan, pure, "AUC-shift", area))

    def change(values: Float[np.ndarray, "b P"]) -> Values:
        return values[:, 1:] - values[:, :1]

    return [*measures, measure.then(f"{measure.metric} delta", "shift", plan.shifts, change)]


def _over_sets(
    measure: Measure,
    plan: Plan,
    groups: Sequence[ShiftSet],
    name: str,
    number: Callable[[ShiftSet, Values, At0], At0],
) -> Measure:
    columns = [np.array(plan.indices(group)) + 1 for group in groups]

    def function(values: Float[np.ndarray, "b K"]) -> Float[np.ndarray, "b P"]:
        of_groups = zip(groups, columns, strict=True)
        return np.stack([number(group, values[:, at], values[:, 0]) for group, at in of_groups], 1)

    return measure.then(f"{measure.metric} {name}", "set", [g.name for g in groups], function)


def _is_of_one_kind(group: ShiftSet, period: int) -> bool:
    kinds = {kind_of(shift, period) for shift in group.shifts}
    distances = {dy**2 + dx**2 for dy, dx in group.shifts}
    return len(kinds) == 1 and "mixed" not in kinds and len(distances) > 1
