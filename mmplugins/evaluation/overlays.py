"""Predictions drawn over a picture: boxes and masks, label maps, the truth, and what has changed.

Axes are in pixels of one view, edges and not centres of pixels, as boxes are. Fates of detections
differ in dashes and marks, so that nothing hangs on colours alone; these are Okabe and Ito's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from matplotlib import patches
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, withStroke
from pycocotools import mask as coco_masks
from scipy import ndimage

from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.predictions.label_maps import IGNORED
from mmplugins.evaluation.results.figures import DPI
from mmplugins.evaluation.shifts import Rectangle

WIDTH = 980 / DPI  # inches of a picture
COLUMNS = 6  # of a legend, at most
OTHER, CHANGED = "#8a8a8a", "#D55E00"
OPACITY = 0.55  # of label maps
LEAST_ROOM = 0.07  # of the shorter side: as far from a region's border its name has to be
NAME = dict(fontsize=6, path_effects=(withStroke(linewidth=1.5, foreground="white"), Normal()))
TRUTH = dict(
    edgecolor="#F0E442",
    linewidth=0.6,
    path_effects=(withStroke(linewidth=1.4, foreground="black"), Normal()),
    gid="truth",
)
TRUE_LABELS = dict(edgecolor="white", linewidth=0.5, gid="truth")


@dataclass(frozen=True)
class Style:
    """How detections of one fate are drawn.

    Attributes:
        name: of the fate, in the legend.
        colour: of lines and marks.
        dashes: of lines.
        marker: in the middle of a box; none if empty.
        width: of lines, in points.
        bold: whether lines have a halo, and masks boxes around them.
    """

    name: str
    colour: str
    dashes: str | tuple = "-"
    marker: str = ""
    width: float = 1.2
    bold: bool = True

    @property
    def handle(self) -> Line2D:
        """Of the legend."""
        look = dict(color=self.colour, ls=self.dashes, marker=self.marker or None, mew=1.8)
        return Line2D([], [], lw=self.width, label=self.name, path_effects=self.halo, **look)

    @property
    def halo(self) -> tuple:
        """White around lines and marks, which are seen on any picture so."""
        around = withStroke(linewidth=self.width + 0.8, foreground="white")
        return (around, Normal()) if self.bold else (Normal(),)


def panels_of(frame: Rectangle, titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Side by side, each as large as there is room for a rectangle of the view."""
    top, left, bottom, right = frame
    height = WIDTH / len(titles) * (bottom - top) / (right - left)
    figure = Figure((WIDTH, min(height, WIDTH) + 0.6), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=8)
    return figure, list(panels)


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Below the panels, in rows of one length."""
    columns = -(-len(handles) // -(-len(handles) // COLUMNS)) if handles else 1
    style = dict(loc="outside lower center", frameon=False, fontsize=7, handlelength=1.8)
    figure.legend(handles=handles, ncols=columns, **style)


def draw_picture(axes: Axes, picture: UInt8[np.ndarray, "h w 3"], frame: Rectangle) -> None:
    """What lies in a rectangle of the view, and nothing beyond it."""
    axes.imshow(picture, extent=_extent(frame), interpolation="antialiased")
    _bounded(axes, frame)


def draw_detections(
    axes: Axes,
    found: Detections,
    classes: Sequence[str],
    style: Style,
    *,
    named: bool = True,
) -> None:
    """Boxes, and outlines of masks where there are any.

    Args:
        axes: in pixels of the view.
        found: what is drawn.
        classes: names by label.
        style: of all of them.
        named: whether scores are written, and classes where there are several.
    """
    look = dict(linestyle=style.dashes, edgecolor=style.colour, gid=style.name)
    shown = dict(linewidth=style.width, path_effects=style.halo)
    # Around a mask, which tells more, a box is faint.
    around = shown if found.masks is None else dict(linewidth=0.6, visible=style.bold)
    for (x1, y1, x2, y2), score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        axes.add_patch(patches.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look, **around))
        if style.marker:
            mark = dict(color=style.colour, marker=style.marker, ms=7, mew=1.8, gid=style.name)
            axes.plot((x1 + x2) / 2, (y1 + y2) / 2, path_effects=style.halo, **mark)
        if named:
            place = dict(va="bottom", clip_on=True, gid=style.name)
            kind = f"{classes[label]} " if len(classes) > 1 else ""
            axes.text(x1, y1, f"{kind}{score:.2f}", **place, **NAME)
    for mask in found.masks or ():
        _outline(axes, mask, **look, **shown)


def draw_truth(axes: Axes, objects: Detections) -> None:
    """True objects as thin outlines, of masks where these are known."""
    for mask in objects.masks or ():
        _outline(axes, mask, **TRUTH)
    if objects.masks is None:
        for x1, y1, x2, y2 in objects.boxes:
            axes.add_patch(patches.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **TRUTH))


def draw_labels(
    axes: Axes,
    labels: Integer[np.ndarray, "h w"],
    classes: Sequence[str],
    colours: Mapping[int, str],
    frame: Rectangle,
) -> None:
    """A translucent label map; classes without a colour share a grey; names where there is room."""
    table = np.full((256, 4), to_rgba(OTHER, OPACITY))
    for label, colour in colours.items():
        table[label] = to_rgba(colour, OPACITY)
    axes.imshow(table[labels], extent=_extent(frame), interpolation="nearest")
    for label in np.unique(labels[labels != IGNORED]).tolist():
        room = ndimage.distance_transform_edt(np.pad(labels == label, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(room.argmax(), room.shape)
        if room[y, x] >= LEAST_ROOM * min(labels.shape):
            place = frame[1] + x + 0.5, frame[0] + y + 0.5
            style = dict(ha="center", va="center", clip_on=True, gid=f"label {label}")
            axes.text(*place, classes[label], **style, **NAME)
    _bounded(axes, frame)


def draw_true_labels(axes: Axes, labels: Integer[np.ndarray, "h w"], frame: Rectangle) -> None:
    """The borders of a true label map, and of what is to be ignored."""
    for label in np.unique(labels).tolist():
        _border(axes, (labels == label).astype(int), (frame[1], frame[0]), **TRUE_LABELS)


def draw_changes(
    axes: Axes,
    picture: UInt8[np.ndarray, "h w 3"],
    changed: Bool[np.ndarray, "h w"],
    frame: Rectangle,
) -> None:
    """The pixels that changed, over a pale grey picture."""
    pale = 0.5 + picture.mean(2, keepdims=True) / 255 / 2
    shown = np.where(changed[..., None], to_rgb(CHANGED), pale)
    axes.imshow(shown, extent=_extent(frame), interpolation="antialiased")
    _bounded(axes, frame)


def truth_handles(truth: object, look: Mapping[str, object] = TRUTH) -> list[Line2D]:
    """Of a legend, where something is known; of label maps with `TRUE_LABELS`."""
    line = dict(color=look["edgecolor"], lw=1, path_effects=TRUTH["path_effects"])
    return [] if truth is None else [Line2D([], [], label="truth", **line)]


def label_handles(
    labels: Sequence[int], classes: Sequence[str], colours: Mapping[int, str]
) -> list[patches.Patch]:
    """Of a legend of classes; all without a colour are one."""
    handles = [patches.Patch(color=colours[n], label=classes[n]) for n in colours if n in labels]
    others = {*labels} - {*colours, IGNORED}
    return handles + [patches.Patch(color=OTHER, label="other classes")] * bool(others)


def _outline(axes: Axes, mask: dict, **look: object) -> None:
    """Of a mask in run lengths; drawn no larger than it is."""
    x, y, w, h = coco_masks.toBbox(mask).astype(int).tolist()
    if w:
        _border(axes, coco_masks.decode(mask)[y : y + h, x : x + w], (x, y), **look)


def _border(
    axes: Axes, mask: Integer[np.ndarray, "h w"], corner: tuple[float, float], **look: object
) -> None:
    """Around the ones of a mask whose first pixel has this corner (x, y)."""
    (left, top), (height, width) = corner, mask.shape
    x, y = np.arange(-1, width + 1) + left + 0.5, np.arange(-1, height + 1) + top + 0.5
    axes.contour(x, y, np.pad(mask, 1), levels=[0.5], colors="k").set(facecolor="none", **look)


def _extent(frame: Rectangle) -> tuple[int, int, int, int]:
    top, left, bottom, right = frame
    return left, right, bottom, top


def _bounded(axes: Axes, frame: Rectangle) -> None:
    left, right, bottom, top = _extent(frame)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    axes.autoscale(False)
