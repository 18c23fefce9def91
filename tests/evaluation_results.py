"""Made-up runs for the tests of results: sums per image whose answers are known."""

import math

import numpy as np

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.results.comparison import Measured
from mmplugins.evaluation.results.rows import estimate_all
from mmplugins.evaluation.shifts import below_a_period, whole_periods
from mmplugins.evaluation.statistics.resampling import Bootstrap, ratio_of_sums

PERIOD, IMAGES = 16, 30
PLAN = Plan(
    "canvas",
    (
        ShiftSet("pgrid", tuple(whole_periods(PERIOD))),
        ShiftSet("sub", tuple(below_a_period(PERIOD))),
    ),
    period=PERIOD,
    divisor=32,
)
BOOTSTRAP = Bootstrap(IMAGES, 200)
PROTOCOL = {"mode": "canvas", "images": [f"{number:012}" for number in range(IMAGES)]}


def curve(generator, *, metric="PC", part="box", level="prediction", slope=0.05, spread=0.1):
    """A metric of all shifts that falls with their size, and its means over sets."""
    far = np.log2([1 + max(map(abs, shift)) for shift in PLAN.shifts])
    values = 0.9 - slope * far[:, None] / 8 + spread * generator.random((len(far), IMAGES))
    over_shifts = Measure(
        level, metric, part, "shift", PLAN.shifts, ratio_of_sums(values, np.ones_like(values))
    )
    groups = [PLAN.indices(group) for group in PLAN.sets]
    over_sets = over_shifts.then(
        metric,
        "set",
        [group.name for group in PLAN.sets],
        lambda found: np.stack([found[:, group].mean(1) for group in groups], 1),
    )
    return [over_shifts, over_sets]


def mean(values, *, metric="PC", part="box", point="pgrid"):
    """The mean over images of one value each."""
    values = np.asarray(values, float)[None]
    statistic = ratio_of_sums(values, np.ones_like(values))
    return Measure("prediction", metric, part, "set", [point], statistic)


def measured(name, *measures_of_runs, bootstrap=BOOTSTRAP, protocol=PROTOCOL):
    return Measured(name, protocol, estimate_all(measures_of_runs, bootstrap))


def same(first, second):
    """Whether two numbers are equal, NaN and NaN too."""
    return first == second or (math.isnan(first) and math.isnan(second))
