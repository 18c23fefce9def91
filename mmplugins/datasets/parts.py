"""What scenes are made of: textured shapes that look the same wherever they are drawn.

A part's outline and texture are functions of the offset from its centre alone, in pixels, so that
moving a part by whole pixels moves its picture unchanged: no part betrays where it is.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle


class Look(NamedTuple):
    """How a part looks: outline (unit size, around 0), texture, and the two colours it mixes."""

    outline: np.ndarray
    texture: Callable[[np.ndarray, np.ndarray], np.ndarray]
    light: tuple[int, int, int]
    dark: tuple[int, int, int]


class Part(NamedTuple):
    """One shape in a scene: centre (pixels, height before width), side of its box, and class.

    `category` is None for what belongs to no class, as the diamonds that hexagons refer to.
    `seed` draws brightness and grain: parts with equal seeds are equal to the pixel.
    """

    look: str
    y: int
    x: int
    size: int
    seed: int
    category: str | None = None
    crowd: bool = False

    def moved(self, dy: int, dx: int) -> "Part":
        """The same part elsewhere."""
        return self._replace(y=self.y + dy, x=self.x + dx)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right; the last two are excluded."""
        half = self.size // 2
        return self.y - half, self.x - half, self.y + half, self.x + half


def regular(corners: int, start: float = 0.0, inner: float = 1.0) -> np.ndarray:
    """Polygon (n, 2) of diameter 1; `inner` < 1 pulls every second corner in, as in a star."""
    angle = start + 2 * np.pi * np.arange(corners) / corners
    radius = np.where(np.arange(corners) % 2, 0.5 * inner, 0.5)
    return np.stack([-radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def cross(arm: float = 0.36) -> np.ndarray:
    """A plus sign (12, 2) whose arms are `arm` wide."""
    a = arm / 2
    corner = np.array([[-0.5, -a], [-0.5, a], [-a, a]])  # (y, x), clockwise from the top arm
    turn = np.array([[0, -1], [1, 0]])  # (y, x) -> (x, -y)
    return np.concatenate([corner @ np.linalg.matrix_power(turn, k) for k in range(4)])


def stripes(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Vertical stripes, 5 pixels wide."""
    return (x // 5) % 2 + 0 * y


def checks(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Checks of 5 pixels."""
    return (y // 5 + x // 5) % 2


def rings(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Concentric rings, 5 pixels wide."""
    return (np.hypot(y, x) // 5) % 2


def plain(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One colour."""
    return 0 * y + 0 * x


TRIANGLE = np.array([[-0.5, 0.0], [0.5, 0.5], [0.5, -0.5]])
HEXAGON, DIAMOND = regular(6), regular(4)
BLUE, RED, YELLOW = (
    ((70, 130, 255), (10, 40, 150)),
    ((255, 70, 80), (140, 5, 30)),
    ((255, 225, 50), (150, 110, 0)),
)
LOOKS = {
    "striped_disk": Look(regular(32), stripes, (255, 150, 40), (110, 45, 0)),
    "checked_triangle": Look(TRIANGLE, checks, (90, 235, 100), (0, 90, 20)),
    "vertical_target": Look(HEXAGON, rings, *BLUE),
    "vertical_marker": Look(DIAMOND, plain, *BLUE),
    "horizontal_target": Look(HEXAGON, rings, *RED),
    "horizontal_marker": Look(DIAMOND, plain, *RED),
    "distance_target": Look(HEXAGON, rings, *YELLOW),
    "distance_marker": Look(DIAMOND, plain, *YELLOW),
    "star": Look(regular(10, inner=0.5), plain, (215, 90, 255), (90, 0, 130)),
    "cross": Look(cross(), plain, (90, 240, 240), (0, 100, 110)),
}


def outline(part: Part) -> np.ndarray:
    """The part's polygon (n, 2) in pixels, (y, x)."""
    return LOOKS[part.look].outline * part.size + (part.y, part.x)


def rasterise(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """The polygons' mask as COCO fills it, bool (height, width)."""
    flat = [polygon[:, ::-1].ravel().tolist() for polygon in polygons]
    return rle.decode(rle.merge(rle.frPyObjects(flat, height, width))).astype(bool)


def paint(canvas: np.ndarray, part: Part) -> np.ndarray:
    """Draw the part onto `canvas`, float (height, width, 3), in place; returns its mask."""
    height, width = canvas.shape[:2]
    mask = rasterise([outline(part)], height, width)
    y, x = np.nonzero(mask)
    y, x = y - part.y, x - part.x
    look, rng = LOOKS[part.look], np.random.default_rng(part.seed)
    brightness = rng.uniform(0.85, 1.1)
    grain = rng.normal(0, 8, (part.size + 2, part.size + 2, 1))
    middle = part.size // 2 + 1
    mix = look.texture(y, x)[:, None]
    colour = (1 - mix) * look.light + mix * np.asarray(look.dark)
    canvas[mask] = colour * brightness + grain[y + middle, x + middle]
    return mask
