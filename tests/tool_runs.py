"""Run tools/train.py and tools/test.py on tiny data, in processes forked after the slow imports."""

import gc
import json
import multiprocessing
import os
import runpy
import signal
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from yapf.yapflib import yapf_api

ROOT = Path(__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
PARTS = product(("mmdet", "mmseg"), ("models", "datasets", "engine", "evaluation"))
PROCESSES.set_forkserver_preload(["mmplugins.engine.launch", *map(".".join, PARTS)])

# Tiny models on a handful of the embedded benchmark's scenes, with every kind of randomness: order,
# augmentation in two workers, drop path, dropout, sampled proposals.
EVERY_ENCODING = "[dict(type=t) for t in ('LearnedAPE', 'PEG', 'IRPE', 'SaPE2')]"
DETECTION = f"""
_base_ = "{ROOT}/configs/mask_rcnn/mask-rcnn_vit-mini16-nope_sfpn_1xb8-6e_synthetic-160x224.py"
model = dict(
    backbone=dict(
        arch=dict(embed_dims=16, depth=2, num_heads=2), out_indices=(1,), drop_path_rate=0.5,
        position_encodings={EVERY_ENCODING},
    ),
    neck=dict(in_channels=16),
    test_cfg=dict(rcnn=dict(score_thr=0.0)),
)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=2, val_interval=2)
val_evaluator = dict(_delete_=True, type="CocoMetric", metric="proposal",
                     ann_file=_base_.val_evaluator.ann_file)
test_evaluator = val_evaluator
"""
SEGMENTATION = f"""
_base_ = "{ROOT}/configs/upernet/vit-mini16-nope_mln_upernet_1xb8-600it_synthetic-160x224.py"
model = dict(
    backbone=dict(
        arch=dict(embed_dims=16, depth=2, num_heads=2), out_indices=(0, 1), drop_path_rate=0.5,
        position_encodings={EVERY_ENCODING},
    ),
    neck=dict(in_channels=[16, 16], scales=[2, 1]),
    decode_head=dict(in_channels=[64, 64], in_index=[0, 1]),
    auxiliary_head=dict(in_index=1),
)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dict(pipeline=train_pipeline))
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="LoadAnnotations", reduce_zero_label=True)],
            [dict(type="PackSegInputs")],
        ],
    ),
]
train_cfg = dict(max_iters=6, val_interval=6)
default_hooks = dict(checkpoint=dict(interval=3))
"""
CLASSIFICATION = f"""
_base_ = "{ROOT}/configs/pretrain/vit-mini16-nope_1xb32-10e_synthetic-64x96.py"
model = dict(
    backbone=dict(
        arch=dict(embed_dims=16, depth=2, num_heads=2), out_indices=(1,), drop_path_rate=0.5,
        position_encodings={EVERY_ENCODING},
    ),
    head=dict(in_channels=16),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=(96, 64)),
    dict(type="RandAugment", policies="timm_increasing", num_policies=2, magnitude_level=9),
    dict(type="RandomErasing", erase_prob=0.5, mode="rand"),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1))
"""

needs_mmpretrain = pytest.mark.skipif(
    find_spec("mmpretrain") is None,
    reason="mmpretrain is not installed: pip install 'mmplugins[pretrain]'",
)


@HOOKS.register_module()
class DieHook(Hook):
    """SIGKILL in the middle of training iteration `at`, counted from 0."""

    def __init__(self, at: int):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Run:
    """How a tool ended: exit code, negative for a signal, and all it said."""

    code: int
    said: str


def run_tool(tool: str, *argv: object, environ: dict[str, str]) -> Run:
    """`python tools/TOOL ARGV...` without the imports' seconds."""
    return start_tool(tool, *argv, environ=environ)()


def start_tool(tool: str, *argv: object, environ: dict[str, str]):
    """Start it; the call of what is returned waits for the end."""
    folder = Path(environ["LOGS"])
    log = folder / f"{len(list(folder.iterdir()))}.log"
    log.touch()
    process = PROCESSES.Process(target=_run, args=(tool, [str(a) for a in argv], environ, log))
    process.start()

    def wait() -> Run:
        process.join()
        return Run(process.exitcode, log.read_text())

    return wait


def _run(tool: str, argv: list[str], environ: dict[str, str], log: Path) -> None:
    """In the new process."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environ)
    gc.freeze()  # what was imported stays, and hosts collect garbage often
    be_script(str(ROOT / "tools" / tool), *argv)


def be_script(file: str, *argv: str) -> None:
    """As `python FILE ARGV...`, but for the layout of configs."""
    # Each run lays its whole config out six times, which takes longer than the training.
    yapf_api.FormatCode = lambda text, **_: (text, False)
    sys.argv = [file, *argv]
    runpy.run_path(file, run_name="__main__")


def scores(work_dir: Path) -> dict[str, float]:
    """The last evaluation of a work dir's newest training or test, NaNs and times left out."""
    logs = [*work_dir.glob("*/vis_data/scalars.json"), *work_dir.glob("*/[0-9]*.json")]
    last = json.loads(max(logs, key=os.path.getmtime).read_text().splitlines()[-1])
    return {
        name: value
        for name, value in last.items()
        if value == value and name not in ("time", "data_time", "step")
    }


if __name__ == "__main__":
    be_script(*sys.argv[1:])
