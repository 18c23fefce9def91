"""One recipe's study: views of every test image, records of every checkpoint, and the results."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import lcm
from pathlib import Path
from typing import Literal

import torch
from mmengine import dist
from mmengine.config import Config
from torch import Tensor, nn

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.features.levels import (
    equivariance_period,
    feature_levels,
    level_strides,
)
from mmplugins.evaluation.inference.cache import KEY, read_key
from mmplugins.evaluation.inference.calibration import MEAN, calibrate
from mmplugins.evaluation.inference.engine import Engine, Stopwatch
from mmplugins.evaluation.inference.observers import Observing
from mmplugins.evaluation.inference.padding import check_told
from mmplugins.evaluation.inference.passes import device_of, run_pass
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.inference.subset import subset
from mmplugins.evaluation.outcome import Rival
from mmplugins.evaluation.plan import Fill, Plan, ShiftSet, select
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results.provenance import config_hash, file_hash
from mmplugins.evaluation.runs import CALIBRATION, LEVELS, Run, RunKey
from mmplugins.evaluation.shifts import Mode, shift_set
from mmplugins.visualise.look import build_model

Again = Literal["repeat", "amp"]
AGAIN: tuple[Again, ...] = ("repeat", "amp")  # for a noise floor: the same, or in mixed precision
# Of an empty picture that strides are read from. Powers of two first: 448 pixels make 4 cells of a
# stride of 128, as of one of 112.
SIDES = (512, 896)
PADDING = 32  # what data preprocessors pad to; views are multiples of it


@dataclass(frozen=True)
class Protocol:
    """What is done to every model alike; `tools/equivariance.py --help` tells of each.

    Raises:
        InputError: options that do not go together.
    """

    mode: Mode = "canvas"
    shifts: tuple[str, ...] = ("pgrid", "sub")
    levels: tuple[str, ...] = ("feat", "pred", "task")
    subset: int | tuple[str, ...] | None = None
    seed: int = 0
    period: int | None = None
    max_shift: float = 128
    count: int = 16
    edge: int | None = None
    fill: Fill = "mean"
    amp: bool = False

    def __post_init__(self):
        for option in ("shifts", "levels"):
            if not getattr(self, option):
                raise InputError(f"--{option}: name one at least")
        if unknown := [level for level in self.levels if level not in LEVELS]:
            raise InputError(f"--levels: no `{unknown[0]}`; there are {', '.join(LEVELS)}")
        if "frac" in self.shifts and self.mode != "roll":
            raise InputError("--shifts frac: fractions of a pixel need --mode roll")
        if "lie" in self.levels and "feat" not in self.levels:
            raise InputError("--levels lie is of features: name feat, too")
        if "lie" in self.levels and self.mode == "masked_canvas":
            raise InputError("--levels lie rolls pictures, padding and all: use another --mode")

    @property
    def observed(self) -> tuple[str, ...]:
        """What the pass has to add up."""
        return tuple(level for level in ("feat", "affinity", "lie") if level in self.levels)


def make_plan(protocol: Protocol, model: nn.Module, pictures: Pictures) -> Plan:
    """The views that a protocol asks of a model.

    Raises:
        InputError: no shift is left of a set, or the options do not go together.
    """
    if protocol.mode == "masked_canvas":
        check_told(model)
    strides = _strides(protocol, model, pictures)
    period = protocol.period or equivariance_period(model, strides)
    sets = []
    for name in protocol.shifts:
        side = min(pictures[0].pixels.shape[-2:])
        try:
            every = shift_set(
                name, period=period, side=side, count=protocol.count, seed=protocol.seed
            )
        except ValueError as error:
            raise InputError(f"--shifts: {error}") from error
        kept = select(dict.fromkeys(shift for shift in every if any(shift)), protocol.max_shift)
        if not kept:
            raise InputError(
                f"--shifts {name}: the period is {period} pixels, and no shift is within "
                f"--max-shift {protocol.max_shift:g}: raise it, or name another --period"
            )
        sets.append(ShiftSet(name, kept))
    edge = protocol.edge
    if edge is None:
        edge = 16 if protocol.mode == "window" else 0
    divisor = lcm(period, PADDING, *(stride for stride in strides.values() if stride))
    try:
        return Plan(protocol.mode, tuple(sets), period, divisor, edge, protocol.fill)
    except ValueError as error:
        raise InputError(str(error)) from error


def _strides(protocol: Protocol, model: nn.Module, pictures: Pictures) -> dict[str, int | None]:
    """Where they are needed: to compare features, and to know the period."""
    if protocol.period and not protocol.observed:
        return {}
    try:
        return strides_of(model, pictures)
    except InputError as error:
        if protocol.observed:
            raise
        raise InputError(
            f"the period of {type(model).__name__}, which looks at a picture in several crops, is "
            "not known: name a --period in pixels"
        ) from error


def strides_of(model: nn.Module, pictures: Pictures) -> dict[str, int | None]:
    """Pixels of a cell of every level, read from an empty picture."""
    for side in SIDES:
        sample = pictures.sample(
            dict(img_shape=(side, side), ori_shape=(side, side), scale_factor=(1.0, 1.0))
        )
        data = model.data_preprocessor(
            dict(inputs=[torch.zeros(3, side, side)], data_samples=[sample])
        )
        levels = feature_levels(model, data["inputs"], data["data_samples"])
        strides = level_strides(levels, (side, side))
        if all(strides.values()):
            break
    return strides


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
        rolled = self.protocol.mode == "roll" and self.pictures.detection
        if rolled and {"pred", "task"} & {*self.protocol.levels}:
            raise InputError(
                "--mode roll cuts objects in two at the border: measure a detector with "
                "--levels feat there, or in --mode canvas or window"
            )

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
        plan = make_plan(self.protocol, model, self.pictures)
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
        means = self._means(run, engine) if "feat" in observed else {}
        observing = Observing(model, plan, means, "affinity" in observed, "lie" in observed)
        run_pass(replace(engine, observers=observing), run.cache, indices, self.bars, name)
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

    def _check_sizes(self, plan: Plan, indices: Sequence[int]) -> None:
        """Refuse pictures that are too small, before the first is looked at."""
        if plan.mode == "canvas" and plan.fill == "mean" and not plan.edge:
            return  # any fits
        for index in self.bars.track(indices, "sizes", "image"):
            picture = self.pictures[index]
            try:
                plan.scene(*picture.pixels.shape[-2:])
            except ValueError as error:
                raise InputError(f"image {picture.image}: {error}") from error
