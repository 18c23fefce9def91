"""How alike the detections of two views are: prediction consistency and drift.

A are the detections in the reference view, B those in the shifted view, moved back. In symbols,
with m_A the detections of A that have a partner in B at IoU >= tau, and m_B those of B in A:

    PC_tau = (m_A + m_B) / (|A| + |B|),  PC = mean over tau = .50, .55 ... .95;  nothing in both: 1
    mAISC = m_A(.90) / |A|               (https://arxiv.org/abs/2008.09604)
    of the pairs at tau = .50:  mIoU_match, the mean IoU;  CD = |c_B - c_A| / sqrt(w_A h_A), CD_px
    in pixels;  SRD = |ln w_B / w_A| + |ln h_B / h_A|;  SD = |s_B - s_A|, SD_bias = s_B - s_A
    FR = 1 - fraction of A that has a partner at tau = .50 under every shift

Which detections count. Only what lies wholly in the core, shrunk by the margin, is asked for: those
are |A| and |B|, the same A for every shift. All others, cut by the core or beyond, count for
nothing but may be partners: an object whose box is just inside in one view and just outside in the
other was found in both, so neither view is charged for it. Where all lie inside, m_A = m_B = M and
PC_tau = 2M / (|A| + |B|). The drifts are means over pairs whose A counts.

One-to-one partners of one class are chosen for each tau anew, by the Hungarian algorithm, to have

    1. as many as possible of the counting detections of A and B with a partner (all inside: as
       many pairs as possible), 2. the largest sum of IoU, 3. near scores, worth 1e-6 of IoU:
       it only decides between boxes that coincide, whose scores would otherwise swap at random.

Sums are formed for each image and shift first (`compare`); `statistics` divides sums over images,
by weights if asked (how often a bootstrap drew each image). PC_macro is the mean of the images' PC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from mmplugins.evaluation.predictions.detections import Detections, overlaps
from mmplugins.evaluation.shifts import Rectangle
from mmplugins.evaluation.statistics.resampling import Statistic, divide, ratio_of_sums

THRESHOLDS = np.linspace(0.5, 0.95, 10)
SCORE_WORTH = 1e-6


@dataclass(frozen=True, eq=False)
class Pairs:
    """[p] rows of the reference's detections, [p] rows of the others, [p] their IoU."""

    reference: np.ndarray
    shifted: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True, eq=False)
class Comparison:
    """Sums and counts of one image under one shift.

    Attributes:
        references: |A|.
        shifted: |B|.
        found_references: [10] m_A for each of `THRESHOLDS`.
        found_shifted: [10] m_B.
        pairs: pairs at tau = .50 whose A counts; the sums below are over them.
        iou: IoU.
        centre: distance of centres over the square root of A's area.
        centre_px: the same in pixels.
        size: absolute log ratios of width and height.
        score: absolute difference of scores.
        score_bias: B's score minus A's.
        found: [|A|] bool, which of A have a partner at tau = .50.
    """

    references: int
    shifted: int
    found_references: np.ndarray
    found_shifted: np.ndarray
    pairs: int
    iou: float
    centre: float
    centre_px: float
    size: float
    score: float
    score_bias: float
    found: np.ndarray


def match(
    reference: Detections,
    shifted_back: Detections,
    iou_threshold: float,
    *,
    kind: str = "box",
    core: Rectangle | None = None,
    margin: float = 0.0,
) -> Pairs:
    """One-to-one pairs of one class with at least this IoU; see above for what is maximised.

    Pairs of two detections outside the core are left out. Without a core, all detections count.

    Raises:
        ValueError: the threshold is not in (0, 1], or `kind` is unknown.
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], not {iou_threshold}")
    counts = [
        np.ones(len(side), bool) if core is None else side.inside(core, margin, kind)
        for side in (reference, shifted_back)
    ]
    iou, gain = _gains(reference, shifted_back, *counts, kind)
    return _assign(iou, gain, iou_threshold)


def compare(
    reference: Detections,
    shifted_back: Detections,
    core: Rectangle,
    *,
    margin: float = 0.0,
    kind: str = "box",
) -> Comparison:
    """Sums of one image under one shift; give only detections above the wanted score."""
    counts_a = reference.inside(core, margin, kind)
    counts_b = shifted_back.inside(core, margin, kind)
    iou, gain = _gains(reference, shifted_back, counts_a, counts_b, kind)
    matches = [_assign(iou, gain, threshold) for threshold in THRESHOLDS]

    found = np.isin(np.arange(len(reference)), matches[0].reference)[counts_a]
    measured = counts_a[matches[0].reference]
    rows_a, rows_b = matches[0].reference[measured], matches[0].shifted[measured]
    a, b = reference.extents(kind)[rows_a], shifted_back.extents(kind)[rows_b]
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    distance = np.linalg.norm((b[:, 2:] + b[:, :2] - a[:, 2:] - a[:, :2]) / 2, axis=1)
    change = shifted_back.scores[rows_b] - reference.scores[rows_a]
    return Comparison(
        references=int(counts_a.sum()),
        shifted=int(counts_b.sum()),
        found_references=np.array([counts_a[pairs.reference].sum() for pairs in matches]),
        found_shifted=np.array([counts_b[pairs.shifted].sum() for pairs in matches]),
        pairs=len(change),
        iou=float(matches[0].iou[measured].sum()),
        centre=float((distance / np.sqrt(size_a.prod(axis=1))).sum()),
        centre_px=float(distance.sum()),
        size=float(np.abs(np.log(size_b / size_a)).sum()),
        score=float(np.abs(change).sum()),
        score_bias=float(change.sum()),
        found=found,
    )


def statistics(comparisons: Sequence[Sequence[Comparison]]) -> dict[str, Statistic]:
    """Means over images, at each shift.

    Args:
        comparisons: for each shift one an image, all of the same references.

    Returns:
        PC, PC_50, PC_75, PC_macro, mAISC, mIoU_match, CD, CD_px, SRD, SD and SD_bias at each shift,
        and FR over all shifts. NaN where there is nothing to average: no image, for mAISC and FR no
        detection in the reference view, for the drifts no pair.
    """

    def column(name: str) -> Float[np.ndarray, "S n *t"]:
        return np.array([[getattr(one, name) for one in images] for images in comparisons], float)

    references, pairs = column("references"), column("pairs")
    found_references = column("found_references")
    found = found_references + column("found_shifted")
    detections = references + column("shifted")
    by_image = np.nan_to_num(divide(found, detections[..., None]), nan=1.0).mean(-1)
    kept = [
        np.all([one.found for one in views], axis=0) for views in zip(*comparisons, strict=True)
    ]
    lost = np.array([(~each).sum() for each in kept], float)
    drifts = {
        "mIoU_match": "iou",
        "CD": "centre",
        "CD_px": "centre_px",
        "SRD": "size",
        "SD": "score",
        "SD_bias": "score_bias",
    }
    return {
        "PC": _consistency(found, detections),
        "PC_50": _consistency(found[..., :1], detections),
        "PC_75": _consistency(found[..., 5:6], detections),
        "PC_macro": ratio_of_sums(by_image, np.ones_like(by_image)),
        "mAISC": ratio_of_sums(found_references[..., 8], references),
        **{name: ratio_of_sums(column(field), pairs) for name, field in drifts.items()},
        "FR": ratio_of_sums(lost[None], references[:1]),
    }


def _consistency(
    found: Float[np.ndarray, "S n t"], detections: Float[np.ndarray, "S n"]
) -> Statistic:
    """The mean over thresholds of what is found of what there is; 1 of nothing, NaN of no image."""

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b S"]:
        total = np.tensordot(weights, detections, (1, 1))
        share = divide(np.tensordot(weights, found, (1, 1)), total[..., None])
        known = weights.sum(axis=1)[:, None] > 0
        return np.where(known, np.nan_to_num(share, nan=1.0).mean(-1), np.nan)

    return statistic


def _gains(
    reference: Detections,
    shifted_back: Detections,
    counts_a: np.ndarray,
    counts_b: np.ndarray,
    kind: str,
) -> tuple[np.ndarray, np.ndarray]:
    """[n, m] IoU and what each pair adds to the objective; IoU 0 where neither counts."""
    served = counts_a[:, None] + counts_b.astype(int)
    iou = np.where(served > 0, overlaps(reference, shifted_back, kind), 0.0)
    away = np.abs(reference.scores[:, None] - shifted_back.scores)
    more_than_all_iou = min(iou.shape, default=0) + 1
    return iou, served * more_than_all_iou + iou - SCORE_WORTH * away


def _assign(iou: np.ndarray, gain: np.ndarray, threshold: float) -> Pairs:
    allowed = iou >= threshold
    rows, columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
    block = np.ix_(rows, columns)
    chosen_rows, chosen_columns = linear_sum_assignment(
        np.where(allowed[block], gain[block], 0.0), maximize=True
    )
    a, b = rows[chosen_rows], columns[chosen_columns]
    real = allowed[a, b]  # the algorithm also hands out pairs that gain nothing
    return Pairs(a[real], b[real], iou[a, b][real])
