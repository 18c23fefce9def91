"""tools/train.py and tools/test.py end to end: resuming, two processes, the hosts' own scripts."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.fileio import load
from tool_runs import (
    CLASSIFICATION,
    DETECTION,
    ROOT,
    SEGMENTATION,
    Run,
    needs_mmpretrain,
    run_tool,
    scores,
    start_tool,
)

from mmplugins.datasets.crops import CropOptions, make_crops
from mmplugins.datasets.generate import BenchmarkOptions, make_benchmark

# Which checkpoint a run ends with, which it is killed after, and the iteration that kills it.
CASES = {
    "mask_rcnn": (DETECTION, "epoch_2.pth", "epoch_1.pth", 5),
    "upernet": (SEGMENTATION, "iter_6.pth", "iter_3.pth", 4),
    "pretrain": (CLASSIFICATION, "epoch_2.pth", "epoch_1.pth", 5),
}
PRETRAIN = pytest.param("pretrain", marks=needs_mmpretrain)
AS_SCRIPT = ROOT / "tests" / "tool_runs.py"  # runs the script whose name follows
KILL = "default_hooks.kill.type=DieHook", "custom_imports.imports=[mmplugins,tool_runs]"


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Eight training scenes, and the environment that leads to them."""
    folder = tmp_path_factory.mktemp("tools")
    make_benchmark(folder / "data", BenchmarkOptions(train=8, val=4))
    make_crops(folder / "data" / "classification", CropOptions(train=2, val=1))
    (folder / "logs").mkdir()
    for name, (text, *_) in CASES.items():
        (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return {
        "MMPLUGINS_SYNTHETIC": str(folder / "data"),
        "LOGS": str(folder / "logs"),
        "RUNS": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
    }


@pytest.fixture(scope="module")
def trained(environ: dict[str, str]) -> Callable[[str], Path]:
    """The work dir of a pipeline's uninterrupted training, once for all tests."""

    @cache
    def train(name: str) -> Path:
        work_dir = Path(environ["RUNS"], f"{name}_trained")
        config = work_dir.with_name(f"{name}.py")
        run = run_tool("train.py", config, "--work-dir", work_dir, environ=environ)
        assert run.code == 0, run.said
        return work_dir

    return train


def equal(ours: object, theirs: object) -> bool:
    """Bit for bit, through dicts and lists."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return ours == theirs


@pytest.mark.family
@pytest.mark.parametrize("name", ["mask_rcnn", "upernet", PRETRAIN])
def test_killed_run_resumes_to_the_same_weights(
    name: str, trained: Callable[[str], Path], environ: dict[str, str]
) -> None:
    work_dir = trained(name)
    _, last, survivor, at = CASES[name]
    again = work_dir.with_name(f"{name}_killed")
    command = "train.py", work_dir.with_name(f"{name}.py"), "--work-dir", again
    killed = run_tool(
        *command, "--cfg-options", *KILL, f"default_hooks.kill.at={at}", environ=environ
    )
    assert killed.code == -signal.SIGKILL, killed.said
    assert (again / survivor).exists()
    assert not (again / last).exists()
    resumed = run_tool(*command, "--resume", environ=environ)
    assert resumed.code == 0, resumed.said
    assert "resumed epoch" in resumed.said
    ours, theirs = (torch.load(folder / last, weights_only=False) for folder in (again, work_dir))
    for part in ("state_dict", "optimizer", "param_schedulers"):
        assert equal(ours[part], theirs[part]), part
    moved = torch.load(work_dir / survivor, weights_only=False)["state_dict"]
    assert not equal(moved, theirs["state_dict"])


def test_torchrun_trains_and_scores_like_one_process(environ: dict[str, str]) -> None:
    work_dir = Path(environ["RUNS"], "torchrun")
    config = work_dir.with_name("mask_rcnn.py")
    done = script(
        *("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", free_port()),
        *(AS_SCRIPT, ROOT / "tools" / "train.py", config, "--work-dir", work_dir),
        *("--launcher", "pytorch", "--cfg-options", "train_cfg.max_epochs=1"),
        environ=environ,
    )
    assert done.code == 0, done.said
    assert "find_unused_parameters=False" in done.said
    alone = work_dir.with_name("torchrun_alone")
    run = run_tool(
        "test.py", config, work_dir / "epoch_1.pth", "--work-dir", alone, environ=environ
    )
    assert run.code == 0, run.said
    assert any(value > 0 for value in scores(alone).values())
    assert scores(alone) == scores(work_dir)


def test_two_processes_test_like_one(
    trained: Callable[[str], Path], environ: dict[str, str]
) -> None:
    work_dir = trained("upernet")
    both = work_dir.with_name("upernet_both")
    group = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    command = ["test.py", work_dir.with_name("upernet.py"), work_dir / "iter_6.pth"]
    command += ["--launcher", "pytorch", "--work-dir", both]
    waits = [
        start_tool(*command, environ={**environ, **group, "RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]
    for run in [wait() for wait in waits]:
        assert run.code == 0, run.said
    assert any(value > 0 for value in scores(both).values())
    assert scores(both) == scores(work_dir)


def test_checkpoint_of_another_encoding_is_refused(
    trained: Callable[[str], Path], environ: dict[str, str]
) -> None:
    work_dir = trained("upernet")
    other = "model.backbone.position_encodings.3.type=SinCos2D"  # was SaPE2
    refused = work_dir.with_name("refused")
    command = work_dir.with_name("upernet.py"), work_dir / "iter_6.pth", "--work-dir", refused
    run = run_tool("test.py", *command, "--cfg-options", other, environ=environ)
    assert run.code == 1
    assert "Traceback" not in run.said
    assert f"error: {work_dir / 'iter_6.pth'} is not a checkpoint of this config" in run.said
    assert "backbone.blocks.1.attn.pos.sape2.table_x" in run.said
    # Training may start from what fits, but only when told so.
    config, checkpoint, *rest = command
    options = f"load_from={checkpoint}", "train_cfg.max_iters=1", "train_cfg.val_interval=2", other
    start = "train.py", config, *rest, "--cfg-options", *options
    assert run_tool(*start, environ=environ).code == 1
    run = run_tool(*start, "--partial-checkpoint", environ=environ)
    assert run.code == 0, run.said


def test_detections_are_kept_and_painted(
    trained: Callable[[str], Path], environ: dict[str, str]
) -> None:
    work_dir = trained("mask_rcnn")
    out = work_dir / "detections.pkl"
    command = work_dir.with_name("mask_rcnn.py"), work_dir / "epoch_2.pth", "--work-dir", work_dir
    options = "--out", out, "--show-dir", work_dir / "painted"
    run = run_tool("test.py", *command, *options, environ=environ)
    assert run.code == 0, run.said
    assert [len(image["pred_instances"]["scores"]) > 0 for image in load(out)] == [True] * 4
    assert len(list((work_dir / "painted").iterdir())) == 4


@needs_mmpretrain
def test_classes_are_kept_and_painted(
    trained: Callable[[str], Path], environ: dict[str, str]
) -> None:
    work_dir = trained("pretrain")
    out = work_dir / "classes.pkl"
    command = work_dir.with_name("pretrain.py"), work_dir / "epoch_2.pth", "--work-dir", work_dir
    before = scores(work_dir)
    options = "--out", out, "--show-dir", work_dir / "painted"
    run = run_tool("test.py", *command, *options, environ=environ)
    assert run.code == 0, run.said
    assert scores(work_dir) == before
    assert [tuple(image["pred_score"].shape) for image in load(out)] == [(8,)] * 8
    assert len(list((work_dir / "painted").iterdir())) == 8


def test_labels_of_augmented_tests_are_kept_and_painted(
    trained: Callable[[str], Path], environ: dict[str, str]
) -> None:
    work_dir = trained("upernet")
    config, flipped = work_dir.with_name("upernet.py"), work_dir.with_name("upernet_flipped")
    options = "--tta", "--out", flipped / "labels", "--show-dir", flipped / "painted"
    run = run_tool(
        "test.py", config, work_dir / "iter_6.pth", "--work-dir", flipped, *options, environ=environ
    )
    assert run.code == 0, run.said
    assert len(list((flipped / "labels").glob("*.png"))) == 4
    assert len(list(flipped.glob("painted/**/*.png"))) == 4


@pytest.mark.parametrize(
    ("tool", "options", "said"),
    [
        ("train.py", ["--resume", "none.pth"], "--resume: no such file `none.pth`"),
        ("test.py", ["none.pth"], "checkpoint: no such file `none.pth`"),
        ("test.py", ["none.pth", "--tta"], "--tta needs tta_model and tta_pipeline in"),
        ("test.py", ["none.pth", "--out", "some"], "--out of a detector is a .pkl file"),
        ("train.py", ["--cfg-options", "default_scope=None"], "does not say its default_scope"),
        (
            "train.py",
            ["--cfg-options", "model.backbone.position_encodings.0.type=SaPE3"],
            "error: model: unknown position encoding `SaPE3`; registered: ",
        ),
        (
            "train.py",
            ["--cfg-options", "model.backbone.position_encodings=[dict(type='SaPE2')]"],
            "error: model: position_encodings is a list of dict(type='...', option=...)",
        ),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    tool: str, options: list[str], said: str, environ: dict[str, str]
) -> None:
    work_dir = Path(environ["RUNS"], "nothing")
    config = work_dir.with_name("mask_rcnn.py")
    run = run_tool(tool, config, "--work-dir", work_dir, *options, environ=environ)
    assert run.code == 1
    assert "Traceback" not in run.said
    assert run.said.splitlines()[-1].startswith("error: ")
    assert said in run.said
    assert not work_dir.exists()


def test_missing_data_names_key_path_and_variable(environ: dict[str, str]) -> None:
    config = Path(environ["RUNS"], "mask_rcnn.py")
    elsewhere = {**environ, "MMPLUGINS_SYNTHETIC": "/no/such/root"}
    run = run_tool("train.py", config, "--work-dir", config.parent / "nothing", environ=elsewhere)
    assert run.code == 1
    assert run.said.splitlines()[-1] == (
        "error: train_dataloader.dataset.data_root: `/no/such/root/coco` does not exist. "
        "The environment variable MMPLUGINS_SYNTHETIC is set to `/no/such/root`"
    )


@pytest.mark.family
@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("mask_rcnn", "mmdet"),
        ("upernet", "mmseg"),
        pytest.param("pretrain", "mmpretrain", marks=needs_mmpretrain),
    ],
)
def test_hosts_own_script_trains_a_leaf(name: str, host: str, environ: dict[str, str]) -> None:
    tool = Path(importlib.util.find_spec(host).origin).with_name(".mim") / "tools" / "train.py"
    if not tool.is_file():
        pytest.skip(f"this {host} was installed without its tools")
    work_dir = Path(environ["RUNS"], host)
    short = "train_cfg.max_iters=3" if host == "mmseg" else "train_cfg.max_epochs=1"
    done = script(
        *(AS_SCRIPT, tool, work_dir.with_name(f"{name}.py"), "--work-dir", work_dir),
        *("--cfg-options", short),
        environ=environ,
    )
    assert done.code == 0, done.said
    assert scores(work_dir)


def script(*argv: object, environ: dict[str, str]) -> Run:
    """`python ARGV...` in a process of its own."""
    done = subprocess.run(
        [sys.executable, *map(str, argv)],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Run(done.returncode, done.stdout)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
