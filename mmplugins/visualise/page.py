"""Pages of panels, placed by inches so that nothing overlaps whatever the number of panels."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from mmplugins.disk import whole
from mmplugins.engine.inputs import InputError
from mmplugins.visualise.paint import QUERY, Kind

MARGIN, LINE, GAP = 0.3, 0.18, 0.14  # inches
TICKS, LABELS = 0.3, 0.85  # inches beside the picture, and between it and the panels


@dataclass(frozen=True)
class Panel:
    """One map, or a mosaic of them: RGBA, a caption, and the patch to mark."""

    pixels: np.ndarray
    caption: str
    mark: tuple[int, int] | None = None


@dataclass(frozen=True)
class Block:
    """A picture with marked patches, and rows of panels beside it.

    Attributes:
        title: what is marked.
        marks: (y, x) of patches.
        rows: label and panels of each; None leaves a place free.
    """

    title: str
    marks: Sequence[tuple[int, int]]
    rows: Sequence[tuple[str, Sequence[Panel | None]]]


@dataclass(frozen=True)
class Scene:
    """What all blocks of a page share.

    Attributes:
        picture: RGB bytes as the model saw them.
        grid: (height, width) in patches.
        title: what was looked at, with what.
        notes: lines below it.
        kinds: the quantities, for the legend.
    """

    picture: np.ndarray
    grid: tuple[int, int]
    title: str
    notes: Sequence[str]
    kinds: Sequence[Kind]


def draw_page(
    scene: Scene, blocks: Sequence[Block], columns: Sequence[str], *, panel: float
) -> Figure:
    """All blocks, one below the other.

    Args:
        scene: what they share.
        blocks: at least one.
        columns: what the columns of panels are.
        panel: area of one panel in square inches.
    """
    height, width = _sides(scene.grid, panel)
    step = height + LINE + GAP
    rows = max(len(block.rows) for block in blocks)
    aspect = height / width
    # The picture is as high as the panels beside it, but neither tiny nor huge.
    area = min(max((rows * step - LINE - GAP) ** 2 / aspect, 6.0), max(20.0, panel))
    picture = _sides(scene.grid, area)
    first = MARGIN + TICKS + picture[1] + LABELS
    page_width = max(first + len(columns) * (width + GAP) - GAP + MARGIN, 8.0)
    title = textwrap.wrap(scene.title, int(page_width * 9.5))
    notes = [line for note in scene.notes for line in textwrap.wrap(note, int(page_width * 13))]
    header = MARGIN + LINE * (1.5 * len(title) + len(notes) + 2.2)
    heights = [
        max(step * len(block.rows), picture[0] + 2 * LINE) + 1.4 * LINE + GAP for block in blocks
    ]
    page = _Page(header + sum(heights), page_width)
    _header(page, title, notes, scene.kinds)
    for number, block in enumerate(blocks):
        top = header + sum(heights[:number])
        page.words(top, MARGIN + TICKS, block.title, fontsize=10, weight="bold")
        axes = page.axes(top + 1.4 * LINE, MARGIN + TICKS, *picture)
        draw_picture(axes, scene, block.marks)
        for column, name in enumerate(columns):
            page.words(top, first + column * (width + GAP) + width / 2, name, ha="center")
        for row, (label, panels) in enumerate(block.rows):
            y = top + 1.4 * LINE + row * step
            page.words(y + height / 2, first - 0.1, label, ha="right", va="center")
            for column, shown in enumerate(panels):
                if shown is None:
                    continue
                x = first + column * (width + GAP)
                _draw_panel(page.axes(y, x, height, width), shown)
                page.words(y + height + 0.03, x + width / 2, shown.caption, ha="center", fontsize=7)
    return page.figure


def draw_picture(axes: Axes, scene: Scene, marks: Sequence[tuple[int, int]]) -> None:
    """The picture below the lattice of its patches, which are numbered, and those marked."""
    (pixel_height, pixel_width), (height, width) = scene.picture.shape[:2], scene.grid
    side = patch_side((pixel_height, pixel_width), scene.grid)
    extent = (-0.5, pixel_width / side - 0.5, pixel_height / side - 0.5, -0.5)
    axes.imshow(scene.picture, extent=extent, aspect="auto")
    axes.hlines(np.arange(height + 1) - 0.5, -0.5, width - 0.5, color="white", lw=0.3, alpha=0.4)
    axes.vlines(np.arange(width + 1) - 0.5, -0.5, height - 0.5, color="white", lw=0.3, alpha=0.4)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(labelsize=7, length=2, pad=1.5)
    for place in marks:
        _mark(axes, place, halo=len(marks) == 1)


def patch_side(pixels: tuple[int, int], patches: tuple[int, int]) -> float:
    """Pixels of a patch's side, where the last patches may stick out of the picture.

    Where several would do, a power of two is what patch embeddings and strides are.
    """
    candidates = [
        side
        for side in range(1, max(pixels) + 1)
        if all(-(-p // side) == n for p, n in zip(pixels, patches, strict=True))
    ]
    powers = [side for side in candidates if side & (side - 1) == 0]
    return next(iter(powers + candidates), max(pixels) / max(patches))


def save(figure: Figure, path: Path) -> None:
    """As PNG, whole or not at all.

    Raises:
        InputError: `path` is a folder.
    """
    if path.is_dir():
        raise InputError(f"out: `{path}` is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        figure.savefig(part, format="png")


class _Page:
    """A figure measured in inches from its top left."""

    def __init__(self, height: float, width: float):
        self.height, self.width = height, width
        self.figure = Figure(figsize=(width, height), dpi=150, facecolor="white")

    def axes(self, top: float, left: float, height: float, width: float) -> Axes:
        bottom = 1 - (top + height) / self.height
        return self.figure.add_axes(
            (left / self.width, bottom, width / self.width, height / self.height)
        )

    def words(self, top: float, left: float, text: str, **options) -> None:
        options = {"va": "top", "fontsize": 9, **options}
        self.figure.text(left / self.width, 1 - top / self.height, text, **options)


def _header(page: _Page, title: list[str], notes: list[str], kinds: Sequence[Kind]) -> None:
    top = MARGIN
    for line in title:
        page.words(top, MARGIN, line, fontsize=12, weight="bold")
        top += 1.5 * LINE
    for line in notes:
        page.words(top, MARGIN, line)
        top += LINE
    left = MARGIN
    for kind in kinds:
        bar = page.axes(top + 0.06, left, 0.11, 0.9)
        bar.imshow(colormaps[kind.colours](np.linspace(0, 1, 128))[None], aspect="auto")
        bar.set(xticks=[], yticks=[])
        page.words(top + 0.03, left + 1.0, f"{kind.name}, {kind.meaning}")
        left += (page.width - 2 * MARGIN) / len(kinds)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.imshow(panel.pixels, interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.4, color="gray")
    if panel.mark:
        _mark(axes, panel.mark)


def _mark(axes: Axes, place: tuple[int, int], *, halo: bool = True) -> None:
    """A frame around one patch, never too small to be seen."""
    box = axes.get_position()
    points = 72 * box.width * axes.figure.get_figwidth()
    side = max(points / abs(np.diff(axes.get_xlim())[0]), 3.5 if halo else 1.5)
    effects = [withStroke(linewidth=2.2, foreground="white")] if halo else []
    axes.plot(
        *(place[1], place[0]),
        marker="s",
        markersize=side,
        fillstyle="none",
        color=QUERY,
        markeredgewidth=1.1 if halo else 0.7,
        path_effects=effects,
    )


def _sides(grid: tuple[int, int], area: float) -> tuple[float, float]:
    """Height and width of a panel of `area` with the aspect of the grid, within reason."""
    aspect = min(max(grid[0] / grid[1], 0.25), 4.0)
    return (area * aspect) ** 0.5, (area / aspect) ** 0.5
