"""Measures of features: what hand-made sums come to, and the errors of the definitions."""

import math

import numpy as np
import pytest
import torch
from test_evaluation_sums import collected, pooled

from mmplugins.evaluation.features.errors import corresponding, feature_error
from mmplugins.evaluation.features.measures import feature_measures
from mmplugins.evaluation.features.sums import BORDERS, FIELDS
from mmplugins.evaluation.plan import Plan, ShiftSet

PLAN = Plan(
    "canvas",
    (ShiftSet("pgrid", ((8, 0), (0, -16))), ShiftSet("sub", ((4, 0), (0, 3)))),
    period=8,
    divisor=8,
)
EXACT, ASKED = 3, 8  # shifts that are whole cells; cells that retrieval asks for


def level(seed):
    """[S, borders, fields] of one image, by the names of fields."""
    generator = np.random.default_rng(seed)
    shape = len(PLAN.shifts), BORDERS
    fields = {name: generator.uniform(0.5, 2, shape) for name in FIELDS}
    fields["found"] = generator.integers(0, ASKED, shape).astype(float)
    fields["asked"] = np.full(shape, float(ASKED))
    fields["resampled"] = np.repeat(np.arange(len(PLAN.shifts)) >= EXACT, BORDERS).reshape(shape)
    return np.stack([fields[name] for name in FIELDS], axis=-1)


def values(sums, weights=None, plan=PLAN):
    """By metric, part and axis, and by set where the points are one."""
    weights = np.ones((1, len(sums))) if weights is None else np.array([weights], float)
    found = {}
    for measure in feature_measures(sums, plan):
        name = measure.metric, measure.part, measure.axis
        if measure.axis == "set":
            name = *name, *measure.points
        assert name not in found
        found[name] = measure.statistic(weights)[0]
        assert found[name].shape == (len(measure.points),)
    return found


def of(images, name, shift, border=1, weights=(1, 1, 1)):
    """A field summed over images."""
    at = FIELDS.index(name)
    return sum(w * image[shift, border, at] for w, image in zip(weights, images, strict=True))


@pytest.mark.parametrize("weights", [(1, 1, 1), (2, 0, 1)])
def test_errors_are_ratios_of_sums_and_sets_are_means_of_errors(weights):
    images = [level(seed) for seed in range(3)]
    found = values([{"feature/neck.0": image, "other": image} for image in images], weights)

    def fee(shift, border=1):
        difference, spread = (
            of(images, n, shift, border, weights) for n in ("difference", "spread")
        )
        return math.sqrt(difference / spread)

    def fes(shift):
        difference, null = (of(images, n, shift, 1, weights) for n in ("difference", "null"))
        return 1 - difference / null

    def same(name, wanted):
        np.testing.assert_allclose(found.pop(name), wanted, rtol=1e-12)

    at = "neck.0"
    same(("FEE", at, "shift"), [fee(0), fee(1), fee(2)])
    same(("FES", at, "shift"), [fes(0), fes(1), fes(2)])
    same(
        ("RET@1", at, "shift"),
        [of(images, "found", shift, 1, weights) / (ASKED * 3) for shift in range(EXACT)],
    )
    same(("FEE_resampled", at, "shift"), [fee(3)])
    same(("FES_resampled", at, "shift"), [fes(3)])
    of_sets = {"pgrid": (0, 1), "sub": (2,)}
    for name, shifts in of_sets.items():
        mean = np.mean([fee(shift) for shift in shifts])
        same(("FEE", at, "set", name), [mean])
        same(("EQ-dB", at, "set", name), [-20 * math.log10(mean)])
        same(("FES", at, "set", name), [np.mean([fes(shift) for shift in shifts])])
        found.pop(("RET@1", at, "set", name))
    same(("FEE_resampled", at, "set", "sub"), [fee(3)])
    same(("FES_resampled", at, "set", "sub"), [fes(3)])
    same(("FEE", at, "border"), [np.mean([fee(0, b), fee(1, b)]) for b in range(BORDERS)])
    assert not found


def test_what_blocks_add_sums_up_to_the_last_error():
    names = [f"feature/blocks.{n}" for n in range(3)] + ["feature/encoder.0", "feature/neck.0"]
    images = [{name: level((image, at)) for at, name in enumerate(names)} for image in range(2)]
    found = values(images)
    added = found["dFEE", "blocks", "block"]
    assert added[0] == pytest.approx(found["FEE", "blocks.0", "set", "pgrid"].item(), rel=1e-12)
    assert added.sum() == pytest.approx(found["FEE", "blocks.2", "set", "pgrid"].item(), rel=1e-12)
    np.testing.assert_allclose(
        found["dFEE", "encoder", "block"], found["FEE", "encoder.0", "set", "pgrid"]
    )
    assert {part for metric, part, *_ in found if metric == "dFEE"} == {"blocks", "encoder"}


def test_levels_that_an_image_lacks_have_no_part():
    images = [{"feature/a": level(0), "feature/b": level(1)}, {"feature/a": level(2)}]
    assert {part for _, part, *_ in values(images)} == {"a"}


def test_features_that_are_alike_or_exact_have_no_level():
    flat, exact = level(0), level(1)
    flat[..., [FIELDS.index(name) for name in ("difference", "spread", "null")]] = 0
    exact[..., FIELDS.index("difference")] = 0
    found = values([{"feature/flat": flat, "feature/exact": exact}])
    for metric in ("FEE", "FES", "EQ-dB"):
        assert np.isnan(found[metric, "flat", "set", "pgrid"])
    assert found["FEE", "exact", "set", "pgrid"] == 0
    assert found["FES", "exact", "set", "pgrid"] == 1
    assert np.isnan(found["EQ-dB", "exact", "set", "pgrid"])


def test_whole_periods_that_are_no_whole_cells_tell_nothing_of_borders_and_blocks():
    image = level(0)
    image[:, :, FIELDS.index("resampled")] = True
    found = values([{"feature/blocks.0": image}])
    assert {axis for _, _, axis, *_ in found} == {"shift", "set"}
    assert {metric for metric, *_ in found} == {"FEE_resampled", "FES_resampled"}


@pytest.mark.parametrize("mode", ["roll", "window", "canvas"])
def test_measures_are_the_errors_of_the_definitions(mode):
    """On maps of pictures, with mu the mean that `feature_error` forms itself."""
    plan = Plan(mode, (ShiftSet("pgrid", ((8, 0), (-8, 8))),), period=8, divisor=8)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(3, 2, 64, 72, dtype=torch.float64, generator=generator)

    def uneven(view):
        rows, columns = (torch.linspace(1, 2, side, dtype=view.dtype) for side in view.shape[1:])
        return pooled(8)(view * rows[:, None] * columns)

    def pairs(number, shift):
        for picture in pictures:
            views = (uneven(plan.views(picture)[at]) for at in (0, number))
            yield corresponding(*views, shift, stride=8, frame=plan.frame, border=1)

    for at, shift in enumerate(plan.shifts):
        known = list(pairs(1 + at, shift))
        mean = torch.cat([a for a, _ in known]).mean(0)
        sums = [collected(plan, p, {"level": uneven}, {"level": mean})[1] for p in pictures]
        found, error = values(sums, plan=plan), feature_error(known)
        assert error.fee > 0.01
        assert found["FEE", "level", "shift"][at] == pytest.approx(error.fee, rel=1e-9)
        assert found["FES", "level", "shift"][at] == pytest.approx(error.fes, rel=1e-9)
        assert found["RET@1", "level", "shift"][at] == pytest.approx(error.ret1, rel=1e-9)
