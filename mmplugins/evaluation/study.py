"""One recipe's study: views of every test image, and records of every checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal
from typing import Protocol as Interface

import torch
from mmengine import dist
from mmengine.config import Config
from torch import Tensor, nn

from mmplugins.disk import file_hash
from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.cache import KEY, read_key
from mmplugins.evaluation.inference.calibration import MEAN, calibrate
from mmplugins.evaluation.inference.engine import Engine, Stopwatch
from mmplugins.evaluation.inference.observers import Observing
from mmplugins.evaluation.inference.passes import device_of, run_pass
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.inference.subset import subset
from mmplugins.evaluation.outcome import Rival
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results.provenance import config_hash
from mmplugins.evaluation.runs import CALIBRATION, Run, RunKey
from mmplugins.evaluation.sizes import AnyPlan
from mmplugins.visualise.look import build_model

Again = Literal["repeat", "amp"]
AGAIN: tuple[Again, ...] = ("repeat", "amp")  # for a noise floor: the same, or in mixed precision


class Protocol(Interface):
    """What is done to every model alike: `ShiftProtocol` or `SizeProtocol`.

    Attributes:
        subset: how many images, or which; all without.
        seed: of the subset.
        amp: in mixed precision.
    """

    subset: int | tuple[str, ...] | None
    seed: int
    amp: bool

    @property
    def observed(self) -> tuple[str, ...]:
        """What the pass has to add up."""

    def check(self, pictures: Pictures) -> None:
        """Refuse data that cannot be measured like this, by an InputError."""

    def plan(self, model: nn.Module, pictures: Pictures) -> AnyPlan:
        """The views, or an InputError."""


@dataclass(frozen=True)
class Recipe:
    """A config and its data, under a protocol, and where the records of its checkpoints lie.

    Attributes:
        cfg: of the model and its test data.
        pictures: its test data.
        protocol: what is done.
        folder: of the records.
        bars: show how far it is.
        trust: let checkpoints run code.
        batch_size: views at a time; 1 on a CPU and 8 elsewhere, without.
        rivals: to compare with, which must be of the same views and images.
        stopwatch: how long the models themselves took, to look at every view once.
    """

    cfg: Config
    pictures: Pictures
    protocol: Protocol
    folder: Path
    bars: Bars
    trust: bool = False
    batch_size: int | None = None
    rivals: Sequence[Rival] = ()
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self):
        self.protocol.check(self.pictures)

    @cached_property
    def indices(self) -> list[int]:
        """Numbers of the images of the subset."""
        pictures, protocol = self.pictures, self.protocol
        return subset(pictures.ids, protocol.subset, seed=protocol.seed, strata=pictures.strata)

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Of images by their numbers."""
        return [self.pictures.ids[index] for index in indices]

    def run(self, checkpoint: str, indices: Sequence[int], *, again: Again | None = None) -> Run:
        """Let a checkpoint look at images, as far as it has not yet; all processes together.

        Args:
            checkpoint: file.
            indices: numbers of the images.
            again: for a noise floor, into a folder of its own: the same, or in mixed precision
                where that is not asked for, and in single where it is.

        Raises:
            InputError: an image that is too small, records of something else, or rivals of other
                views or images.
        """
        device = device_of()
        model = build_model(self.cfg, checkpoint, device=device, trust=self.trust)
        plan = self.protocol.plan(model, self.pictures)
        self._check_sizes(plan, indices)
        for rival in self.rivals:
            rival.check(plan, self.ids(self.indices), self.pictures.fingerprint)
        digest, amp = file_hash(checkpoint), self.protocol.amp != (again == "amp")
        name = digest[:12] + (f"-{again}" if again else "")
        observed = self._observed(self.folder / name)
        key = RunKey(
            model=config_hash(Config(dict(model=self.cfg.model))),
            data=config_hash(Config(dict(data=self.cfg.test_dataloader.dataset))),
            checkpoint=digest,
            plan=plan,
            classes=tuple(self.pictures.classes),
            detection=self.pictures.detection,
            observed=observed,
            amp=amp,
            truth=self.pictures.fingerprint,
        )
        run = Run.of(self.folder / name, key)
        batch_size = self.batch_size or (1 if device == "cpu" else 8)
        engine = Engine(
            model,
            self.pictures,
            plan,
            features=bool(observed),
            batch_size=batch_size,
            amp=amp,
            stopwatch=Stopwatch() if again else self.stopwatch,
        )
        if observed:
            means = self._means(run, engine) if "feat" in observed else {}
            observing = Observing(model, plan, means, "affinity" in observed, "lie" in observed)
            engine = replace(engine, observers=observing)
        run_pass(engine, run.cache, indices, self.bars, name)
        return run

    def _observed(self, folder: Path) -> tuple[str, ...]:
        """What the records to come add up: as those that are there, which may know more."""
        wanted = self.protocol.observed
        known = read_key(folder).get("observed", ()) if (folder / KEY).is_file() else ()
        return tuple(known) if {*wanted} < {*known} else wanted

    def _means(self, run: Run, engine: Engine) -> dict[str, Tensor]:
        """Of all levels, made by one process and read by all."""
        if dist.is_main_process():
            apart = replace(engine, stopwatch=Stopwatch())  # no pass that the study is made of
            run.cache.arrays(CALIBRATION, lambda: calibrate(apart))
        dist.barrier()
        known = run.cache.arrays(CALIBRATION)
        parameter = next(engine.model.parameters())
        return {
            name.removeprefix(MEAN): torch.from_numpy(mean).to(parameter)
            for name, mean in known.items()
            if name.startswith(MEAN)
        }

    def _check_sizes(self, plan: AnyPlan, indices: Sequence[int]) -> None:
        """Refuse pictures that are too small, before the first is looked at."""
        if plan.fits_all:
            return
        for index in self.bars.track(indices, "sizes", "image"):
            picture = self.pictures[index]
            try:
                plan.check(*picture.pixels.shape[-2:])
            except ValueError as error:
                raise InputError(f"image {picture.image}: {error}") from error
