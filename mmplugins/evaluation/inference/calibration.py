"""What is known of features before the pass: means, and what pictures of nothing say."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mmplugins.evaluation.features.probe import CONTENT_FREE, position_r2
from mmplugins.evaluation.inference.engine import Engine
from mmplugins.evaluation.inference.subset import subset

IMAGES = 8  # that the mean features are of; and as many pictures without content
MEAN = "mean/"


def calibrate(engine: Engine, *, seed: int = 0) -> dict[str, np.ndarray]:
    """What is known of the features before the pass, by name.

    Returns:
        mean/LEVEL: [C] over some images of the dataset, whichever the subset is.
        constant/LEVEL and noise/LEVEL: R^2 of the position probe on pictures that show nothing.
    """
    engine = replace(engine, observers=lambda picture, scene, truth: ())
    count = min(IMAGES, len(engine.pictures))
    sums: dict[str, Tensor] = {}
    cells: dict[str, int] = {}
    for index in subset(engine.pictures.ids, count, seed=seed):
        picture = engine.pictures[index]
        scene = engine.plan.scene(*picture.pixels.shape[-2:])
        (seen,) = engine.seen(picture, scene, reference=True)
        for name, level in seen.levels.items():
            sums[name] = sums.get(name, 0) + level.flatten(1).double().sum(1)
            cells[name] = cells.get(name, 0) + level[0].numel()
    known = {f"{MEAN}{name}": (sums[name] / cells[name]).cpu().numpy() for name in sums}
    generator = torch.Generator().manual_seed(seed)
    size = picture.pixels.shape
    for kind, drawn in zip(CONTENT_FREE, ((3, 1, 1), size), strict=True):
        maps: dict[str, list[Tensor]] = {}
        for _ in range(IMAGES):
            pixels = torch.randint(256, drawn, generator=generator).expand(size)
            empty = replace(picture, pixels=pixels.to(picture.pixels.dtype))
            (seen,) = engine.seen(empty, scene, reference=True)
            for name, level in seen.levels.items():
                maps.setdefault(name, []).append(level.cpu())
        known |= {
            f"{kind}/{name}": np.array(position_r2(each))
            for name, each in maps.items()
            if each[0][0].numel() > 1
        }
    return known
