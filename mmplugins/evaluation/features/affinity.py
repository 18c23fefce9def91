"""Does a value between two patches tell whether they show the same class?

SaPE2 claims to know similar patches however far apart. For any value v[i, j] of pairs of patches,
such as the cosine of features, a probability of attention or a logit bias:
    AUROC = P(v of a pair of one class > v of a pair of two) + 1/2 P(they are equal)
over the pairs of an image within a bin of distances; 1/2 is chance, below it the value is larger
for unlike patches. Pairs are counted image by image and summed: images with many pairs weigh more.
https://arxiv.org/abs/2505.09466 makes the claim; the area is that of Mann and Whitney.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

IGNORE = 255


@dataclass(frozen=True)
class Affinity:
    """Sums of one image, by bin of distances; `+` adds images.

    Attributes:
        wins: pairs of pairs (one class, two classes) in which the first has the larger value, ties
            as a half.
        pairs: all pairs of pairs.
    """

    wins: np.ndarray
    pairs: np.ndarray

    def __add__(self, other: "Affinity") -> "Affinity":
        return Affinity(self.wins + other.wins, self.pairs + other.pairs)

    @property
    def auroc(self) -> np.ndarray:
        """By bin; NaN where there was nothing to compare."""
        with np.errstate(invalid="ignore"):
            return self.wins / self.pairs


def affinity(
    values: np.ndarray, labels: np.ndarray, *, edges: Sequence[float] = (0, 4, 8, math.inf)
) -> Affinity:
    """Count, for one image, how well `values` tell pairs of one class from pairs of two.

    Args:
        values: [N, N] for query and key, N = h w patches in row-major order.
        labels: [h, w] class of each patch; those of class 255 have none.
        edges: bins of the distance between two patches, in patches, the upper edge included.

    Raises:
        ValueError: values and labels of different numbers of patches, or edges that do not rise.
    """
    height, width = labels.shape
    if values.shape != (height * width,) * 2:
        raise ValueError(
            f"values of {values.shape} do not belong to {height} x {width} labelled patches"
        )
    if not all(low < high for low, high in itertools.pairwise(edges)):
        raise ValueError(f"edges of bins must rise: {tuple(edges)}")
    y, x = np.divmod(np.arange(height * width), width)
    known = labels.ravel() != IGNORE
    asked = known[:, None] & known[None, :] & ~np.eye(height * width, dtype=bool)
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    same = labels.ravel()[:, None] == labels.ravel()
    counts = [
        _count(values[inside], same[inside])
        for low, high in itertools.pairwise(edges)
        for inside in [asked & (low < distance) & (distance <= high)]
    ]
    wins, pairs = zip(*counts, strict=True)
    return Affinity(np.array(wins), np.array(pairs))


def patch_labels(labels: np.ndarray, patch: int, *, purity: float = 0.75) -> np.ndarray:
    """Class of each patch of a label map; 255 where no class covers the part `purity` of it.

    The last row and column of patches may stick out: what is outside has no class.

    Raises:
        ValueError: a purity of which two classes could both have enough.
    """
    if not 0.5 <= purity <= 1:
        raise ValueError(f"purity is a part from 0.5 to 1, not {purity}")
    height, width = labels.shape
    labels = np.pad(labels, ((0, -height % patch), (0, -width % patch)), constant_values=IGNORE)
    cells = labels.reshape(labels.shape[0] // patch, patch, labels.shape[1] // patch, patch)
    cells = cells.transpose(0, 2, 1, 3).reshape(-1, patch * patch)
    out = np.full(len(cells), IGNORE, labels.dtype)
    for each in np.unique(labels[labels != IGNORE]):
        share = (cells == each).mean(1)
        out[(share >= purity) & (share > 0.5)] = each
    return out.reshape(labels.shape[0] // patch, labels.shape[1] // patch)


def _count(values: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Wins of the values of `same` over the others, and comparisons."""
    alike, unlike = int(same.sum()), int((~same).sum())
    ranks = rankdata(values)[same].sum() if alike else 0.0
    return ranks - alike * (alike + 1) / 2, float(alike * unlike)
