"""What is added up in the pass because a record cannot keep it, and what is known before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mmplugins.evaluation.features.levels import feature_levels
from mmplugins.evaluation.features.lie import lie_sums
from mmplugins.evaluation.features.pairs import affinity_sums
from mmplugins.evaluation.features.patches import object_labels
from mmplugins.evaluation.features.probe import CONTENT_FREE, ProbeSamples, position_r2
from mmplugins.evaluation.features.sums import PairSums
from mmplugins.evaluation.inference.engine import Engine, Observer, Seen, Truth, fill_of
from mmplugins.evaluation.inference.pictures import Picture, subset
from mmplugins.evaluation.inference.plan import Plan, Scene
from mmplugins.evaluation.predictions.label_maps import counted
from mmplugins.evaluation.predictions.total_variation import TotalVariation

IMAGES = 8  # that the mean features are of; and as many pictures without content
MEAN = "mean/"


@dataclass(frozen=True, eq=False)
class Observing:
    """Makes the observers of every image.

    Attributes:
        model: that makes the pass.
        plan: of the views.
        means: mean features of the levels to compare; none where features are not asked for.
        affinity: whether pairs of patches are.
        lie: whether Lie derivatives are, five more passes over each image.
    """

    model: nn.Module
    plan: Plan
    means: Mapping[str, Tensor]
    affinity: bool = False
    lie: bool = False

    def __call__(self, picture: Picture, scene: Scene, truth: Truth) -> Sequence[Observer]:
        """Of a picture."""
        observers: list[Observer] = []
        if self.means:
            observers.append(PairSums(self.plan, scene, self.means))
            observers.append(ProbeSamples(picture.image, scene))
        if self.affinity:
            observers.append(Pairs(self.model, scene, truth))
        if self.lie:
            observers.append(Lie(self.model, self.plan, picture))
        observers.append(Variation(self.plan, scene, truth))
        return observers


class Pairs:
    """What the reference view tells of pairs of patches, where their classes are known."""

    def __init__(self, model: nn.Module, scene: Scene, truth: Truth):
        known = truth is None or isinstance(truth, np.ndarray)
        self._model, self._labels = model, truth if known else object_labels(truth, scene)
        self._sums: dict[str, np.ndarray] = {}

    def reference(self, seen: Seen) -> None:
        """Count its pairs."""
        if self._labels is not None:
            self._sums = affinity_sums(self._model, seen.levels, seen.layers, self._labels)

    def shifted(self, number: int, seen: Seen) -> None:
        """The same content: of no interest."""

    def arrays(self) -> dict[str, np.ndarray]:
        """By block and value."""
        return self._sums


class Lie:
    """The Lie derivative of all levels at the reference view: five more passes."""

    def __init__(self, model: nn.Module, plan: Plan, picture: Picture):
        self._model, self._plan, self._picture = model, plan, picture
        self._sums: dict[str, np.ndarray] = {}

    def reference(self, seen: Seen) -> None:
        """Look at what the model was given, rolled by very little."""
        view = self._plan.views(self._picture.pixels, fill_of(self._model))[0]
        sample = type(seen.sample)(metainfo=seen.sample.metainfo)
        data = self._model.data_preprocessor(dict(inputs=[view], data_samples=[sample]))
        samples = data["data_samples"]
        self._sums = lie_sums(lambda x: feature_levels(self._model, x, samples), data["inputs"])

    def shifted(self, number: int, seen: Seen) -> None:
        """Of no interest."""

    def arrays(self) -> dict[str, np.ndarray]:
        """By level."""
        return self._sums


class Variation:
    """Total variation of a segmenter between the reference and each shift: [S, 2], sum, count."""

    def __init__(self, plan: Plan, scene: Scene, truth: Truth):
        self._plan, self._scene, self._truth = plan, scene, truth
        self._sums = np.zeros((len(plan.shifts), 2))
        self._variation: TotalVariation | None = None

    def reference(self, seen: Seen) -> None:
        """Keep its distributions; a detector has none, nor has a segmenter of two classes one."""
        if "seg_logits" in seen.sample and len(seen.sample.seg_logits.data) > 1:
            inside = torch.from_numpy(counted(self._truth, self._scene.core))
            logits, roll = seen.sample.seg_logits.data, self._plan.mode == "roll"
            self._variation = TotalVariation(logits, self._scene.core, inside, circular=roll)

    def shifted(self, number: int, seen: Seen) -> None:
        """Compare with them."""
        if self._variation is not None:
            logits, shift = seen.sample.seg_logits.data, self._plan.shifts[number]
            self._sums[number] = self._variation.sums(logits, shift)

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing without distributions."""
        return {} if self._variation is None else {"total_variation": self._sums}


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
