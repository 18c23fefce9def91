"""Plans of sizes: where views lie, what they show, and what is no plan or no picture of one."""

import json
from dataclasses import asdict
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.sizes import (
    SHAPES,
    SizePlan,
    SizeSet,
    Window,
    _cut,
    plan_of,
    resized,
)
from mmplugins.evaluation.views import WHOLE, Picture

DIVISOR = 8
MEAN = torch.tensor([103.5, 116.25, 123.75])
EVERY = {
    "resize": ("0.5", "1", "1.5", "2"),
    "extent": ("1", "1.25", "2"),
    "crop": ("0.5", "0.75", "1"),
    "slide": ("1.5", "2"),
    "aspect": tuple(SHAPES),
}
cells = st.integers(2, 12)  # of a side: half of two is one
pixels = st.integers(16, 90)


def sizes_of(divisor=DIVISOR, fill="mean", **points):
    sets = (points or EVERY).items()
    return SizePlan(tuple(SizeSet(mode, tuple(p)) for mode, p in sets), divisor, fill)


def picture_of(height, width, channels=3):
    """Before the pipeline's resizing, which left it as it is."""
    generator = torch.Generator().manual_seed(height * width)
    noise = torch.randint(256, (channels, height, width), generator=generator, dtype=torch.uint8)
    return Picture("some", noise, (1.0, 1.0), original=noise)


PLAN = sizes_of()


def test_each_view_is_looked_at_once_and_the_training_size_first():
    sides = {mode: len(points) for mode, points in EVERY.items()}
    shared = ("resize", "extent", "crop")
    assert len({*PLAN.conditions}) == len(PLAN.conditions) == sum(sides.values()) - len(shared) + 1
    assert [PLAN.index(mode, "1") for mode in shared] == [0, 0, 0]
    picture = PLAN.prepared(picture_of(40, 48))
    views = PLAN.looks(picture, MEAN)
    assert len(views) == len(PLAN.conditions)
    for mode, points in EVERY.items():
        for point in points:
            view, window = views[PLAN.index(mode, point)], PLAN.window(mode, point, (40, 48))
            assert tuple(view.pixels.shape) == (3, *window.size)
            assert view.shown == window.size
    assert sizes_of(aspect=SHAPES).conditions[0] == ("resize", "1")


@given(pixels, pixels)
def test_the_training_size_is_that_of_the_pipeline_in_whole_cells(height, width):
    picture = picture_of(height, width)
    ready = PLAN.prepared(picture)
    size = tuple(ready.pixels.shape[1:])
    for side, before, scale in zip(size, (height, width), ready.scale, strict=True):
        assert side % DIVISOR == 0
        assert abs(side - before) <= DIVISOR / 2
        assert scale * before == pytest.approx(side)
    scene = PLAN.scene(*size)
    assert scene.view == size
    assert scene.content == scene.core == (0, 0, *size)
    assert not PLAN.fits_all  # so that each picture is checked


@given(cells, cells)
def test_views_are_whole_cells_and_all_of_a_mode_show_its_core(rows, columns):
    size = rows * DIVISOR, columns * DIVISOR
    for mode, points in EVERY.items():
        windows = [PLAN.window(mode, point, size) for point in points]
        shown = np.ones(size, bool)
        for point, window in zip(points, windows, strict=True):
            assert all(side % DIVISOR == 0 for side in (*window.size, *window.origin))
            (top, left), (height, width) = window.origin, window.size
            if mode in ("resize", "slide"):
                assert (top, left) == (0, 0)
                height, width = (
                    side / zoom for side, zoom in zip((height, width), window.zoom, strict=True)
                )
                assert (height, width) == pytest.approx(size)
                height, width = round(height), round(width)
            else:
                assert window.zoom == (1, 1)
            if mode != "aspect":
                for view, side in zip(window.size, size, strict=True):
                    assert abs(view - float(point) * side) <= DIVISOR / 2
            y, x = np.indices(size)
            shown &= (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
        core = np.zeros(size, bool)
        top, left, bottom, right = PLAN.core(mode, size)
        core[top:bottom, left:right] = True
        assert core.any()
        np.testing.assert_array_equal(core, shown)  # all that they share, and no more
        if mode == "crop":
            assert core.sum() == min(prod(window.size) for window in windows)


@given(cells, cells)
def test_shapes_have_equally_many_cells_and_about_as_many_as_the_picture(rows, columns):
    size = rows * DIVISOR, columns * DIVISOR
    areas = [prod(PLAN.window("aspect", shape, size).size) for shape in SHAPES]
    assert len({*areas}) == 1
    n = np.sqrt(areas[0] / 36) / DIVISOR
    assert n == round(n) >= 1
    assert n == 1 or abs(n - np.sqrt(rows * columns / 36)) <= 0.5
    tall, even, wide = (PLAN.window("aspect", shape, size).size for shape in SHAPES)
    assert tall == wide[::-1]
    assert tall[0] > tall[1]
    assert even[0] == even[1]


class TestViews:
    def test_resized_and_slid_are_the_same_pixels_of_the_original(self):
        """From it at once, and not from the training size."""
        original = picture_of(90, 70)
        ready = PLAN.prepared(original)
        frame = tuple(ready.pixels.shape[1:])
        views = PLAN.looks(ready, MEAN)
        for mode in ("resize", "slide"):
            for point in EVERY[mode]:
                view = views[PLAN.index(mode, point)]
                size = PLAN.window(mode, point, frame).size
                assert torch.equal(view.pixels, resized(original, size))
                assert view.pixels.dtype == torch.uint8
                assert (view.size, view.origin, view.frame) == (frame, (0, 0), None)
        whole, slid = (views[PLAN.index(mode, "2")] for mode in ("resize", "slide"))
        assert torch.equal(whole.pixels, slid.pixels)
        assert whole.test_cfg == WHOLE
        assert (slid.test_cfg["mode"], slid.test_cfg["crop_size"]) == ("slide", frame)
        assert all(s < c for s, c in zip(slid.test_cfg["stride"], frame, strict=True))

    @pytest.mark.parametrize("fill", ["mean", "reflect"])
    @pytest.mark.parametrize("mode", ["extent", "crop", "aspect"])
    def test_others_are_cut_of_the_training_size(self, mode, fill):
        plan = sizes_of(fill=fill)
        ready = plan.prepared(picture_of(40, 64))
        for point in EVERY[mode]:
            view = plan.looks(ready, MEAN)[plan.index(mode, point)]
            if point == "1":
                assert torch.equal(view.pixels, ready.pixels)
                continue
            window = plan.window(mode, point, (40, 64))
            known = slow(ready.pixels, window, MEAN if fill == "mean" else None)
            np.testing.assert_array_equal(view.pixels.numpy(), known)
            assert view.pixels.dtype == torch.float32  # as the mean is
            assert (view.origin, view.size, view.frame) == (window.origin, window.size, (40, 64))
            assert view.test_cfg == WHOLE

    def test_a_model_without_a_mean_has_black_canvases(self):
        plan = sizes_of(extent=("1", "2"))
        ready = plan.prepared(picture_of(16, 16))
        view = plan.looks(ready)[1].pixels
        assert torch.equal(view[:, :16, :16], ready.pixels.float())
        assert not view[:, 16:].any()
        assert not view[:, :, 16:].any()

    @given(
        *[st.integers(1, 6)] * 2,
        *[st.integers(-20, 10)] * 2,
        *[st.integers(1, 24)] * 2,
        st.booleans(),
    )
    def test_cuts_are_those_of_a_slow_loop(self, height, width, top, left, rows, columns, filled):
        """Reflected again and again where the window is larger than the picture."""
        shown = picture_of(height, width).pixels
        window, mean = Window((rows, columns), (top, left)), MEAN if filled else None
        found = _cut(shown, window, mean).numpy()
        np.testing.assert_array_equal(found, slow(shown, window, mean))

    @given(pixels, pixels, st.integers(1, 90), st.integers(1, 90))
    def test_resizing_keeps_channels_type_and_constants(self, height, width, rows, columns):
        flat = torch.tensor([10, 120, 250], dtype=torch.uint8)[:, None, None]
        original = flat.expand(3, height, width).contiguous()
        result = resized(Picture("0", original, (1.0, 1.0), original=original), (rows, columns))
        assert result.dtype == torch.uint8
        assert torch.equal(result, flat.expand(3, rows, columns))
        assert result.is_contiguous()


def slow(shown, window, mean):
    """Pixel by pixel; a place beyond the border is turned back at it until it lies within."""

    def turned(at, side):
        while side > 1 and not 0 <= at < side:
            at = -at if at < 0 else 2 * (side - 1) - at
        return at if side > 1 else 0

    sides = shown.shape[1:]
    shown, mean = shown.numpy(), None if mean is None else mean.numpy()
    view = np.empty((len(shown), *window.size), np.float32)
    for place in np.ndindex(*window.size):
        at = [origin + step for origin, step in zip(window.origin, place, strict=True)]
        inside = all(0 <= a < side for a, side in zip(at, sides, strict=True))
        if mean is not None and not inside:
            view[(slice(None), *place)] = mean
        else:
            y, x = (turned(a, side) for a, side in zip(at, sides, strict=True))
            view[(slice(None), *place)] = shown[:, y, x]
    return view


class TestJson:
    @pytest.mark.parametrize("fill", ["mean", "reflect"])
    def test_a_plan_comes_back(self, fill):
        plan = sizes_of(divisor=24, fill=fill)
        again = plan_of(json.loads(json.dumps(asdict(plan))))
        assert again == plan
        assert again.conditions == plan.conditions
        assert json.loads(json.dumps(plan.facts)) == {
            "sizes": {mode: list(points) for mode, points in EVERY.items()},
            "divisor": 24,
            "fill": fill,
        }

    def test_a_plan_of_shifts_is_told_from_one_of_sizes(self):
        plan = Plan("canvas", (ShiftSet("some", ((8, 0),)),), 8, 8)
        assert plan_of(json.loads(json.dumps(asdict(plan)))) == plan


class TestRefusals:
    @pytest.mark.parametrize(
        ("points", "said"),
        [
            ({"resize": ("0.5", "2")}, "resize at 0.5, 2 of the training size: that itself, 1, is"),
            ({"extent": ("1.5",)}, "that itself, 1, is missing"),
            ({"resize": ("1", "2"), "crop": ("0.5",)}, "crop at 0.5 of .*1, is missing"),
            ({"extent": ("0.5", "1")}, "extent has no ratios such as 0.5, 1"),
            ({"crop": ("1", "1.5")}, "crop has no ratios such as 1, 1.5"),
            ({"resize": ("0", "1")}, "resize has no ratios such as 0, 1"),
            ({"resize": ("1", "nan")}, "resize has no ratios such as 1, nan"),
            ({"resize": ("1", "inf")}, "resize has no ratios such as 1, inf"),
            ({"resize": ("1", "2", "2.0")}, "resize has a ratio twice: 1, 2, 2.0"),
            ({"slide": ("2",)}, "slide is of ratios above 1 that resize has, too"),
            ({"resize": ("1", "2"), "slide": ("1.5",)}, "slide is of ratios above 1 that resize"),
            ({"resize": ("0.5", "1"), "slide": ("0.5",)}, "slide is of ratios above 1"),
            ({"resize": ("1", "2"), "slide": ()}, "slide is of ratios above 1"),
            ({"aspect": ("square", "portrait")}, "aspect has the shapes portrait, square, landsc"),
            ({"warp": ("1", "2")}, "no mode `warp`: there are resize, extent, crop, slide, aspect"),
        ],
    )
    def test_no_plans(self, points, said):
        with pytest.raises(ValueError, match=said):
            sizes_of(**points)

    def test_no_modes_and_modes_twice(self):
        with pytest.raises(ValueError, match="each mode to a size once, not none"):
            SizePlan((), DIVISOR)
        twice = SizeSet("resize", ("1", "2")), SizeSet("resize", ("0.5", "1"))
        with pytest.raises(ValueError, match="once, not resize, resize"):
            SizePlan(twice, DIVISOR)

    @pytest.mark.parametrize(
        ("points", "size", "said"),
        [
            (
                {"resize": ("0.2", "1")},
                (32, 64),
                "0.2 times 32 x 64 .* less than one cell of 8 pix",
            ),
            ({"crop": ("0.2", "1")}, (64, 32), "0.2 times 64 x 32 .* less than one cell of 8 pix"),
            ({"resize": ("1", "2")}, (7, 64), "1 times 7 x 64 pixels is less than one cell"),
            ({"resize": ("1", "1.1")}, (32, 24), "1 and 1.1 times 32 x 24 .* both 32 x 24, in mul"),
            ({"extent": ("1", "2", "2.1")}, (16, 16), "2 and 2.1 times 16 x 16 .* both 32 x 32"),
        ],
    )
    def test_pictures_that_are_too_small(self, points, size, said):
        plan = sizes_of(**points)
        with pytest.raises(ValueError, match=said):
            plan.check(*size)
        plan.check(*(10 * side for side in size))
        plan.check(*(side + 80 for side in size))

    @given(pixels, pixels)
    def test_what_passes_the_check_can_be_looked_at(self, height, width):
        try:
            PLAN.check(height, width)
        except ValueError:
            return
        views = PLAN.looks(PLAN.prepared(picture_of(height, width)), MEAN)
        shapes = {tuple(view.pixels.shape) for view in views}
        assert all(side % DIVISOR == 0 for shape in shapes for side in shape[1:])


def test_pictures_of_one_channel_stay_so():
    original = torch.arange(48, dtype=torch.uint8).reshape(1, 6, 8)
    picture = Picture("0", original, (1.0, 1.0), original=original)
    assert resized(picture, (12, 16)).shape == (1, 12, 16)
