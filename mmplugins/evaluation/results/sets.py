"""Means over sets of shifts, for curves that have none yet.

A mean is formed within each resample from what was estimated of the shifts, at no further cost.
Curves with a value at the reference are left out: `tasks.curve` tells more of them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.results.rows import Finding


def over_sets(findings: Sequence[Finding], plan: Plan) -> list[Finding]:
    """The mean of each curve over every set whose shifts it has."""
    kinds = {_what(finding) for finding in findings if finding.measure.axis == "set"}
    result = []
    for finding in findings:
        points = list(finding.measure.points)
        if finding.measure.axis != "shift" or (0, 0) in points or _what(finding) in kinds:
            continue
        sets = {
            group.name: [points.index(shift) for shift in group.shifts]
            for group in plan.sets
            if set(group.shifts) <= set(points)
        }
        if not sets:
            continue

        def means(
            values: Float[np.ndarray, "*b K"], sets: dict[str, list[int]] = sets
        ) -> Float[np.ndarray, "*b P"]:
            return np.stack([values[..., at].mean(-1) for at in sets.values()], axis=-1)

        measure = finding.measure.then(finding.measure.metric, "set", tuple(sets), means)
        result.append(Finding(measure, finding.estimate.combine(means)))
    return result


def _what(finding: Finding) -> tuple[str, str, str]:
    return finding.measure.level, finding.measure.metric, finding.measure.part
