"""Plans: views are what a slow construction makes, and content lies where the scene says."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mmplugins.evaluation.plan import Plan, ShiftSet, select

MODES = ("roll", "window", "canvas", "masked_canvas")
DIVISOR = 8
MEAN = torch.tensor([103.53, 116.28, 123.675])
parts = st.integers(-12, 12)
shifts = st.lists(st.tuples(parts, parts).filter(any), min_size=1, max_size=4, unique=True)
sides = st.integers(56, 90)  # a core is left in windows, whatever the shifts


def plan_of(mode, *shifts, **options):
    return Plan(mode, (ShiftSet("some", tuple(shifts)),), DIVISOR, DIVISOR, **options)


def picture_of(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)


def slow(plan, picture, shift, fill):
    """A view pixel by pixel, from the scene alone: what lies at p in it was at p - shift."""
    height, width = picture.shape[-2:]
    scene = plan.scene(height, width)
    top, left = scene.content[:2]
    y, x = np.indices(scene.view)
    y, x = y - top - int(shift[0]), x - left - int(shift[1])
    if plan.mode == "roll":  # of what is seen, not of the whole picture
        y, x = y % scene.view[0], x % scene.view[1]
    if plan.fill == "reflect":
        y, x = (np.abs(p) for p in (y, x))
        y, x = (s - 1 - np.abs(s - 1 - p) for s, p in ((height, y), (width, x)))
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixels = picture.numpy()[:, y.clip(0, height - 1), x.clip(0, width - 1)].astype(np.float32)
    return np.where(inside, pixels, fill.numpy()[:, None, None]), inside


@given(st.sampled_from(MODES), shifts, sides, sides, st.integers(0, 9), st.booleans())
def test_views_are_those_of_the_slow_construction(mode, shifts, height, width, seed, filled):
    plan, picture = plan_of(mode, *shifts), picture_of(height, width, seed)
    fill = MEAN if filled else torch.zeros(3)
    views, valid = plan.views(picture, MEAN if filled else None), plan.valid(height, width)
    assert len(views) == 1 + len(shifts)
    assert (valid is None) == (mode != "masked_canvas")
    for number, shift in enumerate([(0, 0), *plan.shifts]):
        expected, inside = slow(plan, picture, shift, fill)
        assert views[number].dtype == torch.float32
        np.testing.assert_array_equal(views[number].numpy(), expected)
        if valid:
            np.testing.assert_array_equal(valid[number].numpy(), inside)


@given(shifts, sides, sides)
def test_reflections_continue_the_picture(shifts, height, width):
    plan, picture = plan_of("canvas", *shifts, fill="reflect"), picture_of(height, width)
    for view, shift in zip(plan.views(picture, MEAN), [(0, 0), *plan.shifts], strict=True):
        np.testing.assert_array_equal(view.numpy(), slow(plan, picture, shift, MEAN)[0])


@given(st.sampled_from(MODES), shifts, sides, sides, st.integers(0, 5))
def test_the_core_is_what_every_view_shows(mode, shifts, height, width, edge):
    """And no pixel less, but for the edge."""
    plan = plan_of(mode, *shifts, edge=edge)
    try:
        scene = plan.scene(height, width)
    except ValueError:
        assume(False)
    assert all(side % DIVISOR == 0 for side in scene.view)
    picture = torch.arange(1, height * width + 1).reshape(1, height, width).double()
    reference, *others = plan.views(picture)
    seen = reference[0] > 0
    for view in others:
        seen &= torch.isin(reference[0], view)
    core = torch.zeros(scene.view, dtype=torch.bool)
    top, left, bottom, right = scene.core
    core[top:bottom, left:right] = True
    whole = torch.zeros_like(core)
    whole[max(top - edge, 0) : bottom + edge, max(left - edge, 0) : right + edge] = True
    assert torch.equal(whole, seen)
    for view, (dy, dx) in zip(others, plan.shifts, strict=True):
        there = view.roll((-dy, -dx), (1, 2)) if mode == "roll" else view
        dy, dx = (0, 0) if mode == "roll" else (dy, dx)
        moved = there[:, top + dy : bottom + dy, left + dx : right + dx]
        assert torch.equal(moved, reference[:, top:bottom, left:right])


def test_rolled_bytes_move_by_fractions_of_a_pixel():
    wave = 100 + 50 * torch.sin(torch.arange(64) * torch.pi / 8)
    picture = wave.round().to(torch.uint8)[None, None].expand(3, 64, 64)
    views = plan_of("roll", (0, 0.5), (0, 1)).views(picture)
    expected = 100 + 50 * torch.sin((torch.arange(64) - 0.5) * torch.pi / 8)
    assert (views[1] - expected).abs().max() < 1  # of rounding to bytes
    assert torch.equal(views[2], views[0].roll(1, 2))


def test_a_fill_is_zero_once_normalised():
    """As the hosts' own padding is."""
    view = plan_of("canvas", (8, 8)).views(picture_of(48, 48), MEAN)[0]
    assert torch.equal(view[:, 0, 0], MEAN)


def test_shifts_of_several_sets_are_looked_at_once():
    first, second = ShiftSet("a", ((8, 0), (0, 8))), ShiftSet("b", ((0, 8), (1, 0)))
    plan = Plan("canvas", (first, second), DIVISOR, DIVISOR)
    assert plan.shifts == ((8, 0), (0, 8), (1, 0))
    assert (plan.indices(first), plan.indices(second)) == ([0, 1], [1, 2])
    assert select(plan.shifts, 1) == ((1, 0),)


@pytest.mark.parametrize(
    ("mode", "given", "options", "said"),
    [
        ("canvas", [], {}, "needs shifts"),
        ("window", [(8, 0), (0, 0)], {}, r"\(0, 0\) is none"),
        ("window", [(8, 0)], {"fill": "reflect"}, "mode window has no canvas to fill"),
        ("masked_canvas", [(8, 0)], {"fill": "reflect"}, "no canvas to fill with `reflect`"),
        ("canvas", [(0.5, 0)], {}, "mode canvas shifts by whole pixels"),
    ],
)
def test_plans_that_make_no_sense(mode, given, options, said):
    with pytest.raises(ValueError, match=said):
        plan_of(mode, *given, **options)


@pytest.mark.parametrize(
    ("mode", "shift", "options", "size", "said"),
    [
        ("window", (30, 0), {}, (64, 90), "smaller than the range of shifts, 30 pixels"),
        ("roll", (1, 0), {}, (7, 90), "smaller than the range of shifts"),
        (
            "window",
            (8, 0),
            {"edge": 20},
            (48, 90),
            "no pixel of 32 x 72 is in sight .*: use --mode canvas, or",
        ),
        ("canvas", (8, 0), {"edge": 20}, (40, 90), "20 off the edge: use less with --edge"),
        ("canvas", (16, 0), {"fill": "reflect"}, (32, 64), "has no reflection for shifts of 16"),
    ],
)
def test_pictures_that_are_too_small(mode, shift, options, size, said):
    plan = plan_of(mode, shift, **options)
    with pytest.raises(ValueError, match=said):
        plan.scene(*size)
    with pytest.raises(ValueError, match=said):
        plan.views(picture_of(*size))


@given(st.integers(1, 24), sides)
def test_a_reflection_is_refused_where_there_is_none_and_only_there(largest, side):
    plan, picture = plan_of("canvas", (largest, 0), fill="reflect"), picture_of(side, 96)
    margin = plan.frame.margin
    below = -side % DIVISOR + margin + largest
    if below < side:
        assert len(plan.views(picture)) == 2
    else:
        with pytest.raises(ValueError, match="no reflection"):
            plan.views(picture)
