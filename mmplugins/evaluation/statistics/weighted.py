"""AP and mIoU of weighted images: weight k is the image k times in the dataset, 0 its absence.

Equations, with w of the image of each detection, detections by falling score:
TP_i = sum_{j <= i} w_j tp_j, FP_i likewise, precision_i = TP_i / (TP_i + FP_i), recall_i = TP_i /
sum_images w truths, AP = mean over r in {0, .01, ..., 1} of max {precision_i : recall_i >= r}.
mIoU = mean over classes of sum_images w intersection / sum_images w union.
Source: https://github.com/cocodataset/cocoapi, whose numbers these are on the weighted dataset.
Reads: matches of `pycocotools.COCOeval`, which depend on one image at a time and need no repeat.
Deviation: of detections that tie in score within one image, COCO ranks the image's copies one after
another, while here a detection stays beside its copies; ties between images rank alike.
Undefined: a class without (weighted) truth or union is NaN by itself and left out of means.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.statistics.resampling import Statistic, divide, ratio_of_sums

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Matches:
    """The matched detections of one class: `image` indexes `truths`, objects not to be ignored.

    `hit` and `ignored` are for each IoU threshold. Detections of equal score rank as given.

    Raises:
        ValueError: shapes that do not fit, or an image that does not exist.
    """

    image: Int[ndarray, " D"]
    score: Float[ndarray, " D"]
    hit: Bool[ndarray, "T D"]
    ignored: Bool[ndarray, "T D"]
    truths: Float[ndarray, " n"]

    def __post_init__(self):
        count = len(self.image)
        if not (len(self.score) == count == self.hit.shape[-1]):
            raise ValueError(f"{count} images, {len(self.score)} scores, {self.hit.shape} hits")
        if self.hit.shape != self.ignored.shape:
            raise ValueError(f"{self.hit.shape} hits, but {self.ignored.shape} ignored")
        if count and not 0 <= self.image.min() <= self.image.max() < len(self.truths):
            raise ValueError(f"`image` must lie in [0, {len(self.truths)})")

    def average_precision(self, weights: Float[ndarray, "b n"]) -> Float[ndarray, "b T"]:
        """AP for each IoU threshold; weights are whole numbers where sums shall be exact.

        Only hits matter: recall rises, and precision peaks, at hits alone. A hit is worth its
        envelope times the number of recall points that it is the first to reach.
        """
        order = np.argsort(-self.score, kind="stable")
        ranked = weights.T[self.image[order]]
        total = np.cumsum(ranked, axis=0)
        truths = weights @ self.truths
        result = np.empty((len(weights), len(self.hit)))
        for t, (hit, ignored) in enumerate(zip(self.hit, self.ignored, strict=True)):
            hits = np.flatnonzero((hit & ~ignored)[order])
            skipped = np.flatnonzero(ignored[order])
            found = np.cumsum(ranked[hits], axis=0)
            ignored_before = np.cumsum(np.pad(ranked[skipped], ((1, 0), (0, 0))), axis=0)
            seen = total[hits] - ignored_before[np.searchsorted(skipped, hits)]
            precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
            envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            reached = np.searchsorted(_RECALLS, divide(found, truths), side="right")
            result[:, t] = (envelope * np.diff(reached, axis=0, prepend=0)).sum(0) / len(_RECALLS)
        result[truths == 0] = np.nan
        return result


def matches_of(evaluator: COCOeval, area: str = "all") -> list[Matches]:
    """The matches of each category, with images in the order of `evaluator.params.imgIds`.

    Raises:
        ValueError: `area` is none of the evaluator's, or nothing has been evaluated.
    """
    parameters = evaluator.params
    if area not in parameters.areaRngLbl:
        raise ValueError(f"`area` is one of {parameters.areaRngLbl}, not {area!r}")
    if not evaluator.evalImgs:
        raise ValueError("run `evaluator.evaluate()` first")
    shape = (-1, len(parameters.areaRng), len(parameters.imgIds))
    cells = np.array(evaluator.evalImgs, dtype=object).reshape(shape)
    thresholds = len(parameters.iouThrs)
    of_area = cells[:, parameters.areaRngLbl.index(area)]
    return [_matches(of_category.tolist(), thresholds) for of_category in of_area]


def _matches(cells: list[dict | None], thresholds: int) -> Matches:
    known = [(index, cell) for index, cell in enumerate(cells) if cell is not None]
    truths = np.zeros(len(cells))
    for index, cell in known:
        truths[index] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
    nothing = np.zeros((thresholds, 0), bool)
    return Matches(
        np.array([index for index, cell in known for _ in cell["dtIds"]], int),
        np.array([score for _, cell in known for score in cell["dtScores"]], float),
        np.concatenate([nothing, *(cell["dtMatches"] != 0 for _, cell in known)], axis=1),
        np.concatenate([nothing, *(cell["dtIgnore"] != 0 for _, cell in known)], axis=1),
        truths,
    )


def mean_average_precision(classes: Sequence[Matches]) -> Statistic:
    """Mean over classes with truth, for each IoU threshold: [b, T]; AP is the mean over T."""

    def statistic(weights: Float[ndarray, "b n"]) -> Float[ndarray, "b T"]:
        return _mean_of_known(np.stack([c.average_precision(weights) for c in classes], axis=-1))

    return statistic


def mean_iou(intersections: ndarray, unions: ndarray) -> Statistic:
    """Mean over classes with union of the IoU of summed counts [..., classes, n]: [b, ...]."""
    of_classes = ratio_of_sums(intersections, unions)
    return lambda weights: _mean_of_known(of_classes(weights))


def _mean_of_known(values: Float[ndarray, "... classes"]) -> Float[ndarray, "..."]:
    return divide(np.nansum(values, axis=-1), np.count_nonzero(~np.isnan(values), axis=-1))
