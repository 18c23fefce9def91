"""The parts of a sweep that touch the machine: its table, logs, processes, places for jobs."""

import io
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from mmplugins.sweep.board import Board
from mmplugins.sweep.children import Children, Stopped
from mmplugins.sweep.disk import Disk, tail
from mmplugins.sweep.jobs import Job
from mmplugins.sweep.launch import places
from mmplugins.sweep.run import State


def board(folder: Path, jobs: list[Job], height: int = 40) -> Board:
    console = Console(
        file=io.StringIO(), force_terminal=True, width=120, height=height, _environ={}
    )
    return Board(jobs, Disk(folder), console)


def drawn(shown: Board) -> str:
    with shown:
        pass  # draws once more at the end
    return shown.console.file.getvalue()


def test_the_table_tells_states_times_and_last_lines(tmp_path):
    jobs = [Job("train", f"net/{name}/seed-0", (), "") for name in ("nope", "ape", "peg", "rope")]
    shown = board(tmp_path, jobs)
    log = shown._disk.file(jobs[1], "log")
    log.parent.mkdir(parents=True)
    log.write_text("first\nstep 1\rstep 2 [of 9]\n")
    shown.tell(jobs[0], State.BEFORE, "")
    shown.tell(jobs[1], State.RUNNING, "")
    shown.tell(jobs[2], State.FAILED, "exit code 1")
    text = drawn(shown)
    rows = [line for line in text.splitlines() if "net/" in line]
    assert [row.split("net/")[1].split("/")[0] for row in rows] == ["ape", "peg", "rope", "nope"]
    assert "running" in rows[0]
    assert "0:00:00" in rows[0]
    assert "step 2 [of 9]" in rows[0]
    assert "waiting" in rows[2]
    assert "1/4 done, 1 running, 1 failed" in text


def test_a_low_terminal_shows_what_runs(tmp_path):
    jobs = [Job("train", f"net/nope/seed-{seed}", (), "") for seed in range(30)]
    shown = board(tmp_path, jobs, height=10)
    shown.tell(jobs[29], State.RUNNING, "")
    text = drawn(shown)
    assert "seed-29" in text
    assert "0/30 done, 1 running (26 jobs not shown)" in text


def test_the_tail_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert tail(log) == []
    log.write_bytes(b"x" * 5000 + b"\n\xff caf\xc3\xa9 \r\n\nlast")
    assert tail(log)[1:] == ["\ufffd caf\u00e9", "last"]
    assert sum(map(len, tail(log))) < 4096


@pytest.mark.parametrize(("deaf", "code"), [(False, 143), (True, -9)])
def test_stopping_children(tmp_path, monkeypatch, deaf, code):
    monkeypatch.setattr("mmplugins.sweep.children.PATIENCE", 0.3 if deaf else 30)
    job, disk, children = Job("train", "net", (), ""), Disk(tmp_path), Children()
    tool = f"import signal, time; signal.signal(15, signal.{'SIG_IGN' if deaf else 'SIG_DFL'})"
    tool += "; print('ready', flush=True); time.sleep(60)"
    log = disk.file(job, "log")
    with disk.alone(job, children.check) as lock, ThreadPoolExecutor() as pool:
        command = disk.recorded(job, [sys.executable, "-c", tool])
        end = pool.submit(children.call, command, {}, log, lock)
        while not tail(log):
            time.sleep(0.01)
        children.stop()
        assert end.result() == code
        with pytest.raises(Stopped):
            children.call(command, {}, log, lock)
    assert not disk.file(job, "done").exists()
    end_of_patience = time.monotonic() + 30

    def waiting():  # what the shell had started is killed with it, but nobody waits for its end
        assert time.monotonic() < end_of_patience, "somebody still holds the lock"

    with disk.alone(job, waiting):
        pass


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """One with so many cores and GPUs."""

    def has(cores: int, gpus: int, **environ: str) -> None:
        for variable in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(cores)}, raising=False)
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)

    return has


def test_places(machine):
    machine(cores=8, gpus=0)
    assert places(None, 100, slurm=False) == [{"OMP_NUM_THREADS": "1"}] * 8
    assert places(3, 100, slurm=False) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert places(None, 2, slurm=False) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert places(20, 100, slurm=False) == [{"OMP_NUM_THREADS": "1"}] * 20
    machine(cores=8, gpus=2)
    both = [{"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": gpu} for gpu in "01"]
    assert places(None, 100, slurm=False) == both
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places(4, 9, slurm=False)] == [*"0101"]
    assert places(None, 7, slurm=True) == [{}] * 7
    assert places(3, 7, slurm=True) == [{}] * 3
    machine(cores=8, gpus=2, CUDA_VISIBLE_DEVICES="GPU-a,3,7", OMP_NUM_THREADS="5")
    assert places(None, 2, slurm=False) == [
        {"OMP_NUM_THREADS": "5", "CUDA_VISIBLE_DEVICES": gpu} for gpu in ("GPU-a", "3")
    ]
