"""Equivariance errors of feature maps, and what they are worth beside chance.

For a level of stride s, A = F(x)[p] and B = F(T x)[p + shift / s] at the cells p that both views
hold, mu the mean of A over all of them and all images:
    FEE    = sqrt(sum |A - B|^2 / (1/2 sum (|A - mu|^2 + |B - mu|^2)))       0 exact, sqrt(2) chance
    FES    = 1 - FEE^2 / FEE_null^2, with B at permuted cells of its image    1 exact, 0 chance
             (the mean of |A - B|^2 over all permutations of n cells:
              sum |A|^2 + sum |B|^2 - 2 (sum A)(sum B) / n)
    RET@1  = share of cells whose nearest by cos(B - mu, A - mu) is themselves
    EQ-dB  = -20 log10 FEE
Features have large means: uncentred, relative errors and cosines look good at chance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.evaluation.shifts import Frame, Shift

Pairs = tuple[Float[Tensor, "_ C"], Float[Tensor, "_ C"]]  # the same number of cells


def corresponding(
    reference: Float[Tensor, "C h w"],
    shifted: Float[Tensor, "C h w"],
    shift: Shift,
    *,
    stride: int,
    frame: Frame,
    border: int = 0,
) -> Pairs:
    """(A, B): the cells of both maps that show the same content.

    Args:
        reference: features of the reference view.
        shifted: features of the shifted view.
        shift: in pixels.
        stride: pixels of a cell.
        frame: how the picture was shifted.
        border: cells to leave out along the border of what both show.

    Raises:
        ValueError: a shift, or the margin of a canvas, that is no whole number of cells (only a
            rolled map of stride 1 may be shifted by a fraction), or no cell in common.
    """
    fraction = frame.mode == "roll" and stride == 1
    if not fraction and any(part % stride for part in shift):
        raise ValueError(f"shift {shift} is no multiple of the stride of {stride} pixels")
    if frame.origin % stride:
        raise ValueError(f"margin {frame.margin} is no multiple of the stride of {stride} pixels")
    height, width = reference.shape[1:]
    if frame.mode == "roll":
        shifted = frame.view(shifted, tuple(-part / stride for part in shift))
        top, left, bottom, right = border, border, height - border, width - border
        dy = dx = 0
    else:
        dy, dx = (int(part) // stride for part in shift)
        core = frame.core(height * stride, width * stride, [(0, 0), shift])
        top, left = (-(-side // stride) + border for side in core[:2])
        bottom, right = (side // stride - border for side in core[2:])
    if top >= bottom or left >= right:
        raise ValueError(f"no cell of {height} x {width} is {border} off the border in both views")
    a = reference[:, top:bottom, left:right]
    b = shifted[:, top + dy : bottom + dy, left + dx : right + dx]
    return a.flatten(1).T, b.flatten(1).T


@dataclass(frozen=True)
class FeatureError:
    """Sums over cells of all images, from which the errors follow.

    Attributes:
        difference: of |A - B|^2.
        spread: of 1/2 (|A - mu|^2 + |B - mu|^2).
        null: of |A - B|^2 with B permuted within its image, the mean of all permutations.
        found: cells that find themselves.
        cells: all cells.
    """

    difference: float
    spread: float
    null: float
    found: int
    cells: int

    @property
    def fee(self) -> float:
        """Relative error; NaN for features that are all alike."""
        return math.sqrt(self.difference / self.spread) if self.spread else math.nan

    @property
    def fes(self) -> float:
        """Skill beside chance."""
        return 1 - self.difference / self.null if self.null else math.nan

    @property
    def ret1(self) -> float:
        """Share of cells that find themselves; chance is one in the cells of an image."""
        return self.found / self.cells

    @property
    def eq_db(self) -> float:
        """The error as a level."""
        return -20 * math.log10(self.fee) if self.fee else math.inf


def feature_error(images: Sequence[Pairs]) -> FeatureError:
    """The errors of a level over `images`, each (A, B) as `corresponding` gives them.

    Args:
        images: the pairs of each image.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("no images: nothing to measure")
    mean = torch.cat([a for a, _ in images]).mean(0)
    difference = spread = null = 0.0
    found = cells = 0
    for a, b in images:
        difference += _square(a - b)
        spread += 0.5 * (_square(a - mean) + _square(b - mean))
        # Centred first, so that little is lost where means are large.
        null += _square(a - mean) + _square(b - mean)
        null -= 2 * ((a - mean).double().sum(0) @ (b - mean).double().sum(0)).item() / len(a)
        found += _found(a - mean, b - mean)
        cells += len(a)
    return FeatureError(difference, spread, null, found, cells)


def _square(x: Tensor) -> float:
    return x.double().square().sum().item()


def _found(a: Float[Tensor, "n C"], b: Float[Tensor, "n C"]) -> int:
    """How many cells of B are nearest to themselves among those of A."""
    a, b = (torch.nn.functional.normalize(t, dim=1) for t in (a, b))
    nearest = (b @ a.T).argmax(1)
    return int((nearest == torch.arange(len(a), device=a.device)).sum())
