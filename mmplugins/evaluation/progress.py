"""How far a long work is: a bar with rate and time left, or a line now and then in a log."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")
SECONDS = 30  # between two lines of a log


class Bars:
    """Shows how far works are, on the standard error; nothing where `quiet`."""

    def __init__(self, *, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)

    def track(self, things: Sequence[T], what: str, unit: str) -> Iterable[T]:
        """Go through `things`, telling `what` is done to them and what they are."""
        if self.console.is_terminal:
            return self._bar(things, what, unit)
        return self._log(things, what, unit)

    def say(self, message: str) -> None:
        """A line above the bars."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _bar(self, things: Sequence[T], what: str, unit: str) -> Iterator[T]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            yield from progress.track(things, description=what)

    def _log(self, things: Sequence[T], what: str, unit: str) -> Iterator[T]:
        started = told = time.monotonic()
        for number, thing in enumerate(things, 1):
            yield thing
            now = time.monotonic()
            if now - told > SECONDS or (number == len(things) and now - started > SECONDS):
                told, rate = now, (now - started) / number
                left = (len(things) - number) * rate / 60
                self.say(
                    f"{what}: {number}/{len(things)} {unit}s, {rate:.2f} s each, "
                    f"{left:.1f} min left"
                )


class _Rate(ProgressColumn):
    """Things a second, or seconds a thing."""

    def __init__(self, unit: str):
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text(f"- {self._unit}s/s")
        if task.speed < 1:
            return Text(f"{1 / task.speed:.1f} s/{self._unit}")
        return Text(f"{task.speed:.1f} {self._unit}s/s")
