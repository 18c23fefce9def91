"""Run jobs as those they need are done, several at a time."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum
from queue import SimpleQueue

from mmplugins.engine.inputs import InputError
from mmplugins.sweep.children import Children, Stopped
from mmplugins.sweep.disk import Disk
from mmplugins.sweep.jobs import Job
from mmplugins.sweep.launch import Launcher


class State(Enum):
    """Of a job; its value is the word for people."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "left running by an earlier call"
    BEFORE = "done before"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "not run"  # what it needs failed, or was left out

    @property
    def final(self) -> bool:
        """Whether it will not change."""
        return self not in (State.WAITING, State.RUNNING, State.ELSEWHERE)

    @property
    def good(self) -> bool:
        """Whether those that need the job may run."""
        return self in (State.BEFORE, State.DONE)


Tell = Callable[[Job, State, str], None]


@dataclass
class Runner:
    """Runs jobs, each at most once however often the sweep is killed.

    Args:
        disk: what is done.
        launcher: how tools are called.
        places: environments of those that run at a time.
        tell: is called with a job, its new state and why.
    """

    disk: Disk
    launcher: Launcher
    places: Sequence[Mapping[str, str]]
    tell: Tell

    def __post_init__(self) -> None:
        self._children = Children()
        self._free: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for place in self.places:
            self._free.put(place)

    def run(self, jobs: Sequence[Job]) -> dict[Job, State]:
        """Run `jobs`, each listed after those it needs; how each ended.

        Needs that are not among `jobs` must be done already.
        """
        chosen, ends = set(jobs), dict[Job, State]()
        for need in (need for job in jobs for need in job.needs if need not in chosen):
            ends[need] = State.BEFORE if self.disk.done(need) else State.BLOCKED
        waiting, running = list(jobs), dict[Future, Job]()
        with ThreadPoolExecutor(max(1, len(self.places))) as pool:
            try:
                while waiting or running:
                    for job in [*waiting]:
                        if not all(need in ends for need in job.needs):
                            continue
                        waiting.remove(job)
                        if state := self._without_work(job, ends):
                            ends[job] = state
                        else:
                            running[pool.submit(self._perform, job)] = job
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        ends[running.pop(future)] = future.result()
            finally:
                self._children.stop()
                pool.shutdown(cancel_futures=True)
        return {job: ends[job] for job in jobs}

    def _without_work(self, job: Job, ends: Mapping[Job, State]) -> State | None:
        """How it ended already, if it has."""
        if bad := [need for need in job.needs if not ends[need].good]:
            self.tell(job, State.BLOCKED, f"needs {bad[0].name}")
            return State.BLOCKED
        if self.disk.done(job):
            self.tell(job, State.BEFORE, "")
            return State.BEFORE
        return None

    def _perform(self, job: Job) -> State:
        """In a thread of its own: everything about one job."""
        try:
            state, why = self._done(job)
        except Stopped:
            state, why = State.WAITING, "stopped"
        except (InputError, OSError) as error:
            state, why = State.FAILED, str(error)
        self.tell(job, state, why)
        return state

    def _done(self, job: Job) -> tuple[State, str]:
        with self.disk.alone(job, lambda: self._wait_for(job)) as lock:
            if self.disk.done(job):
                return State.BEFORE, ""
            self.disk.refuse_mixing(job)
            self._children.check()
            command, log = self.launcher.command(job), self.disk.file(job, "log")
            place = self._free.get()
            try:
                self.tell(job, State.RUNNING, "")
                self.disk.begin(job)
                with log.open("a") as file:
                    file.write(f"$ {shlex.join(command)}\n")
                code = self._children.call(self.disk.recorded(job, command), place, log, lock)
            finally:
                self._free.put(place)
            self._children.check()
            if self.disk.done(job):
                return State.DONE, ""
            return State.FAILED, f"exit code {code}" if code else f"ended without {job.product}"

    def _wait_for(self, job: Job) -> None:
        self._children.check()
        self.tell(job, State.ELSEWHERE, "")
