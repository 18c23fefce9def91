"""Sums of features: the errors that follow are those of the definitions, cell by cell."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.structures import BaseDataElement

from mmplugins.evaluation.features.errors import corresponding, feature_error
from mmplugins.evaluation.features.sums import (
    BORDERS,
    FIELDS,
    Places,
    features_at,
    pair_sums,
)
from mmplugins.evaluation.inference.engine import Seen
from mmplugins.evaluation.inference.observers import PairSums
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.views import View


def plan_of(mode, *shifts, divisor=4):
    return Plan(mode, (ShiftSet("set", tuple(shifts)),), divisor, divisor)


def collected(plan, picture, levels, means):
    """The sums of a picture [C, h, w] and of functions of views."""
    scene = plan.scene(*picture.shape[1:])
    reference, *others = plan.views(picture)
    sums = PairSums(plan, scene, means)

    def seen(view):
        maps = {name: level(view) for name, level in levels.items()}
        return Seen(maps, {}, BaseDataElement(), View(view, view.shape[-2:], view.shape[-2:]))

    sums.reference(seen(reference))
    for number, view in enumerate(others):
        sums.shifted(number, seen(view))
    return scene, sums.arrays()


def pooled(stride):
    return lambda x: torch.nn.functional.avg_pool2d(x[None], stride)[0]


@given(
    mode=st.sampled_from(["roll", "window", "canvas"]),
    shift=st.tuples(*[st.sampled_from([-8, -4, 0, 4, 8])] * 2).filter(any),
    seed=st.integers(0, 99),
)
def test_errors_are_those_of_the_definition(mode, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randn(3, 72, 80, dtype=torch.float64, generator=generator)
    plan, mean = plan_of(mode, shift), torch.randn(3, dtype=torch.float64, generator=generator)

    def level(view):  # not equivariant
        ramp = torch.linspace(0, 1, view.shape[-1], dtype=view.dtype)
        return pooled(4)(view + ramp)

    _, sums = collected(plan, picture, {"level": level}, {"level": mean})
    sums = dict(zip(FIELDS, sums["feature/level"][0].T, strict=True))
    views = plan.views(picture)
    for border in range(BORDERS):
        pair = corresponding(
            *(level(view) for view in views), shift, stride=4, frame=plan.frame, border=border
        )
        error = feature_error([pair])
        assert sums["cells"][border] == len(pair[0])
        assert sums["difference"][border] == pytest.approx(error.difference, rel=1e-12)
        assert sums["null"][border] == pytest.approx(error.null, rel=1e-12)
        a, b = (each - mean for each in pair)
        spread = (a.square().sum() + b.square().sum()).item() / 2
        assert sums["spread"][border] == pytest.approx(spread, rel=1e-12)
    assert not sums["resampled"].any()


def test_the_null_is_the_mean_of_all_permutations():
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    orders = torch.cartesian_prod(*[torch.arange(4)] * 4)
    orders = [o for o in orders if len(o.unique()) == 4]
    mean = np.mean([(a - b[o]).square().sum().item() for o in orders])
    assert feature_error([(a, b)]).null == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("mode", ["roll", "window", "canvas"])
def test_an_equivariant_level_has_no_error_and_finds_every_cell(mode):
    picture = torch.randn(5, 64, 80, dtype=torch.float64)
    plan = plan_of(mode, (4, 8), (-8, 0))
    _, sums = collected(plan, picture, {"level": pooled(4)}, {"level": torch.zeros(5)})
    fields = dict(zip(FIELDS, sums["feature/level"].transpose(2, 0, 1), strict=True))
    assert fields["difference"].max() < 1e-20
    assert (fields["found"] == fields["asked"]).all()
    assert fields["asked"][:, 1].min() > 50


@pytest.mark.parametrize("mode", ["roll", "window", "canvas"])
def test_maps_of_a_slow_wave_agree_at_pixels_between_cells(mode):
    """Bilinear interpolation of a wave of 64 pixels at cells of 4 errs by 1 - cos(pi / 16)."""
    y = torch.arange(64, dtype=torch.float64)
    picture = torch.sin(2 * torch.pi * y / 64)[None, :, None].expand(1, 64, 64)
    plan = plan_of(mode, (1, 0), (3, 2))
    _, sums = collected(plan, picture, {"level": pooled(4)}, {"level": torch.zeros(1)})
    fields = dict(zip(FIELDS, sums["feature/level"].transpose(2, 0, 1), strict=True))
    error = np.sqrt(fields["difference"] / fields["spread"])[:, 1]
    assert fields["resampled"].all()
    assert not fields["asked"].any()
    assert 0 < error.min() <= error.max() < 0.03


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_places_between_cells_of_half_precision_are_exact(dtype):
    level = torch.randn(3, 64, 64).to(dtype)
    places = Places.drawn((0, 0, 1024, 1024), 16, exact=False)
    found = features_at(level, places, (1, 0), False)
    torch.testing.assert_close(found, features_at(level.float(), places, (1, 0), False))


@pytest.mark.parametrize("mode", ["roll", "window", "canvas"])
def test_a_wrong_sign_shows_between_cells(mode):
    picture = torch.sin(torch.arange(64) * torch.pi / 8)[None, :, None].expand(1, 64, 64)
    level = pooled(2)
    plan = plan_of(mode, (3, 0))
    scene = plan.scene(64, 64)
    reference, shifted = (level(view) for view in plan.views(picture))
    errors = []
    for sign in (1, -1):
        shift = (3 * sign, 0)
        places = Places.drawn((20, 20, 40, 40), 2, exact=False)
        a = features_at(reference, places, (0, 0), mode == "roll")
        b = features_at(shifted, places, shift, mode == "roll")
        sums = pair_sums(a, b, places, torch.zeros(1))
        errors.append(sums[1, 1] / sums[1, 2])
    assert scene.view == tuple(reference.shape[i] * 2 for i in (1, 2))
    assert errors[0] < 0.01 < 0.5 < errors[1]


def test_levels_of_no_whole_stride_have_no_part():
    picture = torch.randn(2, 48, 48)
    levels = {"whole": pooled(4), "odd": lambda x: x[:, ::7, ::7], "flat": lambda x: x[:, ::2, ::4]}
    means = dict.fromkeys(levels, torch.zeros(2))
    _, sums = collected(plan_of("window", (4, 0)), picture, levels, means)
    assert list(sums) == ["feature/whole"]


def test_many_cells_are_represented_by_some_of_them():
    picture = torch.randn(2, 128, 128)
    plan = plan_of("roll", (4, 0))
    _, sums = collected(
        plan, picture, {"fine": lambda x: x + 0.1 * x.roll(3, -1)}, {"fine": torch.zeros(2)}
    )
    fields = dict(zip(FIELDS, sums["feature/fine"][0].T, strict=True))
    assert fields["cells"][0] == 512
    assert fields["asked"][1] == 128


def test_a_level_of_few_cells_has_none_off_the_border():
    """Of 2 x 5 none is."""
    picture = torch.randn(2, 8, 20, dtype=torch.float64)
    _, sums = collected(
        plan_of("roll", (4, 0)), picture, {"coarse": pooled(4)}, {"coarse": torch.zeros(2)}
    )
    fields = dict(zip(FIELDS, sums["feature/coarse"][0].T, strict=True))
    assert fields["cells"].tolist() == [10, 0, 0, 0, 0]
    assert fields["asked"].tolist() == [0] * BORDERS
