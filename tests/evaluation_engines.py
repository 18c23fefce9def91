"""Engines of tiny models that look at the embedded benchmark, here and in other processes."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config
from tool_runs import DETECTION, SEGMENTATION

from mmplugins.datasets.generate import BenchmarkOptions, make_benchmark
from mmplugins.evaluation import inference
from mmplugins.evaluation.inference.cache import Cache
from mmplugins.evaluation.inference.calibration import MEAN, calibrate
from mmplugins.evaluation.inference.engine import Engine
from mmplugins.evaluation.inference.observers import Observing
from mmplugins.evaluation.inference.passes import join, run_pass
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.progress import Bars
from mmplugins.visualise.look import build_model

CONFIGS = {"mask_rcnn": DETECTION, "upernet": SEGMENTATION}
PERIOD = 32
PLAN = Plan(
    "canvas",
    (ShiftSet("pgrid", ((32, 0), (-32, 32))), ShiftSet("sub", ((0, 5),))),
    PERIOD,
    divisor=2 * PERIOD,  # the border of the canvas stays away from the content
)


def make_data(folder: Path, images: int = 4) -> Path:
    """The benchmark, and the configs beside it."""
    make_benchmark(folder / "data", BenchmarkOptions(train=1, val=images))
    for name, text in CONFIGS.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def config(folder: Path, name: str, encodings: list | None = None) -> Config:
    """Of a tiny model; with the encodings that it has, or with others."""
    os.environ["MMPLUGINS_SYNTHETIC"] = str(folder / "data")
    cfg = Config.fromfile(folder / f"{name}.py")
    if encodings is not None:
        cfg.model.backbone.position_encodings = encodings
    return cfg


def engine(cfg: Config, plan: Plan = PLAN, **options: object) -> Engine:
    """Of a model with random weights, always the same."""
    return Engine(build_model(cfg), Pictures(cfg), plan, **options)


def observing(looking: Engine, **options: bool) -> Engine:
    """The same, which adds up features, too."""
    known = {name: torch.from_numpy(array) for name, array in calibrate(looking).items()}
    means = {n.removeprefix(MEAN): mean.float() for n, mean in known.items() if n.startswith(MEAN)}
    return replace(looking, observers=Observing(looking.model, looking.plan, means, **options))


class Dying(Bars):
    """Is killed when it should show how far image `at` is, counted from 0."""

    def __init__(self, at: int):
        super().__init__(quiet=True)
        self._at = at

    def track(self, things: list, what: str, unit: str) -> Iterator:
        for number, thing in enumerate(things):
            if number == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield thing


def whole_pass(folder: Path, out: Path, environ: dict[str, str], die: int = -1) -> None:
    """In a process of its own, perhaps one of several: a segmenter's pass over all images."""
    os.environ.update(environ)
    torch.set_num_threads(1)
    inference.calibration.IMAGES = 2  # fewer pictures to know the mean features from
    join("pytorch" if "RANK" in environ else "none")
    looking = observing(engine(config(folder, "upernet")), affinity=True)
    everything = range(len(looking.pictures))
    run_pass(looking, Cache(out, {}), everything, Dying(die), "looking")
