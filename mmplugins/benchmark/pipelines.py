"""Cost of each encoding in its pipeline: time and peak memory of training steps and of inference.

All encodings of a pipeline are measured in one process, in turn, round after round, so that a
machine whose speed drifts treats them alike; what counts are ratios to the model without encoding.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmplugins.benchmark.cases import BASELINE
from mmplugins.benchmark.memory import own_pages, peak_bytes
from mmplugins.benchmark.timing import seconds
from mmplugins.compat import allow_mmseg_bases


@dataclass(frozen=True)
class Pipeline:
    """A family of configs that differ in the encoding, and the size that it really runs at."""

    configs: str  # path below configs/, with {} for the encoding
    height: int
    width: int
    batch_size: int


PIPELINES = {
    "detr": Pipeline("detr/detr_r50-{}_8xb2-150e_coco.py", 800, 1216, 1),
    "mask_rcnn": Pipeline("mask_rcnn/mask-rcnn_vit-s16-{}_sfpn_8xb2-1x_coco.py", 1024, 1024, 1),
    "upernet": Pipeline("upernet/vit-s16-{}_mln_upernet_8xb2-160k_ade20k-512x512.py", 512, 512, 2),
}


@dataclass
class Cost:
    """What one model costs: seconds of each round, and peak bytes beyond what it holds at rest."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None


Costs = dict[str, dict[str, Cost]]  # encoding -> "train" or "test" -> cost


def measure(
    pipeline: Pipeline,
    encodings: Sequence[str],
    *,
    configs: Path,
    batch_size: int | None = None,
    rounds: int = 3,
    scale: float = 1.0,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
) -> Costs:
    """Time and peak memory of each of `encodings` in `pipeline`, after one round to warm up.

    Args:
        pipeline: what to measure.
        encodings: names as in the config files; the baseline comes first whatever the order.
        configs: folder of the configs.
        batch_size: images a step, if not those of the pipeline.
        rounds: steps of each kind that count.
        scale: of the image's sides; 1 is the real size.
        device: where to run.
        progress: called with what is measured next.
    """
    encodings = [BASELINE, *(name for name in encodings if name != BASELINE)]
    steps = {}
    for name in encodings:
        progress(f"build {name}")
        cfg = load(configs / pipeline.configs.format(name))
        steps[name] = make_steps(
            cfg, pipeline, batch_size=batch_size or pipeline.batch_size, scale=scale, device=device
        )
    costs: Costs = {name: {kind: Cost() for kind in steps[name]} for name in encodings}
    cells = [(name, kind) for name in costs for kind in costs[name]]
    for number in range(rounds + 1):
        for name, kind in cells:
            progress(f"{f'round {number} of {rounds}' if number else 'warm up'}: {name} {kind}")
            step, cost = steps[name][kind], costs[name][kind]
            if number:
                cost.seconds.append(seconds(step, device))
            else:
                with own_pages():
                    step()
                    cost.peak_bytes = peak_bytes(step, device)
    return costs


def load(path: Path) -> Config:
    """A config that needs no download.

    Raises:
        FileNotFoundError: there is no config for this encoding.
    """
    allow_mmseg_bases()
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    return cfg


def make_steps(
    cfg: Config, pipeline: Pipeline, *, batch_size: int, scale: float, device: str
) -> dict[str, Callable[[], None]]:
    """A training step with the config's optimiser, and inference, of one model on random data."""
    import_module(f"{cfg.default_scope}.models")
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    height, width = (round(side * scale / 32) * 32 for side in (pipeline.height, pipeline.width))
    if "size" in cfg.model.data_preprocessor:  # mmseg fills training images up to it
        cfg.model.data_preprocessor.size = (height, width)
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).to(device)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    data = random_batch(cfg, batch_size=batch_size, height=height, width=width)

    def train():
        model.train()
        model.train_step(data(), optimizer)

    @torch.no_grad()
    def test():
        model.eval()
        model.test_step(data())

    return {"train": train, "test": test}


def random_batch(cfg: Config, *, batch_size: int, height: int, width: int) -> Callable[[], dict]:
    """A maker of one batch as the host's data loader gives it; steps may change what they get."""
    if cfg.default_scope == "mmseg":
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        generator = torch.Generator().manual_seed(0)
        shape = batch_size, height, width
        images = torch.randint(256, (batch_size, 3, *shape[1:]), generator=generator).byte()
        labels = torch.randint(cfg.model.decode_head.num_classes, shape, generator=generator)
        size = dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), shape[1:])

        def make():
            samples = [SegDataSample(metainfo=dict(size)) for _ in labels]
            for sample, label in zip(samples, labels, strict=True):
                sample.gt_sem_seg = PixelData(data=label[None])
            return dict(inputs=list(images), data_samples=samples)

        return make
    from mmdet.testing import demo_mm_inputs

    return lambda: demo_mm_inputs(
        batch_size, [(3, height, width)] * batch_size, num_classes=80, with_mask=True
    )


def to_rows(pipeline: str, costs: Costs) -> Iterator[dict]:
    """One flat record for each model and kind of step, with its ratios to the baseline."""
    for name, kinds in costs.items():
        for kind, cost in kinds.items():
            base = costs[BASELINE][kind]
            yield dict(
                pipeline=pipeline,
                encoding=name,
                step=kind,
                seconds=cost.seconds,
                peak_bytes=cost.peak_bytes,
                time_ratio=statistics.median(
                    a / b for a, b in zip(cost.seconds, base.seconds, strict=True)
                ),
                memory_ratio=cost.peak_bytes / base.peak_bytes if base.peak_bytes else None,
            )


def to_markdown(rows: Sequence[dict]) -> str:
    """Ratios to the baseline, one line for each model."""
    lines = [
        "| pipeline | encoding | training step: time | memory | inference: time | memory |",
        "|---|---|---|---|---|---|",
    ]
    cells = {(row["pipeline"], row["encoding"], row["step"]): row for row in rows}
    for pipeline, encoding in dict.fromkeys((row["pipeline"], row["encoding"]) for row in rows):
        ratios = []
        for step in ("train", "test"):
            row = cells[pipeline, encoding, step]
            ratios.append(f"{row['time_ratio']:.2f}")
            ratios.append("-" if row["memory_ratio"] is None else f"{row['memory_ratio']:.2f}")
        lines.append(f"| {pipeline} | {encoding} | {' | '.join(ratios)} |")
    return "\n".join(lines)
