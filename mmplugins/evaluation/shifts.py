"""Shifts of a picture on the pixel grid of the network's input, and sets of them.

A shift (dy, dx) moves content dy pixels down and dx to the right. With P the equivariance period
of a model, the least common multiple of its strides, shifts by whole periods measure what position
does, and shifts below a period what aliasing does; a set holds one kind.

https://arxiv.org/abs/1904.11486 (zhang), https://arxiv.org/abs/2210.08001 (lps),
https://arxiv.org/abs/2008.09604 (ddac), https://arxiv.org/abs/2106.12423 (eqt)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

import torch
from torch import Tensor

Shift = tuple[float, float]  # (dy, dx) in pixels
Rectangle = tuple[int, int, int, int]  # top, left, bottom, right; the last two are outside
Mode = Literal["roll", "window", "canvas", "masked_canvas"]
FRACTIONS = (0.25, 0.5, 0.75)


def whole_periods(period: int) -> list[Shift]:
    """pgrid: 1, 2, 4 and 8 periods up, down, left, right and along the diagonal."""
    directions = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1)]
    return [(y * n * period, x * n * period) for n in (1, 2, 4, 8) for y, x in directions]


def below_a_period(period: int) -> list[Shift]:
    """sub: 1, 2, 4, .. to half a period, and one pixel less than a whole, down and right."""
    sizes = {2**n for n in range(period.bit_length() - 1)} | {period - 1}
    return [shift for size in sorted(sizes - {0}) for shift in ((size, 0), (0, size))]


def fractions() -> list[Shift]:
    """frac: a quarter, half and three quarters of a pixel, down and right."""
    return [shift for size in FRACTIONS for shift in ((size, 0.0), (0.0, size))]


def four_directions() -> list[Shift]:
    """ddac: 1, 2, 5, 10 and 20 pixels in four directions."""
    directions = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    return [(y * size, x * size) for size in (1, 2, 5, 10, 20) for y, x in directions]


def drawn(low: int, high: int, *, count: int, seed: int) -> list[Shift]:
    """`count` shifts, both parts uniform from `low` to `high`, ends included."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(low, high + 1, (count, 2), generator=generator)
    return [tuple(pair) for pair in pairs.tolist()]


def shift_set(
    name: str, *, period: int, side: int = 224, count: int = 16, seed: int = 0
) -> list[Shift]:
    """The shifts of a set by its name.

    Args:
        name: pgrid, sub, frac, or a published protocol: zhang, lps, ddac, eqt.
        period: P of the model in pixels.
        side: the shorter side of the input, which eqt is a part of.
        count: of those that are drawn.
        seed: likewise.

    Raises:
        ValueError: an unknown name, or a period below one.
    """
    if period < 1:
        raise ValueError(f"a period is one pixel or more, not {period}")
    eighth = side // 8
    sets = {
        "pgrid": lambda: whole_periods(period),
        "sub": lambda: below_a_period(period),
        "frac": fractions,
        "zhang": lambda: drawn(0, 31, count=count, seed=seed),
        "lps": lambda: drawn(-32, 32, count=count, seed=seed),
        "ddac": four_directions,
        "eqt": lambda: drawn(-eighth, eighth, count=count, seed=seed),
    }
    if name not in sets:
        raise ValueError(f"unknown set of shifts `{name}`: use {', '.join(sets)}")
    return sets[name]()


def kind_of(shift: Shift, period: int) -> Literal["position", "aliasing", "mixed"]:
    """Whole periods, less than one, or both at once: what an error under `shift` is made of."""
    if all(part % period == 0 for part in shift):
        return "position"
    return "aliasing" if all(abs(part) < period for part in shift) else "mixed"


def moved(rectangle: Rectangle, shift: Shift) -> Rectangle:
    """The rectangle shifted."""
    (top, left, bottom, right), (dy, dx) = rectangle, shift
    return top + dy, left + dx, bottom + dy, right + dx


@dataclass(frozen=True)
class Frame:
    """How a picture is shifted.

    roll: around the border; fractions of a pixel by the Fourier transform, exact for all that
        waves longer than two pixels are made of.
    window: what the network sees is cut out of a picture that is larger by `margin` on all sides.
    canvas: the picture is put onto a larger canvas; masked_canvas also tells where it lies.

    Raises:
        ValueError: a negative margin, one with roll, or none without.
    """

    mode: Mode
    margin: int = 0
    fill: float = 0.0

    def __post_init__(self):
        if self.margin < 0 or (self.margin > 0) == (self.mode == "roll"):
            raise ValueError(f"mode {self.mode} with a margin of {self.margin} pixels")

    @property
    def origin(self) -> int:
        """Where the first pixel of the content lies in the reference view, on both axes."""
        return 0 if self.mode in ("roll", "window") else self.margin

    def view(self, picture: Tensor, shift: Shift = (0, 0)) -> Tensor:
        """[.., H, W] as the network sees it: pictures, label maps and masks alike, exactly.

        Raises:
            ValueError: a shift beyond the margin, a fraction of a pixel in another mode than roll,
                or a picture smaller than the range of shifts.
        """
        if self.mode == "roll":
            return _roll(picture, shift)
        (dy, dx), margin = self._whole(shift), self.margin
        height, width = picture.shape[-2:]
        if self.mode == "window":
            if min(height, width) <= 2 * margin:
                raise ValueError(
                    f"a picture of {height} x {width} pixels is smaller than the range of shifts, "
                    f"{margin} pixels on all sides"
                )
            top, left = margin - dy, margin - dx
            return picture[..., top : top + height - 2 * margin, left : left + width - 2 * margin]
        size = *picture.shape[:-2], height + 2 * margin, width + 2 * margin
        canvas = picture.new_full(size, self.fill)
        top, left = margin + dy, margin + dx
        canvas[..., top : top + height, left : left + width] = picture
        return canvas

    def valid(self, picture: Tensor, shift: Shift = (0, 0)) -> Tensor | None:
        """Where the content lies, [H, W] of the view; None where the mode tells nothing."""
        if self.mode != "masked_canvas":
            return None
        ones = torch.ones(picture.shape[-2:], dtype=torch.bool, device=picture.device)
        return Frame("masked_canvas", self.margin).view(ones, shift)

    def core(self, height: int, width: int, shifts: Sequence[Shift], edge: int = 0) -> Rectangle:
        """The pixels of the reference view, `height` x `width`, that every shift keeps in sight.

        Args:
            height: of the view.
            width: of the view.
            shifts: all of them.
            edge: pixels to leave out along the border of the core.

        Raises:
            ValueError: no pixel is left.
        """
        if self.mode in ("canvas", "masked_canvas"):
            sides = [(self.margin, side - self.margin) for side in (height, width)]
        elif self.mode == "roll":
            sides = [(0, height), (0, width)]
        else:
            # A fraction of a pixel in sight is none.
            sides = [
                (max(0, -floor(min(parts))), side - max(0, ceil(max(parts))))
                for side, parts in zip((height, width), zip(*shifts, strict=True), strict=True)
            ]
        (top, bottom), (left, right) = ((low + edge, high - edge) for low, high in sides)
        if top >= bottom or left >= right:
            raise ValueError(
                f"no pixel of {height} x {width} is in sight under all shifts, {edge} off the edge"
            )
        return top, left, bottom, right

    def _whole(self, shift: Shift) -> tuple[int, int]:
        if any(part != int(part) for part in shift):
            raise ValueError(f"shift {shift}: only mode roll knows fractions of a pixel")
        if any(abs(part) > self.margin for part in shift):
            raise ValueError(f"shift {shift} is beyond the margin of {self.margin} pixels")
        return int(shift[0]), int(shift[1])


def _roll(picture: Tensor, shift: Shift) -> Tensor:
    """Around the border; fractions turn the phase of every wave."""
    if all(part == int(part) for part in shift):
        return picture.roll((int(shift[0]), int(shift[1])), dims=(-2, -1))
    height, width = picture.shape[-2:]
    y, x = (
        torch.fft.fftfreq(n, dtype=picture.dtype, device=picture.device) for n in (height, width)
    )
    turns = y[:, None] * shift[0] + x[None, :] * shift[1]
    waves = torch.fft.fft2(picture) * torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    return torch.fft.ifft2(waves).real
