"""Which views of every image are looked at, and where its content lies in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmplugins.evaluation.shifts import Frame, Mode, Rectangle, Shift
from mmplugins.evaluation.views import Picture, Size, View

Fill = Literal["mean", "reflect"]


@dataclass(frozen=True)
class ShiftSet:
    """Shifts that are reported together: all whole periods, or all below one."""

    name: str
    shifts: tuple[Shift, ...]


@dataclass(frozen=True)
class Scene:
    """Where the content of an image lies in the reference view, in pixels of the network's input.

    Attributes:
        view: size of every view.
        content: the picture; beyond the view where this is a window.
        core: what counts: in sight under every shift, less the edge.
    """

    view: Size
    content: Rectangle
    core: Rectangle


@dataclass(frozen=True)
class Plan:
    """The views of every image: the reference, then one for each shift.

    Attributes:
        mode: how pictures are shifted, see `Frame`.
        sets: of shifts.
        period: P of the model in pixels.
        divisor: what the sides of views are multiples of, so that nothing pads them further.
        edge: pixels that the core is shrunk by.
        fill: what canvases are made of: the mean of the normalisation, or the picture reflected.

    Raises:
        ValueError: no shift, the shift (0, 0), a fraction of a pixel in another mode than roll, or
            a fill of a mode that has none.
    """

    mode: Mode
    sets: tuple[ShiftSet, ...]
    period: int
    divisor: int
    edge: int = 0
    fill: Fill = "mean"

    def __post_init__(self):
        if not self.shifts or (0, 0) in self.shifts:
            raise ValueError("a plan needs shifts, and (0, 0) is none: it is the reference")
        if self.mode != "roll" and any(part % 1 for shift in self.shifts for part in shift):
            raise ValueError(f"mode {self.mode} shifts by whole pixels, only roll by fractions")
        if self.fill != "mean" and self.mode != "canvas":
            raise ValueError(f"mode {self.mode} has no canvas to fill with `{self.fill}`")

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Plan":
        """What `dataclasses.asdict` and JSON made of one."""
        sets = tuple(
            ShiftSet(group["name"], tuple(tuple(shift) for shift in group["shifts"]))
            for group in plain["sets"]
        )
        return cls(**{**plain, "sets": sets})

    @property
    def facts(self) -> dict[str, Any]:
        """What others must have in common to be compared, in the plain types of JSON."""
        return {
            "mode": self.mode,
            "shifts": {group.name: [list(shift) for shift in group.shifts] for group in self.sets},
            "period": self.period,
            "divisor": self.divisor,
            "margin": self.frame.margin,
            "edge": self.edge,
            "fill": self.fill,
        }

    @cached_property
    def shifts(self) -> tuple[Shift, ...]:
        """Every shift once, in the order of the sets."""
        return tuple(dict.fromkeys(shift for group in self.sets for shift in group.shifts))

    @property
    def slack(self) -> float:
        """Pixels that what is found may stick out of the core and still count.

        Nothing is cut at the border of content on a canvas, which only an edge makes a core of: all
        that touches it counts. Anywhere else what is cut could have been anything.
        """
        return inf if self.mode in ("canvas", "masked_canvas") and not self.edge else 0.0

    def indices(self, group: ShiftSet) -> list[int]:
        """The numbers of a set's shifts among all."""
        return [self.shifts.index(shift) for shift in group.shifts]

    @cached_property
    def frame(self) -> Frame:
        """Canvases are larger by a whole number of divisors, so that strides fit the origin."""
        if self.mode == "roll":
            return Frame("roll")
        largest = self._largest
        return Frame(self.mode, largest if self.mode == "window" else _up(largest, self.divisor))

    def scene(self, height: int, width: int) -> Scene:
        """Of a picture that is `height` x `width` after the test pipeline's resizing.

        Raises:
            ValueError: it is smaller than the range of shifts, or no pixel is left in the core.
        """
        margin = self.frame.margin
        if self.mode in ("canvas", "masked_canvas"):
            return self._on_canvas(height, width)
        view = tuple((side - 2 * margin) // self.divisor * self.divisor for side in (height, width))
        if min(view) < self.divisor:
            raise ValueError(
                f"a picture of {height} x {width} pixels is smaller than the range of shifts, "
                f"{margin} pixels on all sides, and one period of {self.divisor}: use "
                "--mode canvas, or less with --max-shift"
            )
        content = (-margin, -margin, height - margin, width - margin)
        try:
            core = self.frame.core(*view, self.shifts, self.edge)
        except ValueError as error:
            raise ValueError(
                f"{error}: use --mode canvas, or less with --max-shift or --edge"
            ) from error
        return Scene(view, content, core)

    def _on_canvas(self, height: int, width: int) -> Scene:
        margin, edge = self.frame.margin, self.edge
        view = tuple(_up(side, self.divisor) + 2 * margin for side in (height, width))
        content = (margin, margin, margin + height, margin + width)
        core = (margin + edge, margin + edge, margin + height - edge, margin + width - edge)
        if edge >= min(height, width) - edge:
            raise ValueError(
                f"no pixel of {height} x {width} is {edge} off the edge: use less with --edge"
            )
        if self.fill == "reflect":
            for side, whole in zip((height, width), view, strict=True):
                if whole - margin - side + self._largest >= side:
                    raise ValueError(
                        f"a picture of {height} x {width} pixels has no reflection for shifts of "
                        f"{self._largest} pixels: use --fill mean, or less with --max-shift"
                    )
        return Scene(view, content, core)

    @property
    def _largest(self) -> int:
        return int(max(abs(part) for shift in self.shifts for part in shift))

    @property
    def fits_all(self) -> bool:
        """Whether pictures of every size have these views."""
        return self.mode == "canvas" and self.fill == "mean" and not self.edge

    def check(self, height: int, width: int) -> None:
        """Refuse a picture that these are no views of.

        Raises:
            ValueError: see `scene`.
        """
        self.scene(height, width)

    def prepared(self, picture: Picture) -> Picture:
        """As it is: shifts are of what the test pipeline gives."""
        return picture

    def looks(self, picture: Picture, mean: Tensor | None = None) -> list[View]:
        """The views of a picture, and what the host is told of them."""
        size = picture.pixels.shape[-2:]
        views, valid = self.views(picture.pixels, mean), self.valid(*size)
        scene = self.scene(*size)
        if valid is None:
            return [View(pixels, scene.view, scene.view) for pixels in views]
        # A DETR that is told of its padding finds boxes in the content alone, see padding.py.
        top, left = scene.content[:2]
        origins = [(top + int(dy), left + int(dx)) for dy, dx in [(0, 0), *self.shifts]]
        return [
            View(pixels, tuple(size), tuple(size), origin, valid=mask)
            for pixels, origin, mask in zip(views, origins, valid, strict=True)
        ]

    def views(self, picture: Tensor, mean: Tensor | None = None) -> list[Tensor]:
        """[C, h, w] as the network sees it: the reference, then one for each shift.

        Args:
            picture: after the test pipeline's resizing.
            mean: what canvases are filled with, [C]; 0 without.
        """
        scene = self.scene(*picture.shape[-2:])
        shifts = [(0, 0), *self.shifts]
        # Pictures come in bytes, which neither the mean nor fractions of a pixel fit in.
        picture = picture.to(torch.promote_types(picture.dtype, torch.float32))
        if self.fill == "reflect":
            return [self._reflected(picture, scene.view, shift) for shift in shifts]
        if self.mode in ("canvas", "masked_canvas"):
            mean = picture.new_zeros(len(picture)) if mean is None else mean.to(picture)
            canvas = mean[:, None, None].expand(-1, *scene.view)
            return [_pasted(picture, canvas, scene, shift) for shift in shifts]
        height, width = (side + 2 * self.frame.margin for side in scene.view)
        picture = picture[..., :height, :width]
        return [self.frame.view(picture, shift) for shift in shifts]

    def valid(self, height: int, width: int) -> list[Tensor] | None:
        """Where the content lies in each view, [H, W]; None where the mode tells nothing."""
        if self.mode != "masked_canvas":
            return None
        scene = self.scene(height, width)
        content = torch.ones(height, width, dtype=torch.bool)
        canvas = torch.zeros(scene.view, dtype=torch.bool)
        return [_pasted(content, canvas, scene, shift) for shift in [(0, 0), *self.shifts]]

    def _reflected(self, picture: Tensor, view: Size, shift: Shift) -> Tensor:
        (dy, dx), margin = (int(part) for part in shift), self.frame.margin
        top, left = margin + dy, margin + dx
        below, right = view[0] - top - picture.shape[-2], view[1] - left - picture.shape[-1]
        return F.pad(picture[None], (left, right, top, below), mode="reflect")[0]


def _pasted(picture: Tensor, canvas: Tensor, scene: Scene, shift: Shift) -> Tensor:
    top, left, bottom, right = scene.content
    dy, dx = (int(part) for part in shift)
    view = canvas.clone()
    view[..., top + dy : bottom + dy, left + dx : right + dx] = picture
    return view


def _up(value: int, divisor: int) -> int:
    return -(-value // divisor) * divisor


def select(shifts: Sequence[Shift], largest: float) -> tuple[Shift, ...]:
    """Those of at most `largest` pixels on both axes."""
    return tuple(shift for shift in shifts if max(map(abs, shift)) <= largest)
