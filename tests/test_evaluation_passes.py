"""The pass over many images: by several processes, killed and taken up again."""

import signal
import socket
from pathlib import Path

import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_engines import make_data, whole_pass
from tool_runs import PROCESSES

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.passes import join


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("passes"))


@pytest.fixture(scope="module")
def alone(folder):
    """The records that one process makes."""
    assert run(folder, folder / "alone") == [0]
    return contents(folder / "alone")


def run(folder: Path, out: Path, *, processes: int = 1, **options: int) -> list[int]:
    """The exit codes of processes that make a pass together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        group = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(probe.getsockname()[1]))
    environs = [
        dict(group, WORLD_SIZE=str(processes), RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(processes)
    ]
    if processes == 1:
        environs = [{}]
    started = [
        PROCESSES.Process(target=whole_pass, args=(folder, out, environ), kwargs=options)
        for environ in environs
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_two_processes_leave_the_same_bytes_as_one(folder, alone):
    both = folder / "both"
    assert run(folder, both, processes=2, die=2) == [0, 0]  # each looks at two, and no more
    assert len(alone) == 5  # four images and the key
    assert contents(both) == alone


def test_a_killed_pass_is_taken_up_where_it_was(folder, alone):
    out = folder / "killed"
    assert run(folder, out, die=2) == [-signal.SIGKILL]
    done = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert len(done) == 2
    assert run(folder, out) == [0]
    assert contents(out) == alone
    assert {path: path.stat().st_mtime_ns for path in done} == done  # not looked at again
    assert run(folder, out, die=0) == [0]  # nothing is left to look at


def test_launchers_of_gpus_need_some(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    join("none")
    with pytest.raises(InputError, match="--launcher slurm needs GPUs, pytorch"):
        join("slurm")
