"""What is done, as the disk knows it: a sweep may be killed between any two lines.

Beside what a job makes lie

    sweep-KIND.log    all it said
    sweep-KIND.begun  what is being done: written before the job starts
    sweep-KIND.done   the same file, renamed by the job's own shell once its tool has succeeded
    sweep-KIND.lock   held by the job's processes, whoever started them

A job whose sweep was killed goes on by itself, is recorded when it succeeds, and keeps a second
sweep from starting it again.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmplugins.disk import file_hash, write
from mmplugins.engine.inputs import InputError
from mmplugins.sweep.jobs import LAST, Job

# The shell outlives a SIGTERM, so that whoever waits for it has waited for its tool.
RECORDING = 'begun=$0 done=$1; shift; trap : TERM; "$@" && mv -f "$begun" "$done"'


class Disk:
    """The folder of a sweep."""

    def __init__(self, out: Path):
        self.out = out

    def file(self, job: Job, suffix: str) -> Path:
        """One of a job's four files."""
        return self.out / job.folder / f"sweep-{job.kind}.{suffix}"

    def done(self, job: Job) -> bool:
        """Whether this very job has succeeded, on what its needs hold now, and left its product."""
        stamp = _read(self.file(job, "done"))
        if stamp.get("key") != job.key or not self._has(job):
            return False
        inputs = stamp["inputs"]
        return inputs.keys() == {need.name for need in job.needs} and all(
            self._has(need) and _is(need.product.find(self.out), inputs[need.name])
            for need in job.needs
        )

    def settled(self, job: Job) -> bool:
        """Whether it and all it stands on are done."""
        return all(map(self.settled, job.needs)) and self.done(job)

    def refuse_mixing(self, job: Job) -> None:
        """Do not let a training go on from checkpoints that are not its own.

        Raises:
            InputError: saying whose they are.
        """
        folder = self.out / job.folder
        if job.kind != "train" or not _size(folder / LAST):
            return
        way_out = f"delete or rename `{folder}`, or give the sweep another `out`"
        if not self._has(job):
            gone = job.product.find(self.out)
            raise InputError(f"{job.name}: the last checkpoint, `{gone}`, is gone: {way_out}")
        stamp = _read(self.file(job, "begun")) or _read(self.file(job, "done"))
        if stamp.get("key") == job.key:
            return
        if not stamp:
            raise InputError(f"{job.name}: there are checkpoints of no sweep: {way_out}")
        changes = {*stamp["arguments"]} ^ {*map(str, job.arguments)}
        differs = "the config" if stamp["config"] != job.config else " ".join(sorted(changes))
        raise InputError(
            f"{job.name}: there are checkpoints of another training, which differs in "
            f"{differs or 'the order of options'}: {way_out}"
        )

    def begin(self, job: Job) -> None:
        """Say on disk that `job` is about to start."""
        # First, lest what is now half written over counts as done.
        self.file(job, "done").unlink(missing_ok=True)
        if job.kind == "train" and not _size(self.out / job.folder / LAST):
            # Emptied by a power cut: mmengine would resume from a checkpoint without a name.
            (self.out / job.folder / LAST).unlink(missing_ok=True)
        stamp = {
            "key": job.key,
            "job": job.name,
            "config": job.config,
            "arguments": [str(argument) for argument in job.arguments],
            "inputs": {need.name: _fingerprint(need.product.find(self.out)) for need in job.needs},
        }
        write(self.file(job, "begun"), json.dumps(stamp, indent=1).encode())

    def recorded(self, job: Job, command: Sequence[str]) -> list[str]:
        """The command, with its success written to disk even when nobody waits for it any more."""
        return [
            "sh",
            "-c",
            RECORDING,
            *(str(self.file(job, s)) for s in ("begun", "done")),
            *command,
        ]

    @contextmanager
    def alone(self, job: Job, waiting: Callable[[], None]) -> Iterator[int]:
        """Hold the job's lock: the file descriptor is for its processes to inherit.

        Args:
            job: whose folder is made.
            waiting: called again and again while an earlier sweep's processes hold it.
        """
        file = self.file(job, "lock")
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            while not _lock(descriptor):
                waiting()
                time.sleep(0.2)
            yield descriptor
        finally:
            os.close(descriptor)

    def _has(self, job: Job) -> bool:
        """Whether the product is there; jobs without one always have it."""
        if job.product is None:
            return True
        file = job.product.find(self.out)
        return file.is_file() and file.name != LAST


def tail(file: Path, size: int = 4096) -> list[str]:
    """The last lines of a log, without what progress bars wrote over."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - size))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return [line for line in lines if line]


def _read(file: Path) -> dict[str, Any]:
    """A stamp; empty where there is none, or only the name of one after a power cut."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _fingerprint(file: Path) -> dict[str, Any]:
    status = file.stat()
    # Size and time spare reading gigabytes of checkpoints at each call.
    return {
        "sha256": file_hash(str(file)),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def _is(file: Path, known: dict[str, Any]) -> bool:
    status = file.stat()
    same = (status.st_size, status.st_mtime_ns) == (known["size"], known["mtime_ns"])
    return same or file_hash(str(file)) == known["sha256"]


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
