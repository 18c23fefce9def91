"""One scene: where things lie, what hides what, its picture and its ground truth."""

from typing import NamedTuple

import numpy as np
from shapely import Polygon, box, unary_union

from mmplugins.datasets.families import SEG_CLASSES
from mmplugins.datasets.motifs import RELATIONAL, Motif, appearance, crowd
from mmplugins.datasets.parts import Part, outline, paint, rasterise

MIN_SIDE = 160  # pixels: the widest motif needs 144
EMPTY, CROWDED = 0.05, 0.08  # shares of scenes
MIN_VISIBLE = 16  # pixels an annotated object must show


class Instance(NamedTuple):
    """An object's visible part: polygons [(n, 2)] in (y, x) without holes, and their mask."""

    category: str
    polygons: list[np.ndarray]
    mask: np.ndarray
    crowd: bool


class Scene(NamedTuple):
    """Picture, uint8 (height, width, 3); objects; labels, uint8 (height, width), 0 = no class."""

    image: np.ndarray
    instances: list[Instance]
    labels: np.ndarray


def make_scene(key: list[int], height: int, width: int) -> Scene:
    """The scene of `key`, whatever else is generated before or beside it."""
    rng = np.random.default_rng(key)
    canvas = ground(rng, height, width)
    return render(rng, canvas, arrange(rng, height, width))


def arrange(rng: np.random.Generator, height: int, width: int) -> list[Part]:
    """The scene's parts from back to front."""
    if rng.random() < EMPTY:
        return []
    taken = np.zeros((height, width), bool)
    front: list[Part] = []
    for index in rng.permutation(len(RELATIONAL))[: rng.integers(2, 4)]:
        front += place(rng, RELATIONAL[index], taken, overlap=0.0)
    back: list[Part] = []
    for motif in [appearance] * int(rng.integers(1, 3)) + [crowd] * (rng.random() < CROWDED):
        back += place(rng, motif, taken, overlap=0.3)
    return back + front


def place(
    rng: np.random.Generator, motif: Motif, taken: np.ndarray, overlap: float, tries: int = 30
) -> list[Part]:
    """Find room for both alternatives of a motif, then let a fair coin choose; [] without room.

    At most the share `overlap` of the room may be `taken` already; what is used is added to it.
    """
    height, width = taken.shape
    alternatives = motif(rng, height, width)
    boxes = np.array([part.box for part in alternatives[0] + alternatives[1]])
    top, left = boxes[:, :2].min(axis=0)
    bottom, right = boxes[:, 2:].max(axis=0)
    if bottom - top > height or right - left > width:
        return []
    for _ in range(tries):
        dy = int(rng.integers(-top, height - bottom + 1))
        dx = int(rng.integers(-left, width - right + 1))
        room = np.zeros_like(taken)
        for y0, x0, y1, x1 in np.add(boxes, (dy, dx, dy, dx)):
            room[y0:y1, x0:x1] = True
        if taken[room].mean() <= overlap:
            taken |= room
            return [part.moved(dy, dx) for part in alternatives[int(rng.integers(2))]]
    return []


def ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Cluttered ground, float (height, width, 3), whose statistics are the same everywhere.

    Noise of amplitude 1/frequency on a torus under polygons whose centres reach beyond the frame:
    neither tells where in the frame a patch lies.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(rng.normal(size=(height, width, 3)), axes=(0, 1))
    spectrum /= np.maximum(frequency, 1 / max(height, width))[..., None]
    noise = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    canvas = rng.uniform(90, 150, 3) + 18 * noise / noise.std()
    for _ in range(height * width // 3000):
        polygon = scrap(rng, height, width, reach=24, size=(8, 24))
        canvas[rasterise([polygon], height, width)] += rng.normal(0, 35, 3)
    return canvas


def scrap(
    rng: np.random.Generator, height: int, width: int, reach: int, size: tuple[int, int]
) -> np.ndarray:
    """A random convex-ish polygon (n, 2) around a point up to `reach` pixels out of the frame."""
    centre = rng.uniform((-reach, -reach), (height + reach, width + reach))
    angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
    radius = rng.uniform(*size, len(angle))[:, None]
    return centre + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def bar(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A thin bar (4, 2) anywhere, which hides what it lies on."""
    centre, angle = rng.uniform((0, 0), (height, width)), rng.uniform(0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)]) * rng.uniform(20, 60)
    across = np.array([np.cos(angle), -np.sin(angle)]) * rng.uniform(2, 4)
    return centre + np.array([along + across, along - across, -along - across, across - along])


def render(rng: np.random.Generator, canvas: np.ndarray, parts: list[Part]) -> Scene:
    """Paint `parts` and two or fewer bars over the ground; what stays visible is the truth."""
    height, width = canvas.shape[:2]
    owner = np.full((height, width), -1)
    for index, part in enumerate(parts):
        owner[paint(canvas, part)] = index
    bars = [bar(rng, height, width) for _ in range(rng.integers(3))]
    for polygon in bars:
        mask = rasterise([polygon], height, width)
        canvas[mask] = rng.uniform(60, 180, 3)
        owner[mask] = len(parts)
    classes = [SEG_CLASSES.index(part.category) + 1 if part.category else 0 for part in parts]
    labels = np.array([1, *classes, 0], np.uint8)[owner + 1]
    image = canvas.round().clip(0, 255).astype(np.uint8)
    return Scene(image, instances_of(parts, bars, owner), labels)


def instances_of(parts: list[Part], bars: list[np.ndarray], owner: np.ndarray) -> list[Instance]:
    """Each object's visible polygons, and all crowd parts as one instance."""
    height, width = owner.shape
    shapes = [Polygon(outline(part)) for part in parts] + [Polygon(polygon) for polygon in bars]
    instances = []
    for index, part in enumerate(parts):
        if part.category is None or part.crowd:
            continue
        hidden = unary_union(shapes[index + 1 :])
        polygons = pieces(shapes[index].difference(hidden).intersection(box(0, 0, height, width)))
        if not polygons:
            continue
        mask = rasterise(polygons, height, width)
        if mask.sum() >= MIN_VISIBLE:
            instances.append(Instance(part.category, polygons, mask, crowd=False))
    members = [index for index, part in enumerate(parts) if part.crowd]
    mask = np.isin(owner, members)
    if mask.sum() >= MIN_VISIBLE:
        instances.append(Instance(parts[members[0]].category, [], mask, crowd=True))
    return instances


def pieces(shape) -> list[np.ndarray]:
    """A shapely area as polygons (n, 2) without holes, which COCO cannot write down."""
    if not isinstance(shape, Polygon):
        return [piece for part in getattr(shape, "geoms", []) for piece in pieces(part)]
    if shape.area < 1:
        return []
    if not shape.interiors:
        return [np.array(shape.exterior.coords)[:-1].round(2)]
    low, left, high, right = shape.bounds
    cut = shape.interiors[0].centroid.x
    halves = box(low, left, cut, right), box(cut, left, high, right)
    return [piece for half in halves for piece in pieces(shape.intersection(half))]
