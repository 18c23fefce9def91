"""Whether a segmenter says the same of moved content: consistency of its label maps.

With O the pixels of the core that count (see `label_maps`), y the reference's labels, y_T those of
the view shifted by T, q and q_T what the model believes:
    mASSC        mean over images of  #{p in O: y(p) = y_T(p + shift)} / |O|
    mASSC-in/-bd the same outside / inside of the band of 4 pixels around borders between labels y
    self-mIoU    mean over classes of intersection / union of y and y_T, each summed over images
    TV           mean over images of  sum_O 1/2 |q - q_T|_1 / |O|
    flip map     Phi(p) = share of images and shifts that flip the label at place p of the frame
mASSC: https://arxiv.org/abs/2008.09604, its circular variant https://arxiv.org/abs/2305.16316. A
constant map scores mASSC 1 at every shift, and labels shuffled over pixels about the sum of squared
class frequencies: read it beside mIoU.

Departures: pictures differ in size, so the frame of the flip map is 64 x 64 cells of what the
reference view shows of the content, whatever its size. The band is of borders within the content;
where it ends is none. Label maps are not resampled: of parts of a pixel nothing is known (NaN).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Integer, Num, Shaped

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.label_maps import (
    boundary_band,
    class_counts,
    counted,
    cut,
    overlap,
    visible,
    whole,
)
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.shifts import Rectangle
from mmplugins.evaluation.statistics.resampling import Statistic, divide, ratio_of_sums
from mmplugins.evaluation.statistics.weighted import mean_iou

ImageSums = Mapping[str, np.ndarray]
CELLS = 64
COUNT = np.int32  # of pixels: the sums of thousands of images are kept at once


def consistency_sums(record: Record, plan: Plan, num_classes: int) -> dict[str, np.ndarray]:
    """What the label maps of one image add up to.

    Returns:
        agreed: [2, S, 2], pixels that agree and all, outside and inside of the band.
        kept: [2, S, C], pixels of each class in both maps and in one at least.
        flips: [2, 64, 64], flips and visits of all shifts.
        variation: [S, 2], total variation and pixels, where the pass has added it up.
    """
    scene, circular, reference = record.scene, plan.mode == "roll", record.views[0]
    frame = visible(scene)
    band = np.zeros(scene.view, dtype=bool)
    cut(band, frame)[...] = boundary_band(cut(reference, frame), circular=circular)
    inside = counted(record.truth, scene.core)
    group = np.where(inside, 1 + cut(band, scene.core), 0)
    pixels = np.bincount(group.ravel(), minlength=3)[1:]
    agreed = np.zeros((2, len(plan.shifts), 2), COUNT)
    kept = np.zeros((2, len(plan.shifts), num_classes), COUNT)
    flips = np.zeros((2, *inside.shape), COUNT)
    for s, shift in enumerate(plan.shifts):
        if whole(shift):
            shifted = record.views[1 + s]
            first, second = overlap(reference, shifted, shift, scene.core, circular=circular)
            found = class_counts(first, second, group, num_classes=num_classes, groups=2)
            agreed[:, s], kept[:, s] = (found[0].sum(-1), pixels), found.sum(1)
            flips += (first != second) & inside, inside
    sums = {"agreed": agreed, "kept": kept, "flips": _in_cells(flips, scene.core, frame)}
    known = "total_variation" in record.sums
    return sums | ({"variation": record.sums["total_variation"]} if known else {})


def consistency_measures(sums: Sequence[ImageSums], plan: Plan) -> list[Measure]:
    """Of all images' sums, at each shift; TV where the pass has added it up for every image."""
    agreed, kept = (images_last(sums, name) for name in ("agreed", "kept"))
    statistics = {
        "mASSC": mean_of_ratios(*agreed.sum(2)),
        "mASSC-in": mean_of_ratios(*agreed[:, :, 0]),
        "mASSC-bd": mean_of_ratios(*agreed[:, :, 1]),
        "self-mIoU": mean_iou(*kept),
    }
    if all("variation" in image for image in sums):
        variation = images_last(sums, "variation")
        statistics["TV"] = mean_of_ratios(variation[:, 0], variation[:, 1])
    return [
        Measure("prediction", metric, "labels", "shift", plan.shifts, statistic)
        for metric, statistic in statistics.items()
    ]


def flip_map(sums: Sequence[ImageSums]) -> Float[np.ndarray, "64 64"]:
    """The share of visits of each cell that flip its label; NaN where nothing was counted."""
    return divide(*sum(image["flips"].astype(np.int64) for image in sums))


def images_last(sums: Sequence[ImageSums], name: str) -> Shaped[np.ndarray, "... n"]:
    """One of the sums, of all images."""
    return np.stack([image[name] for image in sums], axis=-1)


def mean_of_ratios(
    numerator: Num[np.ndarray, "... n"], denominator: Num[np.ndarray, "... n"]
) -> Statistic:
    """Mean over images of each image's ratio; those that divide by 0 are left out."""
    known = denominator > 0
    return ratio_of_sums(np.where(known, divide(numerator, denominator), 0), known)


def _in_cells(
    pixels: Integer[np.ndarray, "k h w"], core: Rectangle, frame: Rectangle
) -> Integer[np.ndarray, "k 64 64"]:
    """Sums over the cells of the frame that the centres of the core's pixels lie in."""

    def members(start: int, stop: int, low: int, high: int) -> Float[np.ndarray, "64 side"]:
        twice = 2 * (np.arange(start, stop) - low) + 1  # a centre is half a pixel further
        return (np.arange(CELLS)[:, None] == twice * CELLS // (2 * (high - low))).astype(float)

    rows, columns = (members(core[a], core[a + 2], frame[a], frame[a + 2]) for a in (0, 1))
    return (rows @ pixels @ columns.T).astype(COUNT)
