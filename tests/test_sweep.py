"""Sweeps end to end, with quick stand-ins for the tools: killed, stopped, failing, changed."""

import os
import shutil
import signal
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from sweep_runs import SRUN, Sweeps

TRAIN = [f"train {name}/seed-{seed}" for name in ("ape", "nope") for seed in (0, 1)]
TEST = [f"test {name}/seed-{seed}/test" for name in ("ape", "nope") for seed in (0, 1)]
SHIFTS = [f"equivariance {name}/equivariance" for name in ("ape", "nope")]
SIZES = [f"resolution {name}/resolution" for name in ("ape", "nope")]
REPORT = ["report report.html"]
PAIRS = ["compare comparison/equivariance", "compare comparison/resolution"]
ALL = sorted([*TRAIN, *TEST, *SHIFTS, *SIZES, *PAIRS, *REPORT])


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    for variable in ("CUDA_VISIBLE_DEVICES", "EVENTS", "FAILS", "SECONDS_OF_A_JOB"):
        monkeypatch.delenv(variable, raising=False)
    return Sweeps(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """A sweep at its end, to be copied."""
    sweeps = Sweeps(tmp_path_factory.mktemp("finished"))
    assert sweeps.run("--jobs", "4", CUDA_VISIBLE_DEVICES="0", SECONDS_OF_A_JOB="0").code == 0
    return sweeps


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.01)


def spans(sweeps):
    """(name, start, end, GPU) of each job that was seen to start and end."""
    ends = {event["pid"]: event["time"] for event in sweeps.events("end")}
    return [
        (event["name"], event["time"], ends[event["pid"]], event["gpu"])
        for event in sweeps.events("start")
        if event["pid"] in ends
    ]


def test_all_run_once_and_after_what_they_need(sweeps):
    first = sweeps.run("--jobs", "4")
    assert first.code == 0, first.said
    assert "[15/15 done]" in first.said
    assert sweeps.names() == ALL
    words = {
        event["name"].replace("out/net/", ""): event["words"] for event in sweeps.events("end")
    }
    assert words["train ape/seed-1"] == [
        *("net-ape.py", "--work-dir", "out/net/ape/seed-1", "--resume"),
        *("--cfg-options", "randomness.seed", "1"),
    ]
    checkpoints = [f"out/net/ape/seed-{seed}/epoch_1.pth" for seed in (0, 1)]
    assert words["equivariance ape/equivariance"] == [
        *("net-ape.py", *checkpoints, "--out", "out/net/ape/equivariance", "--name", "ape"),
        *("--subset", "4"),
    ]
    both = [f"out/net/{name}/equivariance" for name in ("nope", "ape")]
    assert words[PAIRS[0]] == [*both, "--out", "out/net/comparison/equivariance"]
    assert {*both, "out/net/comparison/resolution"} < {*words[REPORT[0]]}
    times = {name.replace("out/net/", ""): (start, end) for name, start, end, _ in spans(sweeps)}
    for name in TEST:
        assert times[name][0] > times[name.replace("test ", "train ")[:-5]][1]
    for needed, needing in (*((each, PAIRS[0]) for each in SHIFTS), (PAIRS[0], REPORT[0])):
        assert times[needing][0] > times[needed][1]
    second = sweeps.run()
    assert second.code == 0
    assert second.said.count("done before") == 15
    assert sweeps.names("start") == ALL


@pytest.mark.parametrize("with_jobs", [False, True], ids=["sweep", "machine"])
def test_killed_again_and_again_it_ends_and_repeats_nothing(sweeps, generator, with_jobs):
    stamped: dict[Path, int] = {}
    for kills in range(60):  # noqa: B007
        call = sweeps.start("--jobs", "2", SECONDS_OF_A_JOB="0.1")
        call.process.join(generator.uniform(0.05, 0.5))
        if call.code is not None:
            break
        call.process.kill()
        call.process.join()
        if with_jobs:
            sweeps.kill_jobs()
        for file in (sweeps.folder / "out").rglob("*.done"):
            stamped.setdefault(file, file.stat().st_mtime_ns)
    assert call.code == 0, call.said
    assert kills > 2
    assert {*sweeps.names()} == {*ALL}
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamped.items())
    if not with_jobs:
        assert sweeps.names() == sweeps.names("start") == ALL
    for one, two in combinations(spans(sweeps), 2):
        assert one[0] != two[0] or one[2] <= two[1] or two[2] <= one[1], "beside itself"
    sweeps.forget()
    assert sweeps.run().code == 0
    assert sweeps.names("start") == []


def test_what_a_killed_sweep_left_running_is_waited_for(sweeps):
    sweeps.spec |= {"encodings": ["nope"], "seeds": [0], "compare": False}
    first = sweeps.start("--only", "train", SECONDS_OF_A_JOB="1")
    wait_for(lambda: sweeps.events("start"))
    first.process.kill()
    first.process.join()
    second = sweeps.run("--only", "train")
    assert second.code == 0
    assert "train net/nope/seed-0: left running by an earlier call" in second.said
    assert sweeps.names("start") == sweeps.names() == ["train nope/seed-0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_jobs_too(sweeps, number):
    call = sweeps.start("--jobs", "2", SECONDS_OF_A_JOB="30")
    wait_for(lambda: len(sweeps.events("start")) == 2)
    os.kill(call.process.pid, number)
    call.process.join(60)  # longer than it is patient with jobs
    assert call.code == 128 + number
    for event in sweeps.events("start"):
        with pytest.raises(ProcessLookupError):
            os.kill(event["pid"], 0)
    assert sweeps.names() == []
    assert not [*(sweeps.folder / "out").rglob("*.done")]


def test_a_failure_stops_only_those_that_need_it(sweeps):
    first = sweeps.run(FAILS="train out/net/ape/seed-1")
    assert first.code == 1
    assert "train net/ape/seed-1: failed 0:0" in first.said
    assert (
        "seed-1 failed (exit code 1); the end of out/net/ape/seed-1/sweep-train.log" in first.said
    )
    assert "  no such luck" in first.said
    assert "equivariance net/ape: not run needs train net/ape/seed-1" in first.said
    without = {"test ape/seed-1/test", "train ape/seed-1", SHIFTS[0], SIZES[0], *PAIRS, *REPORT}
    assert {*sweeps.names()} == {*ALL} - without
    sweeps.forget()
    assert sweeps.run().code == 0
    assert {*sweeps.names()} == without


def test_a_tool_that_leaves_nothing_has_failed(sweeps):
    (sweeps.folder / "tools/train.py").write_text("print('all is well')")
    call = sweeps.run("--only", "train")
    assert call.code == 1
    assert "ended without OUT/net/nope/seed-0" in call.said
    assert "  all is well" in call.said


def change_options(sweeps):
    sweeps.spec["resolution"] = ["--sizes", "0.5:1.5"]
    return [*SIZES, PAIRS[1], *REPORT]


def change_the_last_checkpoint(sweeps):
    (sweeps.folder / "out/net/ape/seed-0/epoch_1.pth").write_text("others")
    return ["test ape/seed-0/test", SHIFTS[0], SIZES[0], *PAIRS, *REPORT]


def touch_a_checkpoint(sweeps):
    (sweeps.folder / "out/net/ape/seed-0/epoch_1.pth").touch()
    return []


def lose_a_result(sweeps):
    (sweeps.folder / "out/net/nope/equivariance/results.json").unlink()
    return [SHIFTS[1], PAIRS[0], *REPORT]


def add_an_encoding(sweeps):
    sweeps.spec["encodings"].append("peg")
    of_peg = ["equivariance peg/equivariance", "resolution peg/resolution"]
    of_peg += [f"train peg/seed-{seed}" for seed in (0, 1)]
    return [*of_peg, *(f"test peg/seed-{seed}/test" for seed in (0, 1)), *PAIRS, *REPORT]


def add_a_seed(sweeps):
    sweeps.spec["seeds"].append(2)
    new = [f"train {name}/seed-2" for name in ("ape", "nope")]
    return [
        *new,
        *(f"test {name}/seed-2/test" for name in ("ape", "nope")),
        *SHIFTS,
        *SIZES,
        *PAIRS,
        *REPORT,
    ]


def drop_a_seed(sweeps):
    sweeps.spec["seeds"].remove(1)
    return [*SHIFTS, *SIZES, *PAIRS, *REPORT]


def delete_a_training(sweeps):
    shutil.rmtree(sweeps.folder / "out/net/nope/seed-1")
    sweeps.spec["cfg_options"] = {}
    # Stand-ins repeat exactly, so what stands on the new checkpoint stays true.
    return ["train nope/seed-1", "test nope/seed-1/test"]


def move_it(sweeps):
    (sweeps.folder / "out").rename(sweeps.folder / "moved")
    sweeps.spec["out"] = "moved"
    return []


@pytest.mark.parametrize(
    "change",
    [
        *(change_options, change_the_last_checkpoint, touch_a_checkpoint, lose_a_result),
        *(add_an_encoding, add_a_seed, drop_a_seed, delete_a_training, move_it),
    ],
)
def test_a_change_runs_what_it_changes(finished, tmp_path, change):
    sweeps = finished.copy(tmp_path / "copy")
    sweeps.forget()
    expected = change(sweeps)
    assert sweeps.run("--jobs", "4", SECONDS_OF_A_JOB="0").code == 0
    assert sweeps.names() == sorted(expected)


def test_what_was_begun_over_is_not_done(finished, tmp_path):
    sweeps = finished.copy(tmp_path / "copy")
    sweeps.spec["resolution"] = ["--sizes", "0.5:1.5"]
    assert sweeps.run(FAILS="resolution out/net/nope").code == 1
    sweeps.forget()
    sweeps.spec = finished.spec
    assert sweeps.run("--jobs", "4", SECONDS_OF_A_JOB="0").code == 0
    assert sweeps.names() == sorted([*SIZES, PAIRS[1], *REPORT])


def test_trainings_are_never_mixed(sweeps):
    sweeps.spec |= {"seeds": [0], "cfg_options": {"model.depth": 1}}
    assert sweeps.run("--only", "train").code == 0
    sweeps.forget()

    sweeps.spec["cfg_options"] = {"model.depth": 2}
    call = sweeps.run()
    assert call.code == 1
    assert "error: train net/nope/seed-0: there are checkpoints of another training" in call.said
    assert "differs in the config: delete or rename `out/net/nope/seed-0`" in call.said

    sweeps.spec |= {"cfg_options": {"model.depth": 1}, "train": ["--amp"]}
    assert "differs in --amp: delete or rename" in sweeps.run("--dry-run").said

    sweeps.spec["train"] = True
    (sweeps.folder / "out/net/nope/seed-0/sweep-train.done").unlink()
    assert "there are checkpoints of no sweep" in sweeps.run().said

    (sweeps.folder / "out/net/nope/seed-0/epoch_1.pth").unlink()
    assert "epoch_1.pth`, is gone" in sweeps.run().said
    assert sweeps.names("start") == []

    (sweeps.folder / "out/net/nope/seed-0/last_checkpoint").write_text("")  # by a power cut
    assert sweeps.run("--only", "train").code == 0
    assert sweeps.names() == ["train nope/seed-0"]


def test_two_sweeps_in_one_folder(sweeps):
    first = sweeps.start("--only", "train", SECONDS_OF_A_JOB="0.5")
    wait_for(lambda: sweeps.events("start"))
    second = sweeps.run()
    assert second.code == 1
    assert "error: another sweep is at work in `out`" in second.said
    first.process.join()
    assert first.code == 0


def test_a_dry_run_writes_nothing(sweeps):
    before = sweeps.run("--dry-run")
    assert before.code == 0
    assert not (sweeps.folder / "out").exists()
    assert before.said.count("# run: ") == 15
    tool = f"{sys.executable} {sweeps.folder}/tools"
    assert (
        f"# run: train net/nope/seed-0\n{tool}/train.py net-nope.py --work-dir out/" in before.said
    )
    assert f"{tool}/test.py net-ape.py out/net/ape/seed-1/last_checkpoint --work-dir" in before.said
    sweeps.run("--only", "train,test")
    after = sweeps.run("--dry-run")
    assert after.said.count("# skip: ") == 8
    assert "# 7 to run, 8 done before" in after.said


def test_only_some_kinds(sweeps):
    alone = sweeps.run("--only", "test")
    assert alone.code == 1
    assert "test net/nope/seed-0: not run needs train net/nope/seed-0" in alone.said
    assert sweeps.run("--only", "train").code == 0
    assert sweeps.run("--only", "test").code == 0
    assert sweeps.names() == sorted([*TRAIN, *TEST])


def test_one_job_a_gpu(sweeps):
    sweeps.spec["seeds"] = [0]
    assert sweeps.run(CUDA_VISIBLE_DEVICES="3,5", SECONDS_OF_A_JOB="0.1").code == 0
    seen = spans(sweeps)
    assert {gpu for *_, gpu in seen} == {"3", "5"}
    for one, two in combinations(seen, 2):
        assert one[3] != two[3] or one[2] <= two[1] or two[2] <= one[1]
    assert Counter(gpu for *_, gpu in seen)["3"] > 2, "they take turns"


def test_slurm(sweeps):
    sweeps.spec["seeds"] = [0]
    (sweeps.folder / "bin").mkdir()
    (sweeps.folder / "bin/srun").write_text(SRUN)
    (sweeps.folder / "bin/srun").chmod(0o755)
    (sweeps.folder / "bin/python").symlink_to(sys.executable)
    calls = sweeps.folder / "calls"
    call = sweeps.run(
        *("--launcher", "slurm", "--partition", "gpu"),
        PATH=f"{sweeps.folder}/bin{os.pathsep}{os.environ['PATH']}",
        SRUN_CALLS=str(calls),
        GPUS="1",
        GPUS_PER_NODE="1",
    )
    assert call.code == 0, call.said
    assert len({*sweeps.names()}) == 11
    lines = calls.read_text().splitlines()
    assert len(lines) == 8, "comparisons and reports are no work for a cluster"
    for line in lines:
        assert line.startswith("-p gpu --job-name=")
        assert "--gres=gpu:1 --ntasks=1" in line
        assert "--launcher=slurm" in line
        assert ("--work-dir=out/net" in line) == ("tools/train.py" in line)
    (shifts,) = (line for line in lines if "--job-name=equivariance-net-ape" in line)
    assert "equivariance.py net-ape.py out/net/ape/seed-0/epoch_1.pth" in shifts
    # How jobs are started does not make them others.
    assert sweeps.run().said.count("done before") == 11
