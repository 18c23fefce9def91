"""A measure: a statistic over images at some points, and what it is a measure of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.shifts import Shift
from mmplugins.evaluation.statistics.resampling import Statistic

Level = Literal["feature", "affinity", "prediction", "task"]
SizeAxis = Literal["resize", "extent", "crop", "slide", "aspect", "sizes"]
Axis = Literal["shift", "set", "border", "zone", "class", "distance", "block", "none"] | SizeAxis


@dataclass(frozen=True, eq=False)
class Measure:
    """What a metric is, at each of its points.

    Attributes:
        level: of the suite.
        metric: its name: FEE, PC, AP, ...
        part: of the model or the data: blocks.3, box, mask, labels.
        axis: what the points are: shifts, sets of them, borders in cells, zones, classes, bins of
            distance; ratios to the training size or shapes, by how they are made; `sizes`: such
            modes.
        points: one for each value; shifts as (dy, dx), everything else by name.
        statistic: weights of images [b, n] to values [b, points].
    """

    level: Level
    metric: str
    part: str
    axis: Axis
    points: Sequence[Shift | str]
    statistic: Statistic

    @property
    def key(self) -> tuple:
        """What two runs must have in common to be compared."""
        return self.level, self.metric, self.part, self.axis, tuple(self.points)

    def then(
        self,
        metric: str,
        axis: Axis,
        points: Sequence[Shift | str],
        function: Callable[[Float[np.ndarray, "b K"]], Float[np.ndarray, "b P"]],
    ) -> "Measure":
        """A measure of the values of this one, formed within each resample."""

        def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b P"]:
            return function(self.statistic(weights))

        return replace(self, metric=metric, axis=axis, points=points, statistic=statistic)


def fixed(level: Level, metric: str, part: str, value: float) -> Measure:
    """One number that resamples of the images say nothing about: it has no interval."""

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b 1"]:
        return np.where((weights == 1).all(1, keepdims=True), value, np.nan)

    return Measure(level, metric, part, "none", ("all",), statistic)
