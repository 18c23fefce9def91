"""Processes that end with the one that started them, as far as it has a say."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic, sleep

PATIENCE = 10.0  # seconds between asking a process to end and ending it


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The sweep is ending: start nothing, wait for nothing."""


class Children:
    """Commands in process groups of their own, so that all of a group can be stopped."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    def check(self) -> None:
        """Let a thread that waits for something else notice the end.

        Raises:
            Stopped: there is to be no more work.
        """
        if self._stopped:
            raise Stopped

    def call(
        self, command: Sequence[str], environ: Mapping[str, str], log: Path, inherited: int
    ) -> int:
        """Run to the end; the exit code.

        Args:
            command: what to execute.
            environ: what is added to the environment.
            log: takes what it says, after what is there.
            inherited: a file descriptor that it keeps open.

        Raises:
            Stopped: there is to be no more work.
            OSError: it cannot be started.
        """
        with self._lock:
            self.check()
            with log.open("ab") as said:
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **environ, "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[inherited],
                )
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """End all that runs and start nothing more; returns when all have ended."""
        with self._lock:
            self._stopped = True
            running = [*self._running]
        for process in running:
            _signal(process, signal.SIGTERM)
        end = monotonic() + PATIENCE
        while monotonic() < end and any(process.poll() is None for process in running):
            sleep(0.05)
        for process in running:
            _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen, number: int) -> None:
    # Not after its end, when its number may have become another's.
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
