"""Command line of tools/sweep.py."""

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import NoReturn

from filelock import FileLock, Timeout

from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import plain_errors
from mmplugins.sweep.board import Board
from mmplugins.sweep.disk import Disk, tail
from mmplugins.sweep.jobs import Job, plan_jobs
from mmplugins.sweep.launch import Launcher, places
from mmplugins.sweep.run import Runner, State
from mmplugins.sweep.spec import KINDS, read_spec

EPILOG = """
The file says what (configs/sweeps/synthetic.yaml is one). A sweep that was stopped or killed is
continued by the same command, which repeats nothing that is done. A changed file runs what it
changes, and what depends on that; trainings are never mixed: their folder must go first.

  python tools/sweep.py configs/sweeps/synthetic.yaml --dry-run
  python tools/sweep.py configs/sweeps/synthetic.yaml --jobs 2 --only train,test
  GPUS=1 GPUS_PER_NODE=1 python tools/sweep.py SPEC --launcher slurm --partition gpu
"""
# What makes each tool's parser; imported when it is needed.
PARSERS = {
    "train": "mmplugins.engine.launch:training_parser",
    "test": "mmplugins.engine.launch:testing_parser",
    "equivariance": "mmplugins.evaluation.commands.equivariance:parser",
    "resolution": "mmplugins.evaluation.commands.resolution:parser",
    "compare": "mmplugins.evaluation.commands.compare:parser",
    "report": "mmplugins.report.command:parser",
}
TAIL = 15  # lines of the log of a job that failed


def main(
    tools: Path, argv: Sequence[str] | None = None, parsers: Mapping[str, str] = PARSERS
) -> None:
    """Train, test and measure encodings x pipelines x seeds, several at a time."""
    with plain_errors():
        args = parser().parse_args(argv)
        if (args.launcher == "slurm") != bool(args.partition):
            raise InputError("--launcher slurm and --partition go together")
        spec = read_spec(args.spec)
        jobs, disk = plan_jobs(spec), Disk(spec.out)
        launcher = Launcher(tools, spec.out, args.partition)
        for job in jobs:
            check_options(job, parsers)
            disk.refuse_mixing(job)
        jobs = [job for job in jobs if job.kind in args.only]
        if args.dry_run:
            show(jobs, disk, launcher)
            return
        with _sole(spec.out):
            _tidy_up_at_signals()
            ends = run(jobs, disk, launcher, args.jobs)
    if not all(end.good for end in ends.values()):
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = argparse.ArgumentParser(
        description=main.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("spec", help="YAML file that says what to run")
    add("--jobs", type=_positive, help="so many at a time [one a GPU; without GPUs one a core]")
    add("--only", type=_kinds, default=KINDS, help=f"some of {','.join(KINDS)} [all]")
    dry = "print all commands and which would run; last_checkpoint stands for the file it will name"
    add("--dry-run", action="store_true", help=dry)
    add("--launcher", choices=["none", "slurm"], default="none", help="[%(default)s]")
    add("--partition", help="of the Slurm cluster")
    return result


def check_options(job: Job, parsers: Mapping[str, str]) -> None:
    """Ask the tool's own parser, if it has one, lest a slip shows after hours of training.

    Raises:
        InputError: with what the parser says.
    """

    def refuse(message: str) -> NoReturn:
        raise InputError(f"{job.kind}: tools/{job.kind}.py does not take this: {message}")

    if job.kind not in parsers:
        return
    tool = resolve_name(parsers[job.kind])()
    tool.error = refuse
    tool.parse_args([str(argument) for argument in job.arguments])


def show(jobs: Sequence[Job], disk: Disk, launcher: Launcher) -> None:
    """Every command, and whether it would run."""
    settled = [disk.settled(job) for job in jobs]
    for job, done in zip(jobs, settled, strict=True):
        print(f"# {'skip' if done else 'run'}: {job.name}")
        print(shlex.join(launcher.command(job)))
    print(f"# {settled.count(False)} to run, {settled.count(True)} done before")


def run(
    jobs: Sequence[Job], disk: Disk, launcher: Launcher, count: int | None
) -> Mapping[Job, State]:
    """Run `jobs` and tell how it goes; how each ended."""
    slots = places(count, len(jobs), slurm=launcher.partition is not None)
    with Board(jobs, disk) as board:
        ends = Runner(disk, launcher, slots, board.tell).run(jobs)
    for job, end in ends.items():
        if end is State.FAILED:
            log = disk.file(job, "log")
            board.say(f"\n{job.name} failed ({board.reasons[job]}); the end of {log}:")
            for line in tail(log)[-TAIL:]:
                board.say(f"  {line}")
    return ends


@contextmanager
def _sole(out: Path) -> Iterator[None]:
    """The only sweep in a folder."""
    lock = FileLock(out / "sweep.lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another sweep is at work in `{out}`") from error
    except OSError as error:
        raise InputError(f"out: nothing can be written to `{out}` ({error})") from error
    try:
        yield
    finally:
        lock.release()


def _tidy_up_at_signals() -> None:
    """Let the three signals that end a program run what stops the jobs."""
    all_three = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # What is ignored stays so: nohup asks for that.
    numbers = [number for number in all_three if signal.getsignal(number) != signal.SIG_IGN]

    def stop(number: int, _: object) -> NoReturn:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)  # once is enough
        print("stopping; the same command goes on", file=sys.stderr)
        sys.exit(128 + number)

    for number in numbers:
        signal.signal(number, stop)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"`{wrong[0]}` is none of {', '.join(KINDS)}")
    return kinds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"`{text}` is no whole number of 1 or more")
    return int(text)
