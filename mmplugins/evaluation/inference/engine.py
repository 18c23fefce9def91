"""The one pass: a model looks at every view of every image, once, and leaves records.

All views of an image have one size and form batches. Which images a process looks at follows from
its rank and their numbers alone, and a batch holds views of one image, so that records depend
neither on how many processes there are, nor on what was done before.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmplugins.attention import SelfAttention
from mmplugins.evaluation.features.levels import watching
from mmplugins.evaluation.inference.padding import padding_told
from mmplugins.evaluation.inference.pictures import Picture, Pictures
from mmplugins.evaluation.plan import Plan, Scene
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.predictions.run_lengths import encoded
from mmplugins.evaluation.record import Objects, Record
from mmplugins.visualise.record import LayerInput, recording

Truth = Objects | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model made of one view.

    Attributes:
        levels: feature maps, [C, h, w]; none where nobody asked for them.
        layers: what attention was given, of the whole batch; of the reference view's pass alone.
        sample: the host's prediction.
    """

    levels: Mapping[str, Tensor]
    layers: Mapping[SelfAttention, LayerInput]
    sample: BaseDataElement


@dataclass
class Stopwatch:
    """Adds up seconds."""

    seconds: float = 0.0

    @contextmanager
    def running(self, device: str = "cpu") -> Iterator[None]:
        """While it lasts; all that a GPU was asked to do is waited for."""
        started = time.perf_counter()
        yield
        if device == "cuda":
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - started


class Observer(Protocol):
    """Adds up, view by view, what a record cannot keep."""

    def reference(self, seen: Seen) -> None:
        """The first view."""

    def shifted(self, number: int, seen: Seen) -> None:
        """The view of shift `number`."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What it adds up to, by name."""


class Observers(Protocol):
    """Makes the observers of one image."""

    def __call__(self, picture: Picture, scene: Scene, truth: Truth) -> Sequence[Observer]:
        """Of a picture."""


@dataclass(frozen=True, eq=False)
class Engine:
    """A model, and how it looks at pictures.

    Attributes:
        model: in evaluation mode, on its device.
        pictures: of the test dataset.
        plan: the views.
        observers: of an image.
        features: whether feature maps are asked for.
        batch_size: views at a time.
        amp: in mixed precision.
        stopwatch: how long the model itself took.
    """

    model: nn.Module
    pictures: Pictures
    plan: Plan
    observers: Observers = lambda picture, scene, truth: ()
    features: bool = True
    batch_size: int = 1
    amp: bool = False
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def look(self, index: int) -> Record:
        """Look at all views of an image, once."""
        picture = self.pictures[index]
        scene = self.plan.scene(*picture.pixels.shape[-2:])
        truth = self.pictures.truth(picture, scene)
        observers = self.observers(picture, scene, truth)
        found = []
        for number, seen in enumerate(self.seen(picture, scene)):
            for observer in observers:
                if number == 0:
                    observer.reference(seen)
                else:
                    observer.shifted(number - 1, seen)
            origin = self._origin(scene, number)
            found.append(prediction(seen.sample, origin))
        labels = isinstance(found[0], np.ndarray)
        return Record(
            image=picture.image,
            scene=scene,
            scale=picture.scale,
            views=np.stack(found) if labels else found,
            truth=truth,
            sums={n: a for observer in observers for n, a in observer.arrays().items()},
        )

    @torch.no_grad()
    def seen(self, picture: Picture, scene: Scene, *, reference: bool = False) -> Iterator[Seen]:
        """What the model makes of each view, one after another, or of the reference alone."""
        views = self.plan.views(picture.pixels, fill_of(self.model))
        valid = self.plan.valid(*picture.pixels.shape[-2:])
        if reference:
            views, valid = views[:1], valid and valid[:1]
        watched = watching(self.model) if self.features else nullcontext({})
        with watched as levels, recording(self.model) as layers:
            for start in range(0, len(views), self.batch_size):
                part = slice(start, start + self.batch_size)
                samples = self.run(views[part], valid and valid[part], scene)
                first = dict(layers) if start == 0 else {}
                layers.clear()
                # All at once: whoever is given one may let the model run in between.
                yield from [
                    Seen({n: level[row] for n, level in levels.items()}, first, sample)
                    for row, sample in enumerate(samples)
                ]

    def run(
        self, views: Sequence[Tensor], valid: Sequence[Tensor] | None, scene: Scene
    ) -> list[BaseDataElement]:
        """The host's predictions of some views, in pixels of the network's input."""
        top, left, bottom, right = scene.content
        # A DETR that is told of its padding finds boxes in the content alone, see padding.py.
        size = scene.view if valid is None else (bottom - top, right - left)
        info = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
        samples = [self.pictures.sample(info) for _ in views]
        told = nullcontext() if valid is None else padding_told(self.model, valid)
        device = next(self.model.parameters()).device.type
        mixed = torch.autocast(device, enabled=self.amp)
        with told, mixed, self.stopwatch.running(device):
            return self.model.test_step(dict(inputs=list(views), data_samples=samples))

    def _origin(self, scene: Scene, number: int) -> tuple[int, int]:
        """Where in the view of `number` the host's coordinates have their (0, 0)."""
        if self.plan.mode != "masked_canvas":
            return 0, 0
        dy, dx = ((0, 0), *self.plan.shifts)[number]
        return scene.content[0] + int(dy), scene.content[1] + int(dx)


def fill_of(model: nn.Module) -> Tensor | None:
    """[C] the mean of a model's normalisation, in the order of channels of its input."""
    preprocessor = model.data_preprocessor
    mean = getattr(preprocessor, "mean", None)
    if mean is None:
        return None
    mean = mean.flatten().cpu()
    return mean.flip(0) if getattr(preprocessor, "_channel_conversion", False) else mean


def prediction(sample: BaseDataElement, origin: tuple[int, int]) -> Detections | np.ndarray:
    """The host's prediction as arrays: a label map, or detections moved to `origin`."""
    if "pred_sem_seg" in sample:
        return sample.pred_sem_seg.data[0].to(torch.uint8).cpu().numpy()
    found = sample.pred_instances
    top, left = origin
    masks = None
    if "masks" in found and not any(origin):
        masks = encoded(torch.as_tensor(found.masks).cpu().numpy())
    return Detections(
        found.bboxes.double().cpu().numpy() + np.array([left, top, left, top]),
        found.scores.double().cpu().numpy(),
        found.labels.cpu().numpy(),
        masks,
    )
