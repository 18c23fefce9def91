"""What steps hold is counted and foretold, in processes that end with who asked for them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmplugins.benchmark import comparison
from mmplugins.benchmark.cases import STRAIGHTFORWARD, Row, Shape
from mmplugins.benchmark.comparison import Cell, Setting
from mmplugins.benchmark.layers import Layer
from mmplugins.benchmark.memory import foretold_bytes, peak_bytes

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux alone counts the peak"
)


def test_memory_is_foretold_without_running():
    x = torch.randn(500, 500, requires_grad=True)  # 1 MB
    ran = []

    def step():
        out = (x.exp().sin() * 2).sum()  # exp and sin and their product live at once
        ran.append(type(out))
        torch.autograd.grad(out, x)

    assert 3e6 <= foretold_bytes(step) < 4.1e6
    assert ran != [torch.Tensor]
    assert foretold_bytes(lambda: x.sum().item()) is None


@on_linux
def test_peak_memory_of_a_known_step():
    def step():
        torch.ones(50_000_000 // 4).add(1)  # two tensors of 50 MB at once

    step()
    assert 95e6 < peak_bytes(step, "cpu") < 115e6


@on_linux
def test_the_peak_of_a_layer_is_what_was_foretold():
    shape, row = Shape(20, 20, 2, 4, 16), Row("irpe-k", STRAIGHTFORWARD)
    foretold = foretold_bytes(Layer(shape, row).forward_backward)
    cell = Cell(row, "forward + backward")
    comparison._count(shape, [cell], Setting(rounds=1, least=0.0), print)
    assert 0.9 < cell.peak_bytes / foretold < 1.1


@on_linux
def test_no_process_outlives_who_asked_for_it(tmp_path):
    file = tmp_path / "worker"
    command = ["sh", "-c", f"echo $PPID > {file}.new; mv {file}.new {file}; exec sleep 20"]
    code = (
        "from subprocess import run; from mmplugins.benchmark.comparison import Setting, _alone; "
        f"_alone(Setting(), run, {command})"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as asks:
        assert wait_for(file.exists)
        worker = Path("/proc", file.read_text().strip())
        assert worker.exists()
        asks.kill()
    assert wait_for(lambda: not worker.exists() or "zombie" in (worker / "status").read_text())


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return met
