"""Which images of a dataset are taken: so many of every kind, or those that a user names."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from mmplugins.engine.inputs import InputError


def subset(
    ids: Sequence[str],
    wanted: int | Sequence[str] | None = None,
    *,
    seed: int = 0,
    strata: Sequence[int] | None = None,
) -> list[int]:
    """Numbers of the images to take, in the order of the dataset.

    A number of images is drawn by the hash of their ids and the seed, the same on every machine;
    of each stratum as large a share as of the others, but for rounding. A smaller number takes a
    part of what a larger one takes.

    Args:
        ids: of all images.
        wanted: so many, or their ids; all without.
        seed: of the draw.
        strata: kind of each image; all alike without.

    Raises:
        InputError: ids that do not exist, or more images than there are.
    """
    if wanted is None:
        return list(range(len(ids)))
    if isinstance(wanted, int):
        if not 0 < wanted <= len(ids):
            raise InputError(f"a subset of {wanted} images: the dataset has {len(ids)}")
        return sorted(_drawn(ids, seed, strata or [0] * len(ids))[:wanted])
    places = {each: index for index, each in enumerate(ids)}
    if unknown := [each for each in wanted if each not in places]:
        raise InputError(
            f"no image {unknown[0]} in the test dataset ({len(unknown)} of {len(wanted)} ids are "
            f"unknown); its ids look like {ids[0]}"
        )
    return sorted({places[each] for each in wanted})


def _drawn(ids: Sequence[str], seed: int, strata: Sequence[int]) -> list[int]:
    """All images in such an order that every beginning has its share of each stratum."""
    digests = [hashlib.sha256(f"{seed}/{each}".encode()).digest() for each in ids]
    order = sorted(range(len(ids)), key=digests.__getitem__)
    sizes, seen, places = Counter(strata), Counter(), {}
    for index in order:
        kind = strata[index]
        places[index] = (seen[kind] + 0.5) / sizes[kind]
        seen[kind] += 1
    return sorted(order, key=places.__getitem__)
