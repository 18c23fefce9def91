"""What is added up in the pass because a record cannot keep it: features, pairs, distributions."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.evaluation.features.levels import feature_levels, level_strides
from mmplugins.evaluation.features.lie import lie_sums
from mmplugins.evaluation.features.pairs import affinity_sums
from mmplugins.evaluation.features.patches import object_labels
from mmplugins.evaluation.features.probe import CELLS, PREFIX, Sample, sample_of
from mmplugins.evaluation.features.sums import (
    BORDERS,
    FIELDS,
    Places,
    features_at,
    pair_sums,
)
from mmplugins.evaluation.inference.engine import Observer, Seen, Truth, fill_of
from mmplugins.evaluation.plan import Plan, Scene
from mmplugins.evaluation.predictions.label_maps import counted
from mmplugins.evaluation.predictions.total_variation import TotalVariation
from mmplugins.evaluation.shifts import Rectangle, Shift
from mmplugins.evaluation.views import Picture


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


class PairSums:
    """Collects the sums of one image, shift by shift.

    Args:
        plan: of the views.
        scene: of the image.
        means: mu of each level, [C].
    """

    def __init__(self, plan: Plan, scene: Scene, means: Mapping[str, Tensor]):
        self._plan, self._scene, self._means = plan, scene, means
        self._reference: dict[str, Tensor] = {}
        self._strides: dict[str, int] = {}
        # Shifts that share their places, as on a canvas all do, share the features there.
        self._places: dict[tuple[int, bool], tuple[Rectangle, Places]] = {}
        self._there: dict[tuple[str, bool], tuple[Places, Tensor]] = {}
        self._sums: dict[str, np.ndarray] = {}

    def reference(self, seen: Seen) -> None:
        """Keep the maps; levels of no whole stride have no part."""
        strides = level_strides(seen.levels, self._scene.view)
        self._strides = {name: stride for name, stride in strides.items() if stride}
        # A copy lets go of the batch.
        self._reference = {name: seen.levels[name].clone() for name in self._strides}
        count = len(self._plan.shifts)
        self._sums = {n: np.zeros((count, BORDERS, len(FIELDS))) for n in self._reference}

    def shifted(self, number: int, seen: Seen) -> None:
        """Compare the maps with those of the reference."""
        shift, roll = self._plan.shifts[number], self._plan.mode == "roll"
        for name, reference in self._reference.items():
            places = self._drawn(shift, self._strides[name])
            known, a = self._there.get((name, places.exact), (None, None))
            if known is not places:
                a = features_at(reference, places, (0, 0), roll)
                self._there[name, places.exact] = places, a
            b = features_at(seen.levels[name], places, shift, roll)
            self._sums[name][number] = pair_sums(a, b, places, self._means[name])

    def _drawn(self, shift: Shift, stride: int) -> Places:
        shared = shared_rectangle(self._plan, self._scene, shift)
        exact = all(part % stride == 0 for part in shift)
        known, places = self._places.get((stride, exact), (None, None))
        if known != shared:
            device = next(iter(self._means.values())).device
            places = Places.drawn(shared, stride, exact=exact, device=device)
            self._places[stride, exact] = shared, places
        return places

    def arrays(self) -> dict[str, np.ndarray]:
        """[S, borders, fields] of each level, `feature/NAME`."""
        return {f"feature/{name}": values for name, values in self._sums.items()}


def shared_rectangle(plan: Plan, scene: Scene, shift: Shift) -> Rectangle:
    """What the reference and the shifted view both show, in pixels of the reference."""
    if plan.mode in ("canvas", "masked_canvas"):
        return scene.content
    return plan.frame.core(*scene.view, [(0, 0), shift])


class ProbeSamples:
    """Keeps features of some cells of the reference view, and where they are.

    Args:
        image: its id, which the draw of cells follows from.
        scene: where the content lies; cells of padding have no part.
    """

    def __init__(self, image: str, scene: Scene):
        self._seed, self._scene = zlib.crc32(image.encode()), scene
        self._samples: dict[str, np.ndarray] = {}

    def reference(self, seen: Seen) -> None:
        """Draw the cells of all levels of a whole stride."""
        for name, stride in level_strides(seen.levels, self._scene.view).items():
            if stride:
                features, places = self._drawn(seen.levels[name], stride)
                both = torch.cat([features.float(), places.to(features.device)], dim=1)
                self._samples[f"{PREFIX}{name}"] = both.cpu().numpy()

    def shifted(self, number: int, seen: Seen) -> None:
        """Of no interest: content lies elsewhere, places do not."""

    def arrays(self) -> dict[str, np.ndarray]:
        """[n, C + 2]: features, then y and x."""
        return self._samples

    def _drawn(self, level: Float[Tensor, "C h w"], stride: int) -> Sample:
        features, places = sample_of(level)
        (top, left), (bottom, right) = self._scene.content[:2], self._scene.content[2:]
        y, x = (((places[:, axis] + 1) * side / 2) for axis, side in enumerate(self._scene.view))
        inside = ((top <= y) & (y < bottom) & (left <= x) & (x < right)).nonzero()[:, 0]
        generator = torch.Generator().manual_seed(self._seed)
        chosen = inside[torch.randperm(len(inside), generator=generator)[:CELLS]]
        return features[chosen.to(features.device)], places[chosen]


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
