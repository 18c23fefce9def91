"""Segmentation under shifts: sums of one image and one shift, from which means are formed.

A shift T by (dy, dx) pixels moves content down and right, so what the reference map y says at p,
the shifted map y_T says at p + (dy, dx). Both are compared over the core, the half-open rectangle
(top, left, bottom, right) of the reference's frame that every shift leaves in view; O are those
pixels of it that count, where the truth is not the label to ignore (255).

    mASSC        mean over images of  #{p in O: y(p) = y_T(p + shift)} / |O|
    mASSC-in/-bd the same outside / inside of the band around the borders of the reference map
    self-mIoU    mean over classes of intersection / union of y and y_T, each summed over images
    mIoU         the same for y_T and the ground truth
    TV           mean over images of  sum_O 1/2 |q - q_T|_1 / |O|,  q the softmax over classes
    flip map     Phi(p) = share of images and shifts that flip the label at place p of the frame

mASSC: https://arxiv.org/abs/2008.09604, its circular variant https://arxiv.org/abs/2305.16316. A
constant map scores mASSC 1 at every shift, and labels shuffled over pixels about the sum of squared
class frequencies: read it beside mIoU. Departures: nothing is resampled or padded, and a core that
a shift moves out of view is an error, not a margin of zeros that always agree.

With `circular`, images are rolled: nothing leaves, maps and bands wrap around, the core may be all.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped
from scipy import ndimage

from mmplugins.evaluation.shifts import Rectangle, Shift
from mmplugins.evaluation.statistics.resampling import divide


@dataclass(frozen=True)
class Sums:
    """What the counted pixels of one image add up to, and how many they are."""

    total: float
    count: int


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Pixels of each class that two label maps of one image share, and that either has."""

    intersection: Integer[np.ndarray, " C"]
    union: Integer[np.ndarray, " C"]


@dataclass(frozen=True, eq=False)
class Consistency:
    """How far two label maps of one image agree: everywhere, off the band, in it, by class."""

    everywhere: Sums
    interior: Sums
    boundary: Sums
    classes: ClassCounts


def cut(array: Shaped[np.ndarray, "*C H W"], core: Rectangle) -> Shaped[np.ndarray, "*C h w"]:
    """A rectangle of maps, which must lie within them."""
    top, left, bottom, right = core
    height, width = array.shape[-2:]
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"core {core} is empty or leaves the map of {height} x {width} pixels")
    return array[..., top:bottom, left:right]


def overlap(
    reference: Shaped[np.ndarray, "*C H W"],
    shifted: Shaped[np.ndarray, "*C H2 W2"],
    shift: Shift,
    core: Rectangle,
    *,
    circular: bool = False,
) -> tuple[Shaped[np.ndarray, "*C h w"], Shaped[np.ndarray, "*C h w"]]:
    """The core of the reference map, and the same content of the shifted one."""
    if any(step != int(step) for step in shift):
        raise ValueError(f"shift {shift} is not of whole pixels: nothing is resampled here")
    dy, dx = (int(step) for step in shift)
    if circular:
        if reference.shape != shifted.shape:
            raise ValueError(f"rolled maps of different sizes: {reference.shape}, {shifted.shape}")
        return cut(reference, core), cut(np.roll(shifted, (-dy, -dx), axis=(-2, -1)), core)
    top, left, bottom, right = core
    try:
        return cut(reference, core), cut(shifted, (top + dy, left + dx, bottom + dy, right + dx))
    except ValueError as error:
        raise ValueError(f"core {core} under shift {(dy, dx)}: {error}") from None


def boundary_band(
    labels: Integer[np.ndarray, "H W"], *, radius: int = 4, circular: bool = False
) -> Bool[np.ndarray, "H W"]:
    """Pixels less than `radius` from one with a differently labelled neighbour (of four).

    So a straight border has `radius` pixels of band on each side. Taken from the whole map, before
    the core is cut, since a border just outside the core has its band inside.
    """
    if radius < 1:
        raise ValueError(f"radius={radius}: a band is at least 1 pixel wide on each side")
    border = radius if circular else 0
    padded = np.pad(labels, border, mode="wrap") if circular else labels
    edges = np.zeros(padded.shape, dtype=bool)
    vertical, horizontal = padded[1:] != padded[:-1], padded[:, 1:] != padded[:, :-1]
    edges[1:] |= vertical
    edges[:-1] |= vertical
    edges[:, 1:] |= horizontal
    edges[:, :-1] |= horizontal
    y, x = np.ogrid[1 - radius : radius, 1 - radius : radius]
    band = ndimage.binary_dilation(edges, y**2 + x**2 < radius**2)
    height, width = labels.shape
    return band[border : border + height, border : border + width]


def agreement(
    first: Integer[np.ndarray, "h w"],
    second: Integer[np.ndarray, "h w"],
    counted: Bool[np.ndarray, "h w"],
) -> Sums:
    """Counted pixels with the same label in both maps."""
    return Sums(int(np.count_nonzero((first == second) & counted)), int(np.count_nonzero(counted)))


def class_counts(
    first: Integer[np.ndarray, "h w"],
    second: Integer[np.ndarray, "h w"],
    counted: Bool[np.ndarray, "h w"],
    *,
    num_classes: int,
) -> ClassCounts:
    """Intersection and union of each class of two label maps, or of labels and ground truth."""
    first, second = first[counted], second[counted]
    for labels in (first, second):
        if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(
                f"labels {labels.min()} to {labels.max()} among the counted pixels: "
                f"not all of the {num_classes} classes 0 to {num_classes - 1}"
            )
    shared, of_first, of_second = (
        np.bincount(labels, minlength=num_classes)
        for labels in (first[first == second], first, second)
    )
    return ClassCounts(shared, of_first + of_second - shared)


def consistency(
    reference: Integer[np.ndarray, "h w"],
    shifted: Integer[np.ndarray, "h w"],
    counted: Bool[np.ndarray, "h w"],
    band: Bool[np.ndarray, "h w"],
    *,
    num_classes: int,
) -> Consistency:
    """Compare both maps, cut by `overlap`; `counted` and `band` are cut to the core likewise."""
    return Consistency(
        everywhere=agreement(reference, shifted, counted),
        interior=agreement(reference, shifted, counted & ~band),
        boundary=agreement(reference, shifted, counted & band),
        classes=class_counts(reference, shifted, counted, num_classes=num_classes),
    )


def total_variation(
    reference: Float[np.ndarray, "C h w"],
    shifted: Float[np.ndarray, "C h w"],
    counted: Bool[np.ndarray, "h w"],
) -> Sums:
    """Half the L1 distance of two distributions over classes, summed over counted pixels."""
    for probabilities in (reference, shifted):
        mass = probabilities.sum(0, dtype=np.float64)[counted]
        if not np.allclose(mass, 1, atol=1e-2):  # half precision, summed over many classes
            raise ValueError("no softmax over classes: values at a pixel do not sum to 1")
    # class by class: a map of ADE20K in float64 would be hundreds of megabytes
    distance = np.zeros(counted.shape)
    for ours, theirs in zip(reference, shifted, strict=True):
        distance += np.abs(np.subtract(ours, theirs, dtype=np.float64))
    return Sums(float(distance[counted].sum()) / 2, int(np.count_nonzero(counted)))


class FlipMap:
    """Flips and visits at each place of the reference's frame, over images and shifts.

    Both arrays add up: maps filled by several processes are merged by summing them.
    """

    def __init__(self, height: int, width: int) -> None:
        self.flips = np.zeros((height, width), dtype=np.int64)
        self.visits = np.zeros((height, width), dtype=np.int64)

    def add(
        self,
        reference: Integer[np.ndarray, "h w"],
        shifted: Integer[np.ndarray, "h w"],
        counted: Bool[np.ndarray, "h w"],
        core: Rectangle,
    ) -> None:
        """Count one image at one shift, as cut by `overlap` with the same core."""
        flips, visits = cut(self.flips, core), cut(self.visits, core)
        if not flips.shape == reference.shape == shifted.shape == counted.shape:
            raise ValueError(
                f"core {core} is of {flips.shape} pixels; maps are of "
                f"{reference.shape}, {shifted.shape} and {counted.shape}"
            )
        flips += (reference != shifted) & counted
        visits += counted

    def mean(self) -> Float[np.ndarray, "H W"]:
        """The share of visits that flip; NaN where nothing was counted."""
        return divide(self.flips, self.visits)
