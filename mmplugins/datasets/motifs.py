"""The six motifs: what is drawn together, and between which two outcomes a coin decides.

A motif gives two alternatives on the same spots. A scene first finds room for *both*, then throws
a fair coin: layout and class are independent, whatever the layout. All displacements inside a
motif are multiples of `CELL`, so that with patches of 16, 8 or 4 pixels both alternatives cut into
exactly the same patches, in another order. Where the classes must not be told apart from inside a
box, at least `REACH` pixels lie between the parts: a RoI head sees no neighbour there.
"""

from collections.abc import Callable

import numpy as np

from mmplugins.datasets.parts import Part

CELL = 16  # pixels
REACH = 24  # pixels

Alternatives = tuple[list[Part], list[Part]]
Motif = Callable[[np.random.Generator, int, int], Alternatives]


def new_seed(rng: np.random.Generator) -> int:
    """Seed of a part's grain."""
    return int(rng.integers(2**32))


def even(rng: np.random.Generator, low: int, high: int) -> int:
    """An even size in [low, high], so that a part's box is centred on a pixel corner."""
    return 2 * int(rng.integers(low // 2, high // 2 + 1))


def appearance(rng: np.random.Generator, height: int, width: int) -> Alternatives:
    """A striped disk or a checked triangle of any of COCO's three sizes."""
    size = 2 * round(np.exp(rng.uniform(np.log(24), np.log(128))) / 2)
    seed = new_seed(rng)
    disk, triangle = (
        Part(name, 0, 0, size, seed, category=name) for name in ("striped_disk", "checked_triangle")
    )
    return [disk], [triangle]


def crowd(rng: np.random.Generator, height: int, width: int) -> Alternatives:
    """A heap of small disks or of small triangles, annotated as one crowd."""
    spots = rng.integers(-24, 25, (int(rng.integers(8, 15)), 2)) * (1, 2)
    sizes, seeds = 2 * rng.integers(6, 9, len(spots)), rng.integers(2**32, size=len(spots))
    return tuple(
        [
            Part(name, int(y), int(x), int(size), int(seed), category=name, crowd=True)
            for (y, x), size, seed in zip(spots, sizes, seeds, strict=True)
        ]
        for name in ("striped_disk", "checked_triangle")
    )


def target_and_marker(rng: np.random.Generator, relation: str) -> tuple[Part, Part]:
    """A hexagon and the diamond of its colour, both centred on 0."""
    size = even(rng, 28, 36)
    return (
        Part(f"{relation}_target", 0, 0, size, new_seed(rng)),
        Part(f"{relation}_marker", 0, 0, size - 8, new_seed(rng)),
    )


def swapped(rng: np.random.Generator, relation: str, step: tuple[int, int], names) -> Alternatives:
    """The hexagon at 0 and the diamond at `step`, or the other way round."""
    target, marker = target_and_marker(rng, relation)
    return (
        [target._replace(category=names[0]), marker.moved(*step)],
        [target._replace(category=names[1]).moved(*step), marker],
    )


def vertical(rng: np.random.Generator, height: int, width: int) -> Alternatives:
    """A blue hexagon above or below its diamond, up to one cell aside."""
    step = (CELL * int(rng.integers(4, 6)), CELL * int(rng.integers(-1, 2)))
    return swapped(rng, "vertical", step, ("hexagon_above", "hexagon_below"))


def horizontal(rng: np.random.Generator, height: int, width: int) -> Alternatives:
    """A red hexagon left or right of its diamond, up to one cell higher or lower."""
    step = (CELL * int(rng.integers(-1, 2)), CELL * int(rng.integers(4, 6)))
    return swapped(rng, "horizontal", step, ("hexagon_left", "hexagon_right"))


def distance(rng: np.random.Generator, height: int, width: int) -> Alternatives:
    """A yellow hexagon with its diamond 4 or 7 cells away, in one of four directions."""
    target, marker = target_and_marker(rng, "distance")
    direction = [(-1, 0), (1, 0), (0, -1), (0, 1)][int(rng.integers(4))]
    near, far = ([cells * CELL * axis for axis in direction] for cells in (4, 7))
    return (
        [target._replace(category="hexagon_near"), marker.moved(*near)],
        [target._replace(category="hexagon_far"), marker.moved(*far)],
    )


def location(rng: np.random.Generator, height: int, width: int) -> Alternatives:
    """The same star in the left half of the frame, or as many cells to the right."""
    star = Part("star", 0, 0, even(rng, 32, 48), new_seed(rng))
    # Both outcomes must fit into the frame, which puts them on either side of its middle.
    half = width // 2 // CELL * CELL
    return (
        [star._replace(category="star_left")],
        [star._replace(category="star_right").moved(0, half)],
    )


def repetition(rng: np.random.Generator, height: int, width: int) -> Alternatives:
    """Identical crosses: a pair, and apart from it a row or column of three or a grid of four.

    Both are in every such scene, so that what is in it tells nothing, and no coin is needed.
    """
    pitch = 3 * CELL
    item = Part("cross", 0, 0, 24, new_seed(rng))
    pair = [(0, 0), [(0, pitch), (pitch, 0)][int(rng.integers(2))]]
    array = [
        [(0, 0), (0, pitch), (0, 2 * pitch)],
        [(0, 0), (pitch, 0), (2 * pitch, 0)],
        [(0, 0), (0, pitch), (pitch, 0), (pitch, pitch)],
    ][int(rng.integers(3))]
    pair = np.add(pair, far_offset(rng, pair, array, (height - item.size, width - item.size)))
    parts = [
        item._replace(category=category).moved(int(y), int(x))
        for category, spots in (("cross_in_pair", pair), ("cross_in_array", array))
        for y, x in spots
    ]
    return parts, parts


def far_offset(rng: np.random.Generator, pair, array, room: tuple[int, int]) -> np.ndarray:
    """Where to put `pair`: 5 to 8 cells from all of `array`, spanning no more than `room`."""
    rows, columns = np.mgrid[-12:13, -12:13] * CELL
    offsets = np.stack([rows, columns], axis=-1).reshape(-1, 1, 1, 2)
    moved = np.asarray(pair)[:, None] + offsets  # (offset, pair, 1, 2)
    gap = np.abs(moved - np.asarray(array)).max(axis=-1).min(axis=(1, 2))
    span = np.maximum(moved.max(axis=1), np.max(array, axis=0)) - np.minimum(
        moved.min(axis=1), np.min(array, axis=0)
    )
    fits = (gap >= 5 * CELL) & (gap <= 8 * CELL) & (span <= room).all(axis=(1, 2))
    return rng.choice(offsets[fits].reshape(-1, 2))


# Of these a scene holds at most one each: a hexagon has one diamond of its colour to refer to.
RELATIONAL: tuple[Motif, ...] = (vertical, horizontal, distance, location, repetition)
