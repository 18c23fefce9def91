"""Checkpoints load without running code from them, by a real Runner in either family."""

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from safetensors.torch import save_file
from torch.serialization import get_safe_globals

from mmplugins.compat import secure_checkpoints

pytestmark = pytest.mark.family


class Line(BaseModel):
    """y = w x + b, trained towards minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(2, 1)

    def forward(self, inputs: list[torch.Tensor], mode: str) -> dict[str, torch.Tensor]:
        assert mode == "loss"
        return {"loss": self.line(torch.stack(inputs)).mean()}


class Points(torch.utils.data.Dataset):
    """Eight points on the diagonal."""

    metainfo: ClassVar[dict] = {"classes": ("point",)}

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"inputs": torch.full((2,), float(index))}


def runner(work_dir: Path, epochs: int, **options: object) -> Runner:
    """Return a real Runner with every kind of state that a checkpoint holds."""
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        experiment_name=f"{work_dir.name}-{epochs}-{len(options)}",
        train_dataloader=dict(
            dataset=Points(), batch_size=2, sampler=dict(type="DefaultSampler", shuffle=True)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1)),
        param_scheduler=[
            dict(type="MultiStepLR", milestones=[1]),
            dict(type="OneCycleLR", eta_max=0.1, total_steps=99, by_epoch=False),
        ],
        custom_hooks=[dict(type="EMAHook")],
        default_scope="mmengine",
        **options,
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    runner(tmp_path, epochs=1).train()
    return tmp_path / "epoch_1.pth"


def test_resume_is_safe_and_leaves_no_trace(checkpoint: Path) -> None:
    allowed = set(get_safe_globals())
    loader = vars(CheckpointLoader)["load_checkpoint"]
    with secure_checkpoints():
        resumed = runner(checkpoint.parent, epochs=2, resume=True)
        resumed.train()
    assert resumed.epoch == 2
    assert len(resumed.message_hub.log_scalars["train/loss"].data[0]) == 8  # of both epochs
    assert set(get_safe_globals()) >= allowed
    assert not any(entry.__module__.startswith("mmengine") for entry in get_safe_globals())
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert vars(CheckpointLoader)["load_checkpoint"] is loader


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_arrays_of_either_numpy_load(tmp_path: Path, module: bytes) -> None:
    saved, file = tmp_path / "saved.pth", tmp_path / "respelt.pth"
    torch.save({"scalar": np.float64(3), "array": np.arange(2)}, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            respelt = re.sub(rb"numpy\._?core\.multiarray", module, source.read(name))
            target.writestr(name, respelt)
    with secure_checkpoints():
        loaded = CheckpointLoader.load_checkpoint(str(file))
    assert loaded["scalar"] == 3
    assert loaded["array"].tolist() == [0, 1]


class Evil:
    """Pickles as a call of the given function."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def load_from(file: Path) -> None:
    load_checkpoint(Line(), str(file))


def load_pretrained(file: Path) -> None:
    model = Line()
    model.init_cfg = dict(type="Pretrained", checkpoint=str(file))
    model.init_weights()


@pytest.mark.parametrize("load", [load_from, load_pretrained])
def test_weights_load(tmp_path: Path, load: Callable[[Path], None]) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": Line().state_dict()}, file)
    with secure_checkpoints():
        load(file)


@pytest.mark.parametrize("load", [load_from, load_pretrained])
def test_code_in_checkpoints_does_not_run(tmp_path: Path, load: Callable[[Path], None]) -> None:
    file, victim = tmp_path / "evil.pth", tmp_path / "victim"
    torch.save({"state_dict": {}, "meta": Evil(os.mkdir, str(victim))}, file)
    with (
        secure_checkpoints(),
        pytest.raises(pickle.UnpicklingError, match=r"evil\.pth.*--trust-checkpoint"),
    ):
        load(file)
    assert not victim.exists()
    with secure_checkpoints(trust=True):
        load(file)
    assert victim.exists()


def test_getattr_reaches_log_methods_only(tmp_path: Path) -> None:
    file = tmp_path / "evil.pth"
    torch.save({"meta": Evil(getattr, HistoryBuffer, "__init__")}, file)
    with secure_checkpoints(), pytest.raises(pickle.UnpicklingError, match="trust"):
        CheckpointLoader.load_checkpoint(str(file))


def test_missing_checkpoint_is_named() -> None:
    with secure_checkpoints(), pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        CheckpointLoader.load_checkpoint("nowhere.pth")


def test_safetensors_load_as_well(tmp_path: Path) -> None:
    weights = {"line.weight": torch.ones(1, 2), "line.bias": torch.zeros(1)}
    save_file(weights, tmp_path / "weights.safetensors")
    model = Line()
    with secure_checkpoints():
        load_checkpoint(model, str(tmp_path / "weights.safetensors"), strict=True)
    torch.testing.assert_close(dict(model.state_dict()), weights)
