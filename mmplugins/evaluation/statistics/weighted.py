"""AP and mIoU of weighted images: weight k is the image k times in the dataset, 0 its absence.

Equations, with w of the image of each detection, detections by falling score:
TP_i = sum_{j <= i} w_j tp_j, FP_i likewise, precision_i = TP_i / (TP_i + FP_i), recall_i = TP_i /
sum_images w truths, AP = mean over r in {0, .01, ..., 1} of max {precision_i : recall_i >= r}.
mIoU = mean over classes of sum_images w intersection / sum_images w union.
Source: https://github.com/cocodataset/cocoapi, whose numbers these are on the weighted dataset.
Reads: matches of detections, which depend on one image at a time and need no repeat.
Deviation: of detections that tie in score within one image, COCO ranks the image's copies one after
another, while here a detection stays beside its copies; ties between images rank alike.
Undefined: a class without (weighted) truth or union is NaN by itself and left out of means.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from mmplugins.evaluation.statistics.resampling import Statistic, divide, ratio_of_sums

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_AT_ONCE = 2**16  # numbers: more would leave the cache of a core
_TINY = np.finfo(np.float64).tiny  # for a denominator 0, whose numerator is 0 too


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
        truths = weights @ self.truths
        result = np.empty((len(weights), len(self.hit)))
        order = np.argsort(-self.score, kind="stable")
        order = order[~self.ignored.all(axis=0)[order]]
        # Few detections go through numpy at all thresholds at once, many one by one.
        size = len(self.hit) if len(self.hit) * len(order) <= _AT_ONCE else 1
        groups = [slice(t, t + size) for t in range(0, len(self.hit), size)]
        hit, ignored = self.hit[:, order], self.ignored[:, order]
        rankings = [_Ranking(hit[group], ignored[group]) for group in groups]
        rows = max(1, _AT_ONCE // max(1, size * len(order)))
        for start in range(0, len(weights), rows):
            part = slice(start, start + rows)
            ranked = weights[part].take(self.image[order], axis=1)
            total = np.cumsum(ranked, axis=1)
            for group, ranking in zip(groups, rankings, strict=True):
                result[part, group] = ranking.average_precision(ranked, total, truths[part])
        result[truths == 0] = np.nan
        return result


class _Ranking:
    """AP of detections by falling score, [T, d], for any weights of theirs."""

    def __init__(self, hit: Bool[ndarray, "T d"], ignored: Bool[ndarray, "T d"]) -> None:
        right = hit & ~ignored
        self._hits = np.flatnonzero(right.any(axis=0))
        self._right = right[:, self._hits].astype(np.float64)
        self._skipped = np.flatnonzero(ignored.any(axis=0))
        self._ignored = ignored[:, self._skipped].astype(np.float64)
        self._skipped_before = np.searchsorted(self._skipped, self._hits)

    def average_precision(
        self,
        ranked: Float[ndarray, "b d"],
        total: Float[ndarray, "b d"],
        truths: Float[ndarray, " b"],
    ) -> Float[ndarray, "b T"]:
        """`total` is the cumulative sum of `ranked`, the weights of the detections."""
        if not len(self._hits):
            return np.zeros((len(ranked), len(self._right)))
        found = np.cumsum(ranked.take(self._hits, axis=1)[:, None] * self._right, axis=-1)
        seen = total.take(self._hits, axis=1)[:, None]
        if len(self._skipped):
            skipped = np.zeros((len(ranked), len(self._ignored), len(self._skipped) + 1))
            among = ranked.take(self._skipped, axis=1)[:, None] * self._ignored
            np.cumsum(among, axis=-1, out=skipped[..., 1:])
            seen = seen - skipped.take(self._skipped_before, axis=-1)
        precision = found / np.maximum(seen, _TINY)
        envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
        recall = found / np.maximum(truths, _TINY)[:, None, None]
        # The nearest recall point is the last one that is reached, or the first one that is not.
        reached = np.rint(recall * (len(_RECALLS) - 1))
        reached += recall >= _RECALLS.take(reached.astype(np.intp), mode="clip")
        gained = np.einsum("bth,bth->bt", envelope[..., 1:], reached[..., 1:] - reached[..., :-1])
        return (gained + envelope[..., 0] * reached[..., 0]) / len(_RECALLS)


def mean_average_precision(classes: Sequence[Matches]) -> Statistic:
    """Mean over classes with truth, for each IoU threshold: [b, T]; AP is the mean over T."""
    thresholds = len(classes[0].hit) if classes else len(IOU_THRESHOLDS)
    known = [of_class for of_class in classes if of_class.truths.any()]

    def statistic(weights: Float[ndarray, "b n"]) -> Float[ndarray, "b T"]:
        if not known:
            return np.full((len(weights), thresholds), np.nan)
        return _mean_of_known(np.stack([c.average_precision(weights) for c in known], axis=-1))

    return statistic


def mean_iou(intersections: ndarray, unions: ndarray) -> Statistic:
    """Mean over classes with union of the IoU of summed counts [..., classes, n]: [b, ...]."""
    of_classes = ratio_of_sums(intersections, unions)
    return lambda weights: _mean_of_known(of_classes(weights))


def _mean_of_known(values: Float[ndarray, "... classes"]) -> Float[ndarray, "..."]:
    return divide(np.nansum(values, axis=-1), np.count_nonzero(~np.isnan(values), axis=-1))
