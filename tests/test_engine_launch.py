"""What the options of the tools do to a config."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tool_runs import needs_mmpretrain

from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import (
    build_runner,
    configure_testing,
    configure_training,
    load_config,
    testing_parser,
    training_parser,
)
from mmplugins.engine.runner import StrictRunner

CONFIG = """
default_scope = "{scope}"
default_hooks = dict(visualization=dict(type="DetVisualizationHook"))
visualizer = dict(type="DetLocalVisualizer")
optim_wrapper = dict(type="OptimWrapper")
test_evaluator = dict(type="Score")
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config and a checkpoint, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "0")
    (tmp_path / "some.pth").touch()
    return write(tmp_path)


def write(folder: Path, scope: str = "mmdet", more: str = "") -> Path:
    file = folder / "leaf.py"
    file.write_text(CONFIG.format(scope=scope) + more)
    return file


def training(file: Path, *options: str) -> Config:
    return configure_training(training_parser().parse_args([str(file), *options]))


def testing(file: Path, *options: str) -> Config:
    return configure_testing(testing_parser().parse_args([str(file), "some.pth", *options]))


def test_work_dir_of_the_command_line_then_the_config_then_the_name(file: Path) -> None:
    assert training(file).work_dir == "work_dirs/leaf"
    write(file.parent, more="work_dir = 'mine'")
    assert training(file).work_dir == "mine"
    assert training(file, "--work-dir", "yours").work_dir == "yours"


def test_options_of_the_config(file: Path) -> None:
    cfg = training(file, "--cfg-options", "a.b=3", "c=[1,2]", "--launcher", "slurm")
    assert (cfg.a.b, cfg.c, cfg.launcher) == (3, [1, 2], "slurm")


def test_resume(file: Path) -> None:
    assert "resume" not in training(file)
    cfg = training(file, "--resume")
    assert (cfg.resume, cfg.load_from) == (True, None)
    cfg = training(file, "--resume", "some.pth")
    assert (cfg.resume, cfg.load_from) == (True, "some.pth")


def test_amp(file: Path) -> None:
    wrapper = dict(type="AmpOptimWrapper", loss_scale="dynamic")
    assert training(file, "--amp").optim_wrapper == wrapper
    with pytest.raises(InputError, match="--amp needs OptimWrapper, not ApexOptimWrapper"):
        training(file, "--amp", "--cfg-options", "optim_wrapper.type=ApexOptimWrapper")


def test_auto_scale_lr(file: Path) -> None:
    with pytest.raises(InputError, match=r"needs auto_scale_lr.base_batch_size in .*leaf\.py"):
        training(file, "--auto-scale-lr")
    cfg = training(file, "--auto-scale-lr", "--cfg-options", "auto_scale_lr.base_batch_size=4")
    assert cfg.auto_scale_lr == dict(base_batch_size=4, enable=True)


def test_detections_are_dumped_beside_the_metrics(file: Path) -> None:
    dump = dict(type="DumpDetResults", out_file_path="a.pkl")
    assert testing(file, "--out", "a.pkl").test_evaluator == [dict(type="Score"), dump]


@needs_mmpretrain
def test_classes_are_dumped_beside_the_metrics_and_painted(file: Path) -> None:
    write(file.parent, scope="mmpretrain")
    cfg = testing(file, "--out", "a.pkl", "--show-dir", "painted")
    dump = dict(type="DumpResults", out_file_path="a.pkl")
    assert cfg.test_evaluator == [dict(type="Score"), dump]
    hook = dict(type="DetVisualizationHook", enable=True, interval=1, out_dir="painted")
    assert cfg.default_hooks.visualization == hook
    with pytest.raises(InputError, match="--out of a classifier is a"):
        testing(file, "--out", "a.txt")


def test_labels_are_kept_by_the_metric(file: Path) -> None:
    write(file.parent, scope="mmseg")
    kept = [dict(type="Score", output_dir="labels", keep_results=True)]
    assert testing(file, "--out", "labels").test_evaluator == kept


def test_show(file: Path) -> None:
    cfg = testing(file, "--show", "--wait-time", "0.5", "--show-dir", "painted")
    hook = dict(type="DetVisualizationHook", draw=True, interval=1, show=True, wait_time=0.5)
    assert cfg.default_hooks.visualization == {**hook, "test_out_dir": "painted"}
    write(file.parent, scope="mmseg")
    assert testing(file, "--show-dir", "painted").visualizer.save_dir == "painted"
    write(file.parent, more="default_hooks = {}")
    with pytest.raises(InputError, match=r"need default_hooks.visualization in .*leaf\.py"):
        testing(file, "--show")


def test_tta_wraps_the_model(file: Path) -> None:
    write(
        file.parent,
        more="model = dict(type='M')\ntta_model = dict(type='T')\ntta_pipeline = [1]\n"
        "test_dataloader = dict(dataset=dict(type='D', pipeline=[]))",
    )
    cfg = testing(file, "--tta")
    assert cfg.model == dict(type="T", module=dict(type="M"))
    assert cfg.test_dataloader.dataset.pipeline == [1]


def test_scope_is_needed(file: Path) -> None:
    write(file.parent, scope="")
    with pytest.raises(InputError, match=r"default_scope: 'mmdet' or 'mmseg' or 'mmpretrain'$"):
        load_config(training_parser().parse_args([str(file)]))


def test_host_must_be_installed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file.parent, scope="mmpretrain")
    monkeypatch.setitem(sys.modules, "mmpretrain", None)  # as if it were not
    said = (
        r"leaf\.py needs mmpretrain, which is not installed: pip install 'mmplugins\[pretrain\]'$"
    )
    with pytest.raises(InputError, match=said):
        load_config(training_parser().parse_args([str(file)]))


def test_config_must_exist(file: Path) -> None:
    with pytest.raises(InputError, match=r"^config: no such file `none\.py`"):
        load_config(training_parser().parse_args(["none.py"]))


@pytest.mark.parametrize("text", ["a=[dict(b=1,c=2),dict(b=1)]", "a=[(1]", "a"])
def test_options_that_cannot_be_read(file: Path, text: str) -> None:
    with pytest.raises(InputError, match="--cfg-options takes numbers, words and lists of them"):
        training(file, "--cfg-options", text)


@pytest.mark.parametrize("launcher", ["slurm", "mpi"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="these launchers work with GPUs")
def test_launchers_that_need_gpus(file: Path, launcher: str) -> None:
    with pytest.raises(InputError, match=f"--launcher {launcher} needs GPUs"):
        build_runner(training(file, "--launcher", launcher), StrictRunner)


@pytest.mark.parametrize("variable", ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"])
def test_first_process_alone_checks(
    file: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    training(file, "--resume", "none.pth")
    monkeypatch.setenv(variable, "0")
    with pytest.raises(InputError, match=r"no such file `none\.pth`"):
        training(file, "--resume", "none.pth")
