"""Sweeps whose tools are quick stand-ins, in processes forked after the slow imports."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmplugins.sweep.command import main

ROOT = Path(__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mmplugins.sweep.command"])

# Says when it starts and ends, and leaves what the real tool leaves. A training counts its starts
# in its checkpoint, as other weights would be told from the first ones.
STAND_IN = """
import json, os, sys, time
from pathlib import Path
kind, words = Path(sys.argv[0]).stem, [w for word in sys.argv[1:] for w in word.split("=", 1)]
after = lambda option: words[words.index(option) + 1]
name = kind + " " + (after("--out") if "--out" in words else after("--work-dir"))

def say(what, **more):
    fields = dict(what=what, name=name, pid=os.getpid(), time=time.monotonic(), words=words)
    fields["gpu"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    with open(os.environ["EVENTS"], "a") as file:
        file.write(json.dumps(fields) + "\\n")

for word in words[1:]:
    assert not word.endswith(("_1.pth", "results.json")) or Path(word).is_file(), word
say("start")
print("at work", flush=True)
time.sleep(float(os.environ.get("SECONDS_OF_A_JOB", "0.05")))
if os.environ.get("FAILS", "never") in name:
    sys.exit("no such luck")
if kind == "train":
    folder = Path(after("--work-dir"))
    with (folder / "epoch_1.pth").open("a") as file:
        file.write(" ".join(words))
    (folder / "last_checkpoint").write_text(str(folder.absolute() / "epoch_1.pth"))
elif kind == "report":
    Path(after("--out")).write_text("a page")
elif kind != "test":
    Path(after("--out")).mkdir(exist_ok=True, parents=True)
    held = [Path(word).read_text() for word in words if word.endswith(".pth")]
    left = {"compare": "comparison.json"}.get(kind, "results.json")
    (Path(after("--out")) / left).write_text(json.dumps([words, held, time.time()]))
say("end")
"""
SRUN = """#!/usr/bin/env bash
echo "$@" >> "$SRUN_CALLS"
while [[ $1 == -* ]]; do [[ $1 == -p ]] && shift; shift; done
exec "$@"
"""


@dataclass
class Sweeps:
    """A folder with tools, configs and a spec, and calls of the sweep in it."""

    folder: Path
    spec: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.spec:
            return
        (self.folder / "tools").mkdir()
        for kind in ("train", "test", "equivariance", "resolution", "compare", "report"):
            (self.folder / f"tools/{kind}.py").write_text(STAND_IN)
        for script in (ROOT / "tools").glob("slurm_*.sh"):
            shutil.copy2(script, self.folder / "tools")
        for name in ("nope", "ape", "peg"):
            config = f"default_scope = 'mmdet'\nmodel = dict(type='{name}', depth=1)\n"
            (self.folder / f"net-{name}.py").write_text(config)
        self.spec = {
            "out": "out",
            "pipelines": {"net": "net-{encoding}.py"},
            "encodings": ["nope", "ape"],
            "seeds": [0, 1],
            "test": True,
            "equivariance": ["--subset", 4],
            "resolution": ["--sizes", "0.5:2.0"],
            "compare": True,
            "report": True,
        }

    def copy(self, folder: Path) -> "Sweeps":
        """The same elsewhere."""
        shutil.copytree(self.folder, folder)
        return Sweeps(folder, deepcopy(self.spec))

    def start(self, *options: str, **environ: str) -> "Call":
        """`python tools/sweep.py spec.yaml OPTIONS...` without the imports' seconds."""
        (self.folder / "spec.yaml").write_text(yaml.safe_dump(self.spec, sort_keys=False))
        environ = {"EVENTS": str(self.folder / "events"), **environ}
        log = self.folder / f"{len(list(self.folder.iterdir()))}.log"
        log.touch()
        args = (self.folder, ["spec.yaml", *options], environ, log)
        process = PROCESSES.Process(target=_sweep, args=args)
        process.start()
        return Call(process, log)

    def run(self, *options: str, **environ: str) -> "Call":
        """The same, to its end."""
        call = self.start(*options, **environ)
        call.process.join()
        return call

    def events(self, what: str = "") -> list[dict[str, Any]]:
        """What the stand-ins said, all of it or starts or ends."""
        file = self.folder / "events"
        lines = file.read_text().splitlines() if file.exists() else []
        return [event for event in map(json.loads, lines) if what in event["what"]]

    def names(self, what: str = "end") -> list[str]:
        """The jobs in these events, sorted; a name is the tool and its folder in out/net/."""
        return sorted(event["name"].replace("out/net/", "") for event in self.events(what))

    def forget(self) -> None:
        """Begin a new list of events."""
        (self.folder / "events").unlink(missing_ok=True)

    def kill_jobs(self) -> None:
        """SIGKILL the stand-ins that are at work, with the shells around them."""
        ended = {event["pid"] for event in self.events("end")}
        for event in self.events("start"):
            if event["pid"] not in ended:
                with suppress(ProcessLookupError):
                    os.killpg(os.getpgid(event["pid"]), signal.SIGKILL)


@dataclass
class Call:
    """A sweep's process."""

    process: PROCESSES.Process
    log: Path

    @property
    def code(self) -> int | None:
        """Of its end: negative for a signal."""
        return self.process.exitcode

    @property
    def said(self) -> str:
        """All of both outputs."""
        return self.log.read_text()


def _sweep(folder: Path, argv: list[str], environ: dict[str, str], log: Path) -> None:
    """In the new process."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # In the background of a script it would be ignored, and the sweep leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = ["sweep.py", *argv]
    main(folder / "tools", argv, parsers={})
