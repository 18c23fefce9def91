"""What the errors of features add up from: sums of one image, level and shift.

With mu the mean features of a level over calibration images, A and B as in `errors`, of the cells
that are at least b cells off the border of what both views show, b = 0 .. 4:

    cells, difference = sum |A - B|^2, spread = 1/2 sum (|A - mu|^2 + |B - mu|^2), and
    null = sum |A|^2 + sum |B|^2 - 2 (sum A)(sum B) / cells

the mean of |A - B|^2 over all permutations of B. At most `CELLS` cells, drawn at random, stand for
a level; retrieval asks for `QUERIES` of them among all of these, one cell off the border.

A shift that is no whole number of cells leaves no cell of B to compare with: both maps are then
interpolated bilinearly at pixels. Such sums are `resampled`, an error of other kind, without
retrieval, and never to be averaged with exact ones.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mmplugins.evaluation.shifts import Rectangle, Shift

CELLS, QUERIES = 512, 128
BORDERS = 5  # 0 .. 4 cells
BORDER = 1  # of the errors that are reported
FIELDS = ("cells", "difference", "spread", "null", "found", "asked", "resampled")


@dataclass(frozen=True, eq=False)
class Places:
    """Where two maps of one stride are compared.

    Attributes:
        y: cells of the reference, or pixels where the shift is no whole number of cells.
        x: likewise.
        border: how many cells each is off the border of what both views show.
        stride: pixels of a cell.
        exact: whether they are cells.
    """

    y: Int[Tensor, " n"]
    x: Int[Tensor, " n"]
    border: Int[Tensor, " n"]
    stride: int
    exact: bool

    @classmethod
    def drawn(
        cls, shared: Rectangle, stride: int, *, exact: bool, device: torch.device | None = None
    ) -> "Places":
        """All, or `CELLS` of them at random, always the same, within a rectangle of pixels."""
        if exact:
            low, high = (-(-side // stride) for side in shared[:2]), shared[2:]
            high, unit = (side // stride for side in high), 1
        else:
            # Half a cell within: beyond the middle of the last cell there is nothing to see.
            half, unit = -(-stride // 2), stride
            low, high = (side + half for side in shared[:2]), (side - half for side in shared[2:])
        (top, left), (bottom, right) = low, high
        rows, columns = torch.arange(top, max(top, bottom)), torch.arange(left, max(left, right))
        y, x = (each.flatten() for each in torch.meshgrid(rows, columns, indexing="ij"))
        chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:CELLS]
        y, x = y[chosen], x[chosen]
        border = torch.stack([y - top, bottom - 1 - y, x - left, right - 1 - x]).amin(0) // unit
        return cls(*(each.to(device) for each in (y, x, border)), stride, exact)


def features_at(
    level: Float[Tensor, "C h w"], places: Places, shift: Shift, roll: bool
) -> Float[Tensor, "n C"]:
    """Of a view moved by `shift`, what lies at `places` of the reference."""
    if not places.exact:
        return _between(level, places.y + shift[0], places.x + shift[1], places.stride, roll).T
    (height, width), (down, right) = level.shape[1:], (int(s) // places.stride for s in shift)
    y, x = places.y + down, places.x + right
    cell = (y % height) * width + x % width if roll else y * width + x
    return level.flatten(1).index_select(1, cell).T


def pair_sums(
    a: Float[Tensor, "n C"], b: Float[Tensor, "n C"], places: Places, mean: Float[Tensor, " C"]
) -> Float[np.ndarray, "borders fields"]:
    """The sums of one level and shift, for each border; zeros where no cell is shared."""
    if not len(a):
        return np.zeros((BORDERS, len(FIELDS)))
    a, b = (each.to(mean.dtype) - mean for each in (a, b))
    sums = _sums(a, b, places.border)
    inside = places.border >= BORDER
    if places.exact and inside.any():
        sums[BORDER, 4:6] = _retrieved(a[inside], b[inside])
    sums[:, 6] = not places.exact
    return sums


def _sums(
    a: Float[Tensor, "n C"], b: Float[Tensor, "n C"], border: Int[Tensor, " n"]
) -> Float[np.ndarray, "borders fields"]:
    """cells, difference, spread and null of the cells off each border; of centred features."""
    rows = torch.arange(BORDERS, device=a.device)
    inside = (border[None] >= rows[:, None]).to(a.dtype)
    squares = a.square().sum(1), b.square().sum(1)
    each = torch.stack([torch.ones_like(squares[0]), (a - b).square().sum(1), *squares], dim=1)
    cells, difference, of_a, of_b = (inside @ each).double().unbind(1)
    product = ((inside @ a).double() * (inside @ b).double()).sum(1)
    null = of_a + of_b - 2 * product / cells.clamp(min=1)
    nothing = torch.zeros_like(cells)
    sums = (cells, difference, (of_a + of_b) / 2, null, nothing, nothing, nothing)
    return torch.stack(sums, dim=1).cpu().numpy()


def _retrieved(a: Float[Tensor, "n C"], b: Float[Tensor, "n C"]) -> tuple[int, int]:
    """How many of B are nearest, by the cosine, to themselves among A; and how many were asked."""
    count = min(len(a), QUERIES)
    nearest = (b[:count] @ F.normalize(a, dim=1).T).argmax(1)
    return int((nearest == torch.arange(count, device=a.device)).sum()), count


def _between(
    each: Float[Tensor, "C h w"], y: Tensor, x: Tensor, stride: int, roll: bool
) -> Float[Tensor, "C n"]:
    """The map at the middle of pixels, interpolated bilinearly, across the border of a rolled."""
    # In half precision, places would be rounded by pixels.
    each = each.to(torch.promote_types(each.dtype, torch.float32))
    height, width = (side * stride for side in each.shape[1:])
    if roll:
        y, x = y % height, x % width
    each = F.pad(each[None], (1, 1, 1, 1), mode="circular" if roll else "replicate")
    y, x = (
        (2 * (pixel + stride) + 1) / (side + 2 * stride) - 1
        for pixel, side in ((y, height), (x, width))
    )
    places = torch.stack([x, y], dim=-1)[None, None].to(each.dtype)
    return F.grid_sample(each, places, align_corners=False)[0, :, 0]
