"""Shifts, the cells that correspond under them, and errors with known answers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.evaluation.equivariance import assert_equivariant, equivariance_error
from mmplugins.evaluation.features.errors import corresponding, feature_error
from mmplugins.evaluation.shifts import Frame, kind_of, shift_set

DOUBLE = torch.float64


def picture(height=12, width=16, channels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, height, width, generator=generator, dtype=DOUBLE)


def test_sets():
    assert len(shift_set("pgrid", period=16)) == 24
    assert (0, -128) in shift_set("pgrid", period=16)
    assert [dy for dy, dx in shift_set("sub", period=16) if not dx] == [1, 2, 4, 8, 15]
    assert shift_set("sub", period=1) == []
    assert len(shift_set("ddac", period=1)) == 20
    assert max(abs(p) for s in shift_set("lps", period=1, count=400) for p in s) == 32
    assert {p for s in shift_set("zhang", period=1, count=999) for p in s} == set(range(32))
    assert max(p for s in shift_set("eqt", period=1, side=80, count=400) for p in s) == 10
    assert shift_set("lps", period=1, seed=3) == shift_set("lps", period=1, seed=3)
    with pytest.raises(ValueError, match="unknown set of shifts `grid`: use pgrid, sub, frac"):
        shift_set("grid", period=1)
    with pytest.raises(ValueError, match="one pixel or more, not 0"):
        shift_set("pgrid", period=0)


@pytest.mark.parametrize("period", [1, 2, 16, 24, 32])
def test_sets_hold_one_kind(period):
    kinds = {kind_of(shift, period) for shift in shift_set("pgrid", period=period)}
    assert kinds == {"position"}
    assert {kind_of(s, period) for s in shift_set("sub", period=period)} <= {"aliasing"}
    assert kind_of((period, 0.5), period) == "mixed"


@given(dy=st.integers(-3, 3), dx=st.integers(-3, 3))
def test_views_show_the_same_content_elsewhere(dy, dx):
    x = picture()[0, 0]
    for frame in (Frame("roll"), Frame("window", 3), Frame("canvas", 3), Frame("masked_canvas", 3)):
        reference, shifted = frame.view(x), frame.view(x, (dy, dx))
        assert reference.shape == shifted.shape
        top, left, bottom, right = frame.core(*reference.shape, [(0, 0), (dy, dx)])
        for i in range(top, bottom):
            for j in range(left, right):
                p, q = (i + dy) % len(shifted), (j + dx) % shifted.shape[1]
                assert reference[i, j] == shifted[p, q]
    valid = Frame("masked_canvas", 3).valid(x, (dy, dx))
    canvas = Frame("masked_canvas", 3, fill=9.0).view(x, (dy, dx))
    assert torch.equal(canvas == 9.0, ~valid)
    assert valid[3 + dy, 3 + dx]
    assert valid.sum() == x.numel()


def test_core_of_many_shifts():
    frame = Frame("window", 4)
    assert frame.core(20, 30, [(0, 0), (3, -2), (-4, 1)]) == (4, 2, 17, 29)
    assert frame.core(20, 30, [(0, 0)], edge=5) == (5, 5, 15, 25)
    assert Frame("window", 1).core(20, 30, [(0.5, -0.5)]) == (0, 1, 19, 30)
    with pytest.raises(ValueError, match="no pixel of 8 x 30 is in sight"):
        frame.core(8, 30, [(4, 0), (-4, 0)])


def test_fractions_of_a_roll_are_exact_for_waves():
    x = torch.arange(16, dtype=DOUBLE)
    wave = torch.cos(2 * math.pi * 3 * x / 16).expand(12, 16)
    rolled = Frame("roll").view(wave, (0.0, 0.25))
    torch.testing.assert_close(rolled[5], torch.cos(2 * math.pi * 3 * (x - 0.25) / 16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Frame("roll", 3), "mode roll with a margin of 3"),
        (lambda: Frame("canvas"), "mode canvas with a margin of 0"),
        (lambda: Frame("window", 6).view(picture()), "12 x 16 pixels is smaller than the range"),
        (lambda: Frame("canvas", 2).view(picture(), (3, 0)), "beyond the margin of 2"),
        (lambda: Frame("canvas", 2).view(picture(), (0.5, 0)), "only mode roll knows fractions"),
    ],
)
def test_impossible_shifts_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def blur(x):
    """Equivariant around the border."""
    return (x + x.roll(1, -1) + x.roll(2, -2)) / 3


def ramp(x):
    """Brighter to the right: not equivariant."""
    return x * torch.linspace(0.5, 1.5, x.shape[-1], dtype=x.dtype)


def pool(x):
    return torch.nn.functional.avg_pool2d(x, 4)


def test_errors_of_simple_functions():
    shifts = [(0, 4), (-8, 4), (4, 0)]
    assert_equivariant(blur, picture(), shifts)
    assert_equivariant(pool, picture(), shifts, stride=4)
    errors = equivariance_error(ramp, picture(), shifts)
    assert errors[4, 0] == 0
    assert errors[0, 4] > 0.1
    with pytest.raises(AssertionError, match=r"under shift \(0, 4\) the relative error is"):
        assert_equivariant(ramp, picture(), shifts)


def test_fractions_of_a_pixel():
    """Linear filters are exact between pixels; what bends values is not."""
    x = picture(13, 17)
    assert_equivariant(lambda x: x, x, [(0.5, 0.25)])
    assert_equivariant(blur, x, [(0.5, 0.0)])
    assert equivariance_error(torch.relu, x, [(0.5, 0.0)])[0.5, 0.0] > 0.1


def test_zero_padding_is_exact_inside():
    conv = torch.nn.Conv2d(2, 3, 3, padding=1, dtype=DOUBLE)
    frame, shifts = Frame("window", 4), [(4, -3)]
    assert equivariance_error(conv, picture(24, 24), shifts, frame=frame)[4, -3] > 0.1
    assert_equivariant(conv, picture(24, 24), shifts, frame=frame, border=1)


def test_the_mask_of_a_canvas_reaches_the_function():
    def centred(x, valid):
        return x - x[..., valid].mean()

    frame = Frame("masked_canvas", 4, fill=7.0)
    assert_equivariant(centred, picture(), [(4, -4)], frame=frame)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r"shift \(0, 3\) is no multiple of the stride of 4"):
        equivariance_error(pool, picture(), [(0, 3)], stride=4)
    with pytest.raises(ValueError, match="margin 6 is no multiple of the stride of 4"):
        equivariance_error(pool, picture(), [(0, 4)], stride=4, frame=Frame("canvas", 6))
    with pytest.raises(ValueError, match=r"stride 2 makes 6 x 8 cells of .* has 3 x 4"):
        equivariance_error(pool, picture(), [(0, 4)], stride=2)
    with pytest.raises(ValueError, match="no cell of 3 x 4 is 2 off the border"):
        equivariance_error(pool, picture(), [(0, 4)], stride=4, border=2)


def test_chance_is_the_root_of_two():
    a, b = picture(64, 64, 8)[0].flatten(1).T, picture(64, 64, 8, seed=1)[0].flatten(1).T
    error = feature_error([(a, b)])
    assert error.fee == pytest.approx(math.sqrt(2), rel=0.01)
    assert error.fes == pytest.approx(0, abs=0.02)
    assert error.ret1 < 0.01
    biased = feature_error([(a + 3, b + 3)])
    assert biased.fee == pytest.approx(error.fee)  # a common mean flatters nobody


def test_exact_features():
    a = picture(8, 8, 4)[0].flatten(1).T
    error = feature_error([(a, a)])
    assert (error.fee, error.fes, error.ret1, error.eq_db) == (0, 1, 1, math.inf)
    tenth = feature_error([(a, a + 0.1 * (a - a.mean(0)))])
    assert tenth.eq_db == pytest.approx(-20 * math.log10(0.1 / math.sqrt((1 + 1.21) / 2)))
    flat = feature_error([(torch.ones(9, 2), torch.ones(9, 2))])
    assert math.isnan(flat.fee)
    assert math.isnan(flat.fes)


def test_images_count_by_their_cells():
    """Sums over cells first: not a mean of ratios."""
    a, b = picture(8, 8)[0].flatten(1).T, picture(2, 2, seed=3)[0].flatten(1).T
    both = feature_error([(a, a), (b, b.flip(0))])
    mean = torch.cat([a, b]).mean(0)
    spread = ((a - mean).square().sum() + (b - mean).square().sum()).item()
    assert both.fee**2 == pytest.approx((b - b.flip(0)).square().sum().item() / spread)
    with pytest.raises(ValueError, match="no images"):
        feature_error([])


def test_sign_errors_and_swapped_axes_show():
    x = picture(24, 24)
    moved = Frame("roll").view(x, (8, 4))[0]
    pairs = {
        shift: corresponding(x[0], moved, shift, stride=1, frame=Frame("roll"))
        for shift in [(8, 4), (-8, -4), (4, 8), (8, 5)]
    }
    errors = {shift: feature_error([pair]).fee for shift, pair in pairs.items()}
    assert errors.pop((8, 4)) == 0
    assert min(errors.values()) > 1
