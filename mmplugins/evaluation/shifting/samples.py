"""Sample pictures: what a model says of an image, and of the same content under its worst shift.

The worst shift of an image is that with the least PC of its boxes, or mASSC of its label maps, the
first of equals. Shown are the images whose worst shift is worst, and the one in the middle of all,
so that nobody picks them. Both views are drawn in the frame of the reference, cut to the core: what
the shifted view says moved back, over the same content.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.figure import Figure

from mmplugins.disk import write
from mmplugins.evaluation import overlays
from mmplugins.evaluation.inference.pictures import Picture, Pictures
from mmplugins.evaluation.overlays import Style
from mmplugins.evaluation.plan import Plan, Scene
from mmplugins.evaluation.predictions.consistency import moved_back
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.predictions.label_maps import counted, cut, overlap, whole
from mmplugins.evaluation.predictions.matching import THRESHOLDS, compare, match, statistics
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.results.figures import COLOURS, save
from mmplugins.evaluation.runs import Run
from mmplugins.evaluation.shifts import Rectangle, Shift, moved

FOUND = Style("found in both", "#0072B2")
LOST = Style("not found again", "#D55E00", "--", "x", 1.8)
NEW = Style("not found before", "#CC79A7", ":", "+", 1.8)
CUT = Style("cut by the border", "#8a8a8a", "-.", width=0.8, bold=False)
STYLES = FOUND, LOST, NEW, CUT
NAMES = 12  # so many boxes all carry names; of more, only those that are not in both views


@dataclass(frozen=True)
class Worst:
    """The shift that changes most of what is said of an image.

    Attributes:
        image: its id.
        number: of the shift.
        value: PC or agreement under it.
    """

    image: str
    number: int
    value: float


def write_samples(
    folder: Path,
    run: Run,
    pictures: Pictures,
    images: Sequence[str],
    *,
    score: float,
    count: int = 4,
) -> None:
    """A picture `N.png` for each of some images, and `samples.json` with their captions.

    There are none of detections that were rolled, which come apart at the border, and of label maps
    where all shifts are fractions of a pixel.

    Args:
        folder: made where it does not exist; pictures of an earlier call go.
        run: whose records there are.
        pictures: of the same dataset.
        images: ids to choose from.
        score: of detections that are compared and drawn.
        count: of images to show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = [found for image in images if (found := worst_shift(run, image, score))]
    shown = choose(every, count)
    draw = detections_sample if run.key.detection else labels_sample
    entries = []
    for number, (worst, rank) in enumerate(shown):
        picture = pictures[pictures.ids.index(worst.image)]
        figure, told = draw(run, picture, worst, score)
        save(figure, folder / f"{number}.png")
        entries.append(
            {
                "file": f"{number}.png",
                "image": worst.image,
                "title": f"Image {worst.image}: {rank}",
                "text": f"{told} Chosen by its worst shift alone: {rank}.",
            }
        )
    write(folder / "samples.json", json.dumps(entries, indent=1).encode())
    for file in folder.glob("*.png"):
        if file.name not in {entry["file"] for entry in entries}:
            file.unlink()


def worst_shift(run: Run, image: str, score: float) -> Worst | None:
    """Under which PC or agreement of an image is least; None where nothing can be compared."""
    plan = run.key.plan
    if run.key.detection:
        if plan.mode == "roll":
            return None
        values = _consistency(run.cache[image], plan, score)
    else:
        values = _agreement(run.cache[image], plan)
    if np.isnan(values).all():
        return None
    number = int(np.nanargmin(values))
    return Worst(image, number, float(values[number]))


def choose(every: Sequence[Worst], count: int) -> list[tuple[Worst, str]]:
    """The worst of all images, then the one in the middle, each with what it is among them."""
    ranked = sorted(every, key=lambda worst: worst.value)  # stable: in the order of the images
    middle = len(ranked) // 2
    ranks = list(range(min(count, len(ranked))))
    if 1 < count <= middle:
        ranks[-1] = middle
    return [(ranked[rank], _rank(rank, len(ranked))) for rank in ranks]


def _rank(rank: int, count: int) -> str:
    if rank == count // 2 and count > 2:
        return f"in the middle of {count} images"
    return f"{_ordinal(rank + 1)} worst of {count} images" if rank else f"worst of {count} images"


def _ordinal(number: int) -> str:
    teen = 10 < number % 100 < 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _consistency(record: Record, plan: Plan, score: float) -> Float[np.ndarray, " S"]:
    """PC of one image's boxes under each shift."""
    boxes = replace(record, views=[replace(found, masks=None) for found in record.views])
    reference, *others = moved_back(boxes, plan, score)
    core = record.scene.core
    compared = [[compare(reference, back, core, margin=-plan.slack)] for back in others]
    return statistics(compared)["PC"](np.ones((1, 1)))[0]


def _agreement(record: Record, plan: Plan) -> Float[np.ndarray, " S"]:
    """The mASSC of one image under each shift; NaN where pixels fall between pixels."""
    counts, values = counted(record.truth, record.scene.core), []
    for number, shift in enumerate(plan.shifts, start=1):
        if whole(shift) and counts.any():
            first, second = _maps(record, plan, number)
            values.append((first == second)[counts].mean())
        else:
            values.append(np.nan)
    return np.array(values)


def _maps(record: Record, plan: Plan, number: int) -> tuple[Integer[np.ndarray, "h w"], ...]:
    """The core of the reference's label map, and the same content of another view."""
    views, shift = record.views, plan.shifts[number - 1]
    circular = plan.mode == "roll"
    return overlap(views[0], views[number], shift, record.scene.core, circular=circular)


def detections_sample(run: Run, picture: Picture, worst: Worst, score: float) -> tuple[Figure, str]:
    """Boxes and masks of both views, and which of them the other view has not."""
    record, plan = run.cache[worst.image], run.key.plan
    core, shift = record.scene.core, plan.shifts[worst.number]
    views = moved_back(record, plan, score)
    fates = fates_of(views[0], views[1 + worst.number], core, -plan.slack)
    shown = background(picture, record.scene, core)
    titles = "reference view", f"shifted by {_pixels(shift)}, moved back"
    figure, panels = overlays.panels_of(core, titles)
    for axes, groups in zip(panels, fates, strict=True):
        overlays.draw_picture(axes, shown, core)
        if record.truth is not None:
            overlays.draw_truth(axes, record.truth.found)
        many = sum(map(len, groups.values())) > NAMES
        for style, found in groups.items():
            named = style is not CUT and not (many and style is FOUND)
            overlays.draw_detections(axes, found, run.key.classes, style, named=named)
    drawn = [style for style in STYLES if any(len(groups.get(style, ())) for groups in fates)]
    handles = [style.handle for style in drawn]
    overlays.legend(figure, handles + overlays.truth_handles(record.truth))
    (first, second), least = fates, THRESHOLDS[0]
    asked = len(first[FOUND]) + len(first[LOST])
    return figure, (
        f"Left the reference view, right the same content in the image shifted by "
        f"{_told(shift)}, moved back: of all shifts the one with the least PC of boxes, "
        f"{worst.value:.1%}. Not found again: {len(first[LOST])} of {asked} boxes; not found "
        f"before: {len(second[NEW])} (IoU of {least:g} or more, same class). Boxes of a score of "
        f"{score:g} or more."
    )


def fates_of(
    reference: Detections, back: Detections, core: Rectangle, margin: float
) -> tuple[dict[Style, Detections], dict[Style, Detections]]:
    """Detections of both views by whether the other has them, too; those that matter come last."""
    pairs = match(reference, back, THRESHOLDS[0], core=core, margin=margin)
    fates = []
    for found, rows, missing in ((reference, pairs.reference, LOST), (back, pairs.shifted, NEW)):
        counts, partner = found.inside(core, margin), np.isin(np.arange(len(found)), rows)
        fates.append(
            {CUT: found[~counts], FOUND: found[counts & partner], missing: found[counts & ~partner]}
        )
    return tuple(fates)


def labels_sample(run: Run, picture: Picture, worst: Worst, score: float) -> tuple[Figure, str]:
    """Label maps of both views, and the pixels that changed their class."""
    record, plan = run.cache[worst.image], run.key.plan
    core, shift = record.scene.core, plan.shifts[worst.number]
    maps = _maps(record, plan, 1 + worst.number)
    changed = (maps[0] != maps[1]) & counted(record.truth, core)
    shown = background(picture, record.scene, core)
    colours = label_colours(maps)
    titles = "reference view", f"shifted by {_pixels(shift)}, back", "changed its class"
    figure, panels = overlays.panels_of(core, titles)
    for axes, labels in zip(panels, maps, strict=False):
        overlays.draw_picture(axes, shown, core)
        overlays.draw_labels(axes, labels, run.key.classes, colours, core)
        if record.truth is not None:
            overlays.draw_true_labels(axes, cut(record.truth, core), core)
    overlays.draw_changes(panels[2], shown, changed, core)
    handles = overlays.label_handles(np.unique(maps).tolist(), run.key.classes, colours)
    overlays.legend(figure, handles + overlays.truth_handles(record.truth, overlays.TRUE_LABELS))
    return figure, (
        f"Left the reference view, in the middle the same content in the image shifted by "
        f"{_told(shift)}, moved back: of all shifts the one with the least agreement, "
        f"{worst.value:.1%} of the pixels that count. Right those that changed their class."
    )


def background(picture: Picture, scene: Scene, frame: Rectangle) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in a rectangle of the reference view."""
    top, left = scene.content[:2]
    pixels = cut(picture.pixels.numpy(), moved(frame, (-top, -left)))
    # Pictures are loaded as BGR, in both hosts.
    return pixels[::-1].transpose(1, 2, 0).round().clip(0, 255).astype(np.uint8)


def label_colours(maps: Sequence[Integer[np.ndarray, "h w"]]) -> dict[int, str]:
    """Of the labels that cover most; the others share a grey, and no label has that of changes."""
    colours = [colour for colour in COLOURS if colour != overlays.CHANGED]
    counts = np.bincount(np.concatenate([labels.ravel() for labels in maps]))
    ranked = np.argsort(-counts, kind="stable")[: len(colours)].tolist()
    known = [label for label in ranked if counts[label]]
    return dict(zip(known, colours, strict=False))


def _pixels(shift: Shift) -> str:
    return f"({shift[0]:g}, {shift[1]:g}) px"


def _told(shift: Shift) -> str:
    return f"(dy, dx) = {_pixels(shift)}"
