"""Which sizes every image is looked at in, and where its content lies in these views.

R0 is the size that the test pipeline gives a picture, R = r R0 that of a view, in multiples of a
divisor, so that no padding enters. Plain resizing changes two things at once, how large objects
look and how many patches there are; so there are other modes to a size:

    resize    the picture made larger or smaller: both change
    extent    r >= 1: the picture as it is at the top left of a larger canvas: the grid alone grows
    crop      r <= 1: cut out of its middle: the grid alone shrinks, and the context
    slide     r > 1: resized, but looked at in crops of R0 by turns (segmenters): what resize and
              slide differ by is what the larger grid does
    aspect    upright, square and lying views of the same number of cells, 6n x 6n and 9n x 4n, and
              about as many as R0: the same picture around the middle

All is told in the coordinates of R0, and within one mode of the same objects and pixels at every
size: those that all its views show whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, sqrt
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mmplugins.evaluation.plan import Fill, Plan, Scene
from mmplugins.evaluation.shifts import Rectangle
from mmplugins.evaluation.views import WHOLE, Picture, Size, View

SizeMode = Literal["resize", "extent", "crop", "slide", "aspect"]
MODES: tuple[SizeMode, ...] = get_args(SizeMode)
SHAPES = {"portrait": (9, 4), "square": (6, 6), "landscape": (4, 9)}  # 36 n^2 cells each
TRAINED = "1"  # the ratio of the training size
EDGE = 16.0  # pixels, as at the border of windows of shifted pictures


@dataclass(frozen=True)
class SizeSet:
    """Sizes that are reported together: ratios as text, or shapes."""

    mode: SizeMode
    points: tuple[str, ...]

    @property
    def reference(self) -> str:
        """The point that others are told against."""
        return "square" if self.mode == "aspect" else TRAINED


@dataclass(frozen=True)
class Window:
    """A view of R0's frame: `size` pixels from `origin` on, which show the picture `zoom` times."""

    size: Size
    origin: tuple[int, int] = (0, 0)
    zoom: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class SizePlan:
    """The views of every image: at the training size, then at all others.

    Attributes:
        sets: of sizes, one for each mode.
        divisor: what the sides of views are multiples of.
        fill: what canvases are made of: the picture reflected, or the mean of the normalisation.

    Raises:
        ValueError: an unknown mode, two sets of one, one without the training size, a ratio twice
            or that its mode does not have, or sliding without resizing.
    """

    sets: tuple[SizeSet, ...]
    divisor: int
    fill: Fill = "reflect"

    def __post_init__(self):
        modes = [group.mode for group in self.sets]
        if not modes or len({*modes}) < len(modes):
            raise ValueError(f"name each mode to a size once, not {', '.join(modes) or 'none'}")
        if unknown := [mode for mode in modes if mode not in MODES]:
            raise ValueError(f"no mode `{unknown[0]}`: there are {', '.join(MODES)}")
        for group in self.sets:
            self._check(group)

    def _check(self, group: SizeSet) -> None:
        if group.mode == "aspect":
            if group.points != tuple(SHAPES):
                raise ValueError(f"aspect has the shapes {', '.join(SHAPES)}")
            return
        ratios, named = [float(point) for point in group.points], ", ".join(group.points)
        reach = {"extent": (1, inf), "crop": (0, 1)}.get(group.mode, (0, inf))
        if any(not (0 < ratio < inf and reach[0] <= ratio <= reach[1]) for ratio in ratios):
            raise ValueError(f"{group.mode} has no ratios such as {named}")
        if len({*ratios}) < len(ratios):
            raise ValueError(f"{group.mode} has a ratio twice: {named}")
        if group.mode == "slide":
            resized = next((other.points for other in self.sets if other.mode == "resize"), ())
            if not {*group.points} <= {*resized} or min(ratios, default=0) <= 1:
                raise ValueError("slide is of ratios above 1 that resize has, too")
        elif TRAINED not in group.points:
            raise ValueError(
                f"{group.mode} at {named} of the training size: that itself, 1, is missing, which "
                "all others are told against"
            )

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "SizePlan":
        """What `dataclasses.asdict` and JSON made of one."""
        sets = tuple(SizeSet(group["mode"], tuple(group["points"])) for group in plain["sets"])
        return cls(**{**plain, "sets": sets})

    @property
    def facts(self) -> dict[str, Any]:
        """What others must have in common to be compared, in the plain types of JSON."""
        sizes = {group.mode: list(group.points) for group in self.sets}
        return {"sizes": sizes, "divisor": self.divisor, "fill": self.fill}

    @cached_property
    def conditions(self) -> tuple[tuple[SizeMode, str], ...]:
        """Every view once: whichever mode, there is one at the training size."""
        each = [(group.mode, point) for group in self.sets for point in group.points]
        return (("resize", TRAINED), *(c for c in each if c[1] != TRAINED))

    def index(self, mode: SizeMode, point: str) -> int:
        """The number of a view."""
        return 0 if point == TRAINED else self.conditions.index((mode, point))

    @property
    def fits_all(self) -> bool:
        """Whether pictures of every size have these views."""
        return False

    def check(self, height: int, width: int) -> None:
        """Refuse a picture that these are no views of.

        Raises:
            ValueError: a view is smaller than one divisor, or two sizes are the same.
        """
        size = self._aligned((height, width), TRAINED)
        for group in self.sets:
            seen: dict[Size, str] = {}
            for point in group.points:
                view = self.window(group.mode, point, size).size
                if (first := seen.setdefault(view, point)) != point:
                    raise ValueError(
                        f"{first} and {point} times {height} x {width} pixels are both "
                        f"{view[0]} x {view[1]}, in multiples of {self.divisor}: leave one of them "
                        "out with --sizes"
                    )

    def prepared(self, picture: Picture) -> Picture:
        """Resized from the original to R0, in multiples of the divisor.

        Raises:
            ValueError: it is smaller than one divisor.
        """
        size = self._aligned(picture.pixels.shape[-2:], TRAINED)
        whole = picture.original.shape[-2:]
        scale = tuple(side / of for side, of in zip(size, whole, strict=True))
        return replace(picture, pixels=resized(picture, size), scale=scale)

    def scene(self, height: int, width: int) -> Scene:
        """Of a prepared picture: all of it."""
        everything = (0, 0, height, width)
        return Scene((height, width), everything, everything)

    def window(self, mode: SizeMode, point: str, size: Size) -> Window:
        """Where in the frame of R0 a view lies.

        Args:
            mode: to its size.
            point: of it.
            size: R0.

        Raises:
            ValueError: a side of the view is less than one divisor.
        """
        if mode in ("resize", "slide"):
            view = self._aligned(size, point)
            return Window(view, zoom=tuple(a / b for a, b in zip(view, size, strict=True)))
        if mode == "extent":
            return Window(self._aligned(size, point))
        view = self._shaped(point, size) if mode == "aspect" else self._aligned(size, point)
        # By whole cells, so that patches are cut alike.
        origin = (
            (whole - side) // 2 // self.divisor for whole, side in zip(size, view, strict=True)
        )
        return Window(view, tuple(self.divisor * cells for cells in origin))

    def core(self, mode: SizeMode, size: Size) -> Rectangle:
        """What all views of a mode show of the frame of R0."""
        (group,) = (group for group in self.sets if group.mode == mode)
        if mode in ("resize", "extent", "slide"):
            return (0, 0, *size)
        windows = [self.window(mode, point, size) for point in group.points]
        top, left = (max(0, *(w.origin[axis] for w in windows)) for axis in (0, 1))
        ends = (min(size[a], *(w.origin[a] + w.size[a] for w in windows)) for a in (0, 1))
        return (top, left, *ends)

    @staticmethod
    def slack(mode: SizeMode) -> float:
        """Pixels that what is found may stick out of the core and still count: see `Plan.slack`.

        What a border cuts is found in part, up to this border: it has to keep off, to count.
        """
        return -EDGE if mode in ("crop", "aspect") else inf

    def looks(self, picture: Picture, mean: Tensor | None = None) -> list[View]:
        """The views of a prepared picture, and what the host is told of them."""
        frame = tuple(picture.pixels.shape[-2:])
        return [self._look(picture, mean, frame, *condition) for condition in self.conditions]

    def _look(
        self, picture: Picture, mean: Tensor | None, frame: Size, mode: SizeMode, point: str
    ) -> View:
        window = self.window(mode, point, frame)
        test_cfg = WHOLE
        if mode in ("resize", "slide"):
            if mode == "slide":
                stride = tuple(max(1, 2 * side // 3) for side in frame)
                test_cfg = {"mode": "slide", "crop_size": frame, "stride": stride}
            pixels = resized(picture, window.size)
            return View(pixels, window.size, frame, test_cfg=test_cfg)
        if self.fill == "reflect":
            mean = None
        elif mean is None:
            mean = torch.zeros(len(picture.pixels))
        pixels = _cut(picture.pixels, window, mean)
        return View(pixels, window.size, window.size, window.origin, frame, test_cfg=test_cfg)

    def _aligned(self, size: Sequence[int], point: str) -> Size:
        sides = [float(point) * side for side in size]
        if min(sides) < self.divisor:
            height, width = size
            raise ValueError(
                f"{point} times {height} x {width} pixels is less than one cell of "
                f"{self.divisor} pixels: leave out sizes as small"
            )
        return tuple(self.divisor * int(side / self.divisor + 0.5) for side in sides)

    def _shaped(self, point: str, size: Size) -> Size:
        cells = size[0] * size[1] / self.divisor**2
        n = max(1, round(sqrt(cells / 36)))
        return tuple(side * n * self.divisor for side in SHAPES[point])


AnyPlan = Plan | SizePlan


def plan_of(plain: Mapping[str, Any]) -> AnyPlan:
    """The plan, of either kind, that `dataclasses.asdict` and JSON made `plain` of."""
    return (Plan if "mode" in plain else SizePlan).from_json(plain)


def resized(picture: Picture, size: Size) -> Tensor:
    """[C, h, w] as the hosts resize pictures, by mmcv, so that R0 is what they make."""
    from mmcv import imresize

    pixels = picture.original
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    height, width = size
    image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    image = imresize(image, (width, height), **picture.resampling).reshape(height, width, -1)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _cut(pixels: Tensor, window: Window, mean: Tensor | None) -> Tensor:
    """[C, h, w] of the window; beyond the picture the mean, or without that its reflection."""
    # Pictures come in bytes, which the mean does not fit in.
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    places = [np.arange(at, at + side) for at, side in zip(window.origin, window.size, strict=True)]
    sides = pixels.shape[-2:]
    # Triangle waves: 0 1 2 1 0 of three pixels.
    turned = [
        np.abs((at + side - 1) % max(1, 2 * side - 2) - (side - 1))
        for at, side in zip(places, sides, strict=True)
    ]
    view = pixels[:, turned[0]][:, :, turned[1]]
    if mean is None:
        return view
    inside = [(at >= 0) & (at < side) for at, side in zip(places, sides, strict=True)]
    shows = torch.from_numpy(inside[0][:, None] & inside[1])
    return torch.where(shows, view, mean.to(view)[:, None, None])
