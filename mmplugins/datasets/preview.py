"""A contact sheet: each pair of classes alone, and scenes as they were written to disk."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from pycocotools.coco import COCO

from mmplugins.datasets import motifs
from mmplugins.datasets.families import CLASSES, FAMILY_OF_CLASS, PALETTE
from mmplugins.datasets.forms import ADE_FOLDER, FIRST_ID, ade_name
from mmplugins.datasets.parts import Part, paint

COLOURS = {
    "appearance": "#ffffff",
    "arrangement": "#ffe119",
    "location": "#f58fff",
    "repetition": "#42f5f5",
}
QUESTIONS = {
    motifs.appearance: "appearance: what does it look like?",
    motifs.vertical: "arrangement: above or below its diamond?",
    motifs.horizontal: "arrangement: left or right of its diamond?",
    motifs.distance: "arrangement: near or far from its diamond?",
    motifs.location: "location: which half of the frame?",
    motifs.repetition: "repetition: one of two, or one of many?",
}
COLUMNS, PANEL = 6, (160, 224)


def save_preview(root: Path, path: Path, rows: int = 3) -> None:
    """Draw the benchmark at `root` to the image file `path`: `rows` rows of validation scenes."""
    figure = Figure(figsize=(22, 3 * (rows + 3)), facecolor="#202020", layout="constrained")
    axes = figure.subplots(rows + 3, COLUMNS)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, motif in zip(axes[:2].T, QUESTIONS, strict=True):
        draw_motif(column, motif)
    with redirect_stdout(StringIO()):  # pycocotools reports on loading
        coco = COCO(root / "coco" / "annotations" / "instances_val2017.json")
    image_ids = sorted(coco.imgs)[: rows * COLUMNS]
    for axis, image_id in zip(axes[2:-1].flat, image_ids, strict=False):
        draw_scene(axis, coco, image_id, root)
    for axis, image_id in zip(axes[-1], image_ids[-COLUMNS:], strict=False):
        draw_labels(axis, image_id, root)
    figure.legend(
        handles=[Patch(color=colour, label=family) for family, colour in COLOURS.items()],
        loc="outside lower center",
        ncols=len(COLOURS),
        labelcolor="white",
        facecolor="#202020",
        fontsize=16,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)


def draw_motif(axes, motif: motifs.Motif) -> None:
    """One panel for each outcome of the motif's coin, on plain ground, the question above."""
    rng = np.random.default_rng(16)
    alternatives = motif(rng, *PANEL)
    if alternatives[0] == alternatives[1]:  # no coin: two layouts instead
        alternatives = alternatives[0], motif(rng, *PANEL)[0]
    boxes = np.array([part.box for parts in alternatives for part in parts])
    top, left = boxes[:, :2].min(axis=0)
    bottom, right = boxes[:, 2:].max(axis=0)
    dy, dx = (PANEL[0] - top - bottom) // 2, (PANEL[1] - left - right) // 2
    for axis, parts in zip(axes, alternatives, strict=True):
        canvas = np.full((*PANEL, 3), 70.0)
        moved = [part.moved(int(dy), int(dx)) for part in parts]
        for part in moved:
            paint(canvas, part)
        axis.imshow(canvas.round().clip(0, 255).astype(np.uint8))
        for part in moved:
            draw_part(axis, part)
    axes[0].set_title(QUESTIONS[motif], color="white", fontsize=12)


def draw_part(axis, part: Part) -> None:
    """The part's box and class, if it has one."""
    if part.category:
        top, left, bottom, right = part.box
        draw_box(axis, part.category, (left, top, right - left, bottom - top))


def draw_box(axis, category: str, box: tuple[float, float, float, float]) -> None:
    """A box [left, top, width, height] in the colour of its family, named by its class."""
    left, top, width, height = box
    colour = COLOURS[FAMILY_OF_CLASS[category]]
    axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, lw=1.5))
    text = category.removeprefix("hexagon_").removeprefix("star_").removeprefix("cross_")
    ground = {"facecolor": "#202020", "alpha": 0.7, "pad": 0.5, "linewidth": 0}
    axis.text(left, top, text, color=colour, fontsize=9, va="bottom", clip_on=True, bbox=ground)


def draw_scene(axis, coco: COCO, image_id: int, root: Path) -> None:
    """A validation picture with its boxes and masks."""
    info = coco.imgs[image_id]
    image = np.array(Image.open(root / "coco" / "val2017" / info["file_name"])) / 255
    annotations = coco.imgToAnns[image_id]
    for entry in annotations:
        mask = coco.annToMask(entry).astype(bool)
        image[mask] = 0.75 * image[mask] + 0.25
    axis.imshow(image)
    for entry in annotations:
        draw_box(axis, CLASSES[entry["category_id"] - 1], entry["bbox"])
    kind = "crowd" if any(entry["iscrowd"] for entry in annotations) else ""
    axis.set_title(kind or ("" if annotations else "empty"), color="white", fontsize=12)


def draw_labels(axis, image_id: int, root: Path) -> None:
    """The label map of a validation picture; black is no class."""
    name = f"{ade_name('val', image_id - FIRST_ID['val'])}.png"
    labels = np.array(Image.open(root / "ade" / "annotations" / ADE_FOLDER["val"] / name))
    axis.imshow(np.array([(0, 0, 0), *PALETTE], np.uint8)[labels])
    axis.set_title("labels of the scene above", color="white", fontsize=12)
