"""Label maps of two views: the same content of both, borders between labels, and what they share.

A shift T by (dy, dx) pixels moves content down and right, so what the reference map y says at p,
the shifted map y_T says at p + (dy, dx). Both are compared over the core, the half-open rectangle
(top, left, bottom, right) of the reference's frame that every shift leaves in view; O are those
pixels of it that count, where the truth is not the label to ignore (255). Nothing is resampled or
padded: a core that a shift moves out of view is an error, not a margin of zeros that always agree.

With `circular`, images are rolled: nothing leaves, maps and bands wrap around, the core may be all.
"""

import numpy as np
from jaxtyping import Bool, Integer, Shaped
from scipy import ndimage

from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.shifts import Rectangle, Shift

IGNORED = 255


def whole(shift: Shift) -> bool:
    """Whether label maps can be moved by it."""
    return all(part == int(part) for part in shift)


def cut(array: Shaped[np.ndarray, "*C H W"], core: Rectangle) -> Shaped[np.ndarray, "*C h w"]:
    """A rectangle of maps, which must lie within them."""
    top, left, bottom, right = core
    height, width = array.shape[-2:]
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"core {core} is empty or leaves the map of {height} x {width} pixels")
    return array[..., top:bottom, left:right]


def visible(scene: Scene) -> Rectangle:
    """The content as far as the reference view shows it."""
    (height, width), (top, left, bottom, right) = scene.view, scene.content
    return max(top, 0), max(left, 0), min(bottom, height), min(right, width)


def counted(
    truth: Integer[np.ndarray, "H W"] | None, rectangle: Rectangle
) -> Bool[np.ndarray, "h w"]:
    """Pixels of a rectangle that count: all where nothing is known, else those not to ignore."""
    top, left, bottom, right = rectangle
    if truth is None:
        return np.ones((bottom - top, right - left), dtype=bool)
    return cut(truth, rectangle) != IGNORED


def overlap(
    reference: Shaped[np.ndarray, "*C H W"],
    shifted: Shaped[np.ndarray, "*C H2 W2"],
    shift: Shift,
    core: Rectangle,
    *,
    circular: bool = False,
) -> tuple[Shaped[np.ndarray, "*C h w"], Shaped[np.ndarray, "*C h w"]]:
    """The core of the reference map, and the same content of the shifted one."""
    if not whole(shift):
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


def class_counts(
    first: Integer[np.ndarray, "h w"],
    second: Integer[np.ndarray, "h w"],
    group: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
    *,
    num_classes: int,
    groups: int = 1,
) -> Integer[np.ndarray, "2 G C"]:
    """Intersection and union, in pixels, of each class of two label maps or a map and the truth.

    Args:
        first: one map.
        second: the other.
        group: 1 to `groups` of each pixel that counts, 0 of those that do not.
        num_classes: labels of pixels that count are less.
        groups: how many there are.
    """
    inside = group != 0
    first, second = first[inside], second[inside]
    for labels in (first, second):
        if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(
                f"labels {labels.min()} to {labels.max()} among the counted pixels: "
                f"not all of the {num_classes} classes 0 to {num_classes - 1}"
            )
    offset = (group[inside].astype(np.intp) - 1) * num_classes

    def of_each(labels: Integer[np.ndarray, " N"]) -> Integer[np.ndarray, "G C"]:
        found = np.bincount(labels, minlength=groups * num_classes)
        return found.reshape(groups, num_classes)

    shared = of_each((offset + first)[first == second])
    return np.stack([shared, of_each(offset + first) + of_each(offset + second) - shared])
