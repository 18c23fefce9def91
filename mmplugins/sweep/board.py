"""How far a sweep is: a table on a terminal, a line now and then in a log."""

from collections import Counter
from collections.abc import Sequence
from threading import Lock
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmplugins.sweep.disk import Disk, tail
from mmplugins.sweep.jobs import Job
from mmplugins.sweep.run import State

# What wants attention stands above what the terminal is too low for.
ORDER = (
    *(State.RUNNING, State.ELSEWHERE, State.FAILED),
    *(State.WAITING, State.BLOCKED, State.DONE, State.BEFORE),
)
STYLES = {State.RUNNING: "bold", State.FAILED: "red", State.WAITING: "dim", State.BEFORE: "dim"}
AROUND = 6  # lines of the terminal that are no jobs


class Board:
    """Shows jobs on the standard error; a context in which its table is drawn again and again."""

    def __init__(self, jobs: Sequence[Job], disk: Disk, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self._disk = disk
        self._lock = Lock()
        self.reasons: dict[Job, str] = {}
        self._states = dict.fromkeys(jobs, State.WAITING)
        self._spans: dict[Job, tuple[float, float | None]] = {}
        self._live = Live(
            get_renderable=self._table, console=self.console, refresh_per_second=2, transient=False
        )

    def __enter__(self) -> "Board":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def tell(self, job: Job, state: State, why: str) -> None:
        """Take note of a job's new state; from any thread."""
        with self._lock:
            if self._states[job] is state:
                return
            self._states[job], self.reasons[job] = state, why
            now = monotonic()
            if state is State.RUNNING:
                self._spans[job] = now, None
            elif job in self._spans:
                self._spans[job] = self._spans[job][0], now
            if not self.console.is_terminal and state is not State.WAITING:
                parts = f"{job.name}: {state.value}", self._elapsed(job), why
                self.say(f"[{self._counts()}] {' '.join(filter(None, parts))}")

    def say(self, message: str) -> None:
        """A line; above the table where there is one."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        table = Table("job", "state", "time", "last line", expand=True)
        for column, (ratio, overflow) in zip(
            table.columns, [(3, "fold"), (2, "fold"), (None, "fold"), (5, "ellipsis")], strict=True
        ):
            column.ratio, column.overflow, column.no_wrap = ratio, overflow, ratio == 5
        jobs = sorted(self._states, key=lambda job: ORDER.index(self._states[job]))
        shown = jobs[: max(1, self.console.height - AROUND)]
        for job in shown:
            state = self._states[job]
            table.add_row(
                job.name,
                state.value,
                self._elapsed(job),
                Text(self._last(job) if state in ORDER[:3] else ""),
                style=STYLES.get(state, ""),
            )
        more = f" ({len(jobs) - len(shown)} jobs not shown)" if len(jobs) > len(shown) else ""
        return Group(table, Text(self._counts() + more))

    def _last(self, job: Job) -> str:
        return next(reversed(tail(self._disk.file(job, "log"))), "")

    def _elapsed(self, job: Job) -> str:
        if job not in self._spans:
            return ""
        start, end = self._spans[job]
        seconds = int((end or monotonic()) - start)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _counts(self) -> str:
        counts = Counter(self._states.values())
        done = counts[State.DONE] + counts[State.BEFORE]
        others = (State.RUNNING, State.ELSEWHERE, State.FAILED, State.BLOCKED)
        told = [f"{counts[state]} {state.value}" for state in others if counts[state]]
        return ", ".join([f"{done}/{len(self._states)} done", *told])
