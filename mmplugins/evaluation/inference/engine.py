"""The one pass: a model looks at every view of every image, once, and leaves records.

Views of one size form batches. Which images a process looks at follows from its rank and their
numbers alone, and a batch holds views of one image, so that records depend neither on how many
processes there are, nor on what was done before.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Shaped
from mmengine.config import ConfigDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmplugins.attention import SelfAttention
from mmplugins.evaluation.features.levels import watching
from mmplugins.evaluation.inference.padding import padding_told
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.predictions.label_maps import IGNORED
from mmplugins.evaluation.predictions.run_lengths import encoded
from mmplugins.evaluation.record import Objects, Record
from mmplugins.evaluation.sizes import AnyPlan
from mmplugins.evaluation.views import Picture, View
from mmplugins.visualise.record import LayerInput, recording

Truth = Objects | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model made of one view.

    Attributes:
        levels: feature maps, [C, h, w]; none where nobody asked for them.
        layers: what attention was given, of the whole batch; of the reference view's pass alone.
        sample: the host's prediction.
        view: what it was shown.
    """

    levels: Mapping[str, Tensor]
    layers: Mapping[SelfAttention, LayerInput]
    sample: BaseDataElement
    view: View


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
    plan: AnyPlan
    observers: Observers = lambda picture, scene, truth: ()
    features: bool = True
    batch_size: int = 1
    amp: bool = False
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def look(self, index: int) -> Record:
        """Look at all views of an image, once."""
        picture = self.plan.prepared(self.pictures[index])
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
            found.append(prediction(seen.sample, seen.view))
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
        views = self.plan.looks(picture, fill_of(self.model))[: 1 if reference else None]
        watched = watching(self.model) if self.features else nullcontext({})
        with watched as levels, recording(self.model) as layers:
            for number, batch in enumerate(batches(views, self.batch_size)):
                samples = self.run(batch)
                first = dict(layers) if number == 0 else {}
                layers.clear()
                # All at once: whoever is given one may let the model run in between.
                yield from [
                    Seen({n: level[row] for n, level in levels.items()}, first, sample, view)
                    for row, (sample, view) in enumerate(zip(samples, batch, strict=True))
                ]

    def run(self, views: Sequence[View]) -> list[BaseDataElement]:
        """The host's predictions of some views of one size, in the size that each asks for."""
        infos = (
            dict(img_shape=view.shown, ori_shape=view.size, scale_factor=_factor(view))
            for view in views
        )
        samples = [self.pictures.sample(info) for info in infos]
        valid = [view.valid for view in views]
        told = nullcontext() if valid[0] is None else padding_told(self.model, valid)
        device = next(self.model.parameters()).device.type
        mixed = torch.autocast(device, enabled=self.amp)
        otherwise = testing(self.model, views[0].test_cfg)
        with told, otherwise, mixed, self.stopwatch.running(device):
            inputs = [view.pixels for view in views]
            return self.model.test_step(dict(inputs=inputs, data_samples=samples))


def batches(views: Iterable[View], most: int) -> Iterator[list[View]]:
    """Views in their order, neighbours together that one pass can look at."""
    alike = groupby(views, lambda view: (view.pixels.shape, view.test_cfg, view.valid is None))
    for _, group in alike:
        while batch := list(islice(group, most)):
            yield batch


@contextmanager
def testing(model: nn.Module, test_cfg: Mapping[str, Any]) -> Iterator[None]:
    """While it lasts, a segmenter is tested otherwise: on the whole picture, or on crops of it."""
    before = getattr(model, "test_cfg", None)
    if not test_cfg or "mode" not in (before or {}):
        yield
        return
    model.test_cfg = ConfigDict({**before, **test_cfg})
    try:
        yield
    finally:
        model.test_cfg = before


def _factor(view: View) -> tuple[float, float]:
    (height, width), (to_height, to_width) = view.shown, view.size
    return width / to_width, height / to_height


def fill_of(model: nn.Module) -> Tensor | None:
    """[C] the mean of a model's normalisation, in the order of channels of its input."""
    preprocessor = model.data_preprocessor
    mean = getattr(preprocessor, "mean", None)
    if mean is None:
        return None
    mean = mean.flatten().cpu()
    return mean.flip(0) if getattr(preprocessor, "_channel_conversion", False) else mean


def prediction(sample: BaseDataElement, view: View) -> Detections | np.ndarray:
    """The host's prediction as arrays in the record's coordinates: a label map, or detections."""
    top, left = view.origin
    if "pred_sem_seg" in sample:
        labels = sample.pred_sem_seg.data[0].to(torch.uint8).cpu().numpy()
        return labels if view.frame is None else _placed(labels, view, outside=IGNORED)
    found = sample.pred_instances
    masks = None
    if "masks" in found:
        drawn = torch.as_tensor(found.masks).cpu().numpy()
        if view.frame is not None:
            masks = encoded(_placed(drawn, view, outside=0))
        elif not any(view.origin):
            masks = encoded(drawn)
    return Detections(
        found.bboxes.double().cpu().numpy() + np.array([left, top, left, top]),
        found.scores.double().cpu().numpy(),
        found.labels.cpu().numpy(),
        masks,
    )


def _placed(
    maps: Shaped[np.ndarray, "*n h w"], view: View, *, outside: int
) -> Shaped[np.ndarray, "*n H W"]:
    """Maps put into the frame at the view's origin; what lies beyond is cut off."""
    result = np.full((*maps.shape[:-2], *view.frame), outside, maps.dtype)
    to, of = [], []
    for at, side, whole in zip(view.origin, maps.shape[-2:], view.frame, strict=True):
        start, stop = (min(max(end, 0), whole) for end in (at, at + side))
        to.append(slice(start, stop))
        of.append(slice(start - at, stop - at))
    result[..., to[0], to[1]] = maps[..., of[0], of[1]]
    return result
