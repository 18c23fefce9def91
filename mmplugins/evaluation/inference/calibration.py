"""What is known of features before the pass: means, and what pictures of nothing say.

Both are of the cells that show content, as all that follows is: canvases can be padding for the
most part, and features that are centred by the mean of padding look alike where they are not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.features.levels import level_strides
from mmplugins.evaluation.features.probe import CONTENT_FREE, position_r2
from mmplugins.evaluation.inference.engine import Engine
from mmplugins.evaluation.inference.subset import subset
from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.predictions.label_maps import visible
from mmplugins.evaluation.views import Picture

IMAGES = 8  # that the mean features are of; and as many pictures without content
MEAN = "mean/"


def calibrate(engine: Engine, *, seed: int = 0) -> dict[str, np.ndarray]:
    """What is known of the features before the pass, by name.

    Returns:
        mean/LEVEL: [C] over some images of the dataset, whichever the subset is.
        constant/LEVEL and noise/LEVEL: R^2 of the position probe on pictures that show nothing.

    Raises:
        InputError: no picture among them is large enough.
    """
    engine = replace(engine, observers=lambda picture, scene, truth: ())
    sums: dict[str, Tensor] = {}
    cells: dict[str, int] = {}
    drawn = list(_large_enough(engine, seed))
    if not drawn:
        raise InputError("most pictures are smaller than the range of shifts: use --mode canvas")
    for picture, scene in drawn:
        (seen,) = engine.seen(picture, scene, reference=True)
        for name, level in _of_content(seen.levels, scene):
            sums[name] = sums.get(name, 0) + level.flatten(1).double().sum(1)
            cells[name] = cells.get(name, 0) + level[0].numel()
    known = {f"{MEAN}{name}": (sums[name] / cells[name]).cpu().numpy() for name in sums}
    generator = torch.Generator().manual_seed(seed)
    size = picture.pixels.shape
    for kind, values in zip(CONTENT_FREE, ((3, 1, 1), size), strict=True):
        maps: dict[str, list[Tensor]] = {}
        for _ in range(IMAGES):
            pixels = torch.randint(256, values, generator=generator).expand(size)
            empty = replace(picture, pixels=pixels.to(picture.pixels.dtype))
            (seen,) = engine.seen(empty, scene, reference=True)
            for name, level in _of_content(seen.levels, scene):
                maps.setdefault(name, []).append(level.cpu())
        known |= {
            f"{kind}/{name}": np.array(position_r2(each))
            for name, each in maps.items()
            if each[0][0].numel() > 1
        }
    return known


def _large_enough(engine: Engine, seed: int) -> Iterator[tuple[Picture, Scene]]:
    """Those that the plan has views of: others need not be among what is measured."""
    count = min(IMAGES, len(engine.pictures))
    for index in subset(engine.pictures.ids, count, seed=seed):
        picture = engine.pictures[index]
        try:
            scene = engine.plan.scene(*picture.pixels.shape[-2:])
        except ValueError:
            continue
        yield picture, scene


def _of_content(
    levels: Mapping[str, Float[Tensor, "_ _ _"]], scene: Scene
) -> Iterator[tuple[str, Float[Tensor, "_ _ _"]]]:
    """The cells of each level that show nothing else; all where there are none."""
    top, left, bottom, right = visible(scene)
    for name, stride in level_strides(levels, scene.view).items():
        level = levels[name]
        if stride:
            rows = slice(-(-top // stride), bottom // stride)
            columns = slice(-(-left // stride), right // stride)
            inside = level[:, rows, columns]
            level = inside if inside[0].numel() else level
        yield name, level
