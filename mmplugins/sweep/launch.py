"""How a job's tool is called: here, or on a Slurm cluster through the hosts' own scripts."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from mmplugins.sweep.jobs import Job


@dataclass(frozen=True)
class Launcher:
    """Turns jobs into commands.

    Args:
        tools: folder of the tools.
        out: folder of the sweep.
        partition: of a Slurm cluster; None to run on this machine.
    """

    tools: Path
    out: Path
    partition: str | None = None

    def command(self, job: Job) -> list[str]:
        """What to execute; the checkpoints among the job's needs must be there."""
        words = [a if isinstance(a, str) else str(a.find(self.out)) for a in job.arguments]
        # These need no GPU, so they are no work for the cluster's queue.
        if self.partition is None or job.kind in ("compare", "report"):
            return [sys.executable, str(self.tools / f"{job.kind}.py"), *words]
        name = job.name.replace(" ", "-").replace("/", "-")
        if job.kind == "train":
            config, _, folder, *rest = words
            return [*self._script("slurm_train.sh"), name, config, folder, *rest]
        if job.kind == "test":
            return [*self._script("slurm_test.sh"), name, *words]
        return [*self._script("slurm_tool.sh"), name, f"{job.kind}.py", *words]

    def _script(self, name: str) -> list[str]:
        return ["bash", str(self.tools / name), str(self.partition)]


def places(count: int | None, jobs: int, *, slurm: bool) -> list[dict[str, str]]:
    """What to add to the environment of each of the jobs that run at a time.

    A job has a GPU for itself, where there are as many, and its share of the processor's cores.

    Args:
        count: so many at a time; None: one a GPU, or one a core where there is no GPU. With Slurm
            all at once, since its queue knows better.
        jobs: how many there are, and never more at a time.
        slurm: whether they run elsewhere.
    """
    if slurm:
        return [{}] * min(count or jobs, jobs)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = min(count or len(gpus) or cores, jobs)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // max(1, count)))
    return [
        {"OMP_NUM_THREADS": threads}
        | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})
        for number in range(count)
    ]
