"""A statistic that several measures are formed from, computed once for all of them."""

from hashlib import blake2b

import numpy as np
from jaxtyping import Float

from mmplugins.evaluation.statistics.resampling import Statistic


def remembered(statistic: Statistic) -> Statistic:
    """The same statistic; what it gave for some weights is kept for as long as it lives itself."""
    known: dict[bytes, np.ndarray] = {}

    def recall(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b ..."]:
        rows = np.ascontiguousarray(weights, dtype=np.float64)
        key = blake2b(rows, digest_size=16).digest()
        if key not in known:
            known[key] = statistic(rows)
            known[key].flags.writeable = False  # shared by all who ask
        return known[key]

    return recall
