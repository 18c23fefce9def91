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
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.statistics.resampling import ratio_of_sums

IGNORE = 255  # no class is known
BACKGROUND = -1  # the absence of all classes, and none itself
EDGES = (0, 4, 8, math.inf)  # bins of distance in patches, the upper edge included
PREFIX = "affinity/"


def affinity(
    values: Float[np.ndarray, "n n"],
    labels: Integer[np.ndarray, " n"],
    places: Integer[np.ndarray, "n 2"],
    *,
    readable: Bool[np.ndarray, "n n"] | None = None,
    edges: Sequence[float] = EDGES,
) -> Float[np.ndarray, "2 bins"]:
    """Count, for one image, how well `values` tell pairs of one class from pairs of two.

    Args:
        values: of query and key.
        labels: class of each patch; pairs with `IGNORE` and of twice `BACKGROUND` do not count.
        places: (y, x) of each patch.
        readable: pairs that have a value; all without.
        edges: of bins of distance.

    Returns:
        Pairs of pairs (one class, two classes) in which the first has the larger value, ties as a
        half; and all of them.

    Raises:
        ValueError: edges that do not rise.
    """
    if not all(low < high for low, high in itertools.pairwise(edges)):
        raise ValueError(f"edges of bins must rise: {tuple(edges)}")
    known, empty = labels != IGNORE, labels == BACKGROUND
    asked = known[:, None] & known & ~(empty[:, None] & empty) & ~np.eye(len(labels), dtype=bool)
    if readable is not None:
        asked &= readable
    distance = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    same = labels[:, None] == labels
    bins = [
        asked & (low < distance) & (distance <= high) for low, high in itertools.pairwise(edges)
    ]
    return np.array([_count(values[inside & same], values[inside & ~same]) for inside in bins]).T


def affinity_measures(images: Sequence[Mapping[str, np.ndarray]]) -> list[Measure]:
    """AUROC of every value and bin of `EDGES`, from the sums of each image.

    Sums are found under `affinity/PART`; an image that has none counts nothing.
    """
    names = dict.fromkeys(name for sums in images for name in sums if name.startswith(PREFIX))
    points = [f"{low}-{high}" for low, high in itertools.pairwise(EDGES)]
    nothing = np.zeros((2, len(points)))
    measures = []
    for name in names:
        wins, pairs = np.stack([sums.get(name, nothing) for sums in images], axis=-1)
        part, statistic = name.removeprefix(PREFIX), ratio_of_sums(wins, pairs)
        measures.append(Measure("affinity", "AUROC", part, "distance", points, statistic))
    return measures


def _count(alike: Float[np.ndarray, " a"], unlike: Float[np.ndarray, " b"]) -> tuple[float, float]:
    """Wins of `alike` over `unlike`, and comparisons."""
    alike, unlike = np.sort(alike), np.sort(unlike)
    below, not_above = (np.searchsorted(unlike, alike, side).sum() for side in ("left", "right"))
    return (below + not_above) / 2, float(len(alike) * len(unlike))
