"""How far works are, on the standard error."""

import re

import pytest
from rich.console import Console

from mmplugins.evaluation import progress
from mmplugins.evaluation.progress import Bars


def test_a_log_tells_rate_and_time_left_now_and_then(capsys, monkeypatch):
    clock = iter([0, 20, 40, 60, 80, 100])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(Bars().track("abcde", "looking", "image")) == [*"abcde"]
    said, err = capsys.readouterr()
    assert said == ""
    assert err.splitlines() == [
        "looking: 2/5 images, 20.00 s each, 1.0 min left",
        "looking: 4/5 images, 20.00 s each, 0.3 min left",
        "looking: 5/5 images, 20.00 s each, 0.0 min left",
    ]


def test_a_short_work_says_nothing_in_a_log(capsys):
    assert list(Bars().track(range(3), "looking", "image")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_is_quiet(terminal, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", -1)
    bars = Bars(quiet=True)
    bars.console = Console(stderr=True, quiet=True, force_terminal=terminal)
    assert list(bars.track(range(3), "looking", "image")) == [0, 1, 2]
    bars.say("some [thing]")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar_with_rate_and_time_left(capsys):
    bars = Bars()
    bars.console = Console(stderr=True, force_terminal=True, width=120)
    clock = iter(range(0, 1000, 4))
    bars.console.get_time = lambda: next(clock)
    assert list(bars.track(range(3), "looking", "image")) == [0, 1, 2]
    last = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", capsys.readouterr().err).splitlines()[-1]
    assert "looking" in last
    assert "3/3" in last
    assert "image" in last
    assert re.search(r"left \d:\d\d:\d\d", last)


def test_what_is_said_is_printed_as_it_is(capsys):
    Bars().say("records [1/2] of " + "x" * 200)
    assert capsys.readouterr().err == "records [1/2] of " + "x" * 200 + "\n"
