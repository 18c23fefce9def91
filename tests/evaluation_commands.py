"""The evaluation's tools on tiny models with random weights and some of the benchmark's scenes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from evaluation_engines import config, make_data
from mmengine.runner import save_checkpoint

from mmplugins.evaluation.commands import equivariance
from mmplugins.evaluation.results.files import Results, read_results
from mmplugins.visualise.look import build_model

RECIPES = {"none": [], "table": [dict(type="LearnedAPE")]}
QUICK = ("--subset", "2", "--boot", "50", "--noise-floor", "0", "--samples", "0")


class Workplace:
    """Data, configs of both hosts with and without a table of positions, and their checkpoints.

    Args:
        folder: empty.
        main: the command, `tools/equivariance.py` without.
    """

    def __init__(self, folder: Path, main: Callable[[Sequence[str]], None] = equivariance.main):
        self.folder, self.main = make_data(folder, images=3), main
        for host in ("mask_rcnn", "upernet"):
            for name, encodings in RECIPES.items():
                options = f"model = dict(backbone=dict(position_encodings={encodings}))"
                self.config(host, name).write_text(f'_base_ = "{host}.py"\n{options}\n')

    def config(self, host: str, name: str) -> Path:
        return self.folder / f"{host}_{name}.py"

    def checkpoint(self, host: str, name: str, seed: int = 0) -> Path:
        """Random weights, others for each seed, in a file as mmengine writes them."""
        file = self.folder / f"{host}_{name}_{seed}.pth"
        if not file.exists():
            model = build_model(config(self.folder, host, RECIPES[name]))
            generator = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data += 0.01 * seed * noise
            save_checkpoint({"state_dict": model.state_dict(), "meta": {}}, str(file))
        return file

    def measure(self, host: str, name: str, out: str, *options: object, seeds=(0,)) -> Results:
        """What the command finds, and leaves in the folder `out`."""
        checkpoints = [self.checkpoint(host, name, seed) for seed in seeds]
        self.command(self.config(host, name), *checkpoints, "--out", self.folder / out, *options)
        return read_results(self.folder / out / "results.json")

    def refused(self, host: str, name: str, out: str, *options: object, seeds=(0,)) -> str:
        """What the command says before it ends with status 1."""
        checkpoints = [self.checkpoint(host, name, seed) for seed in seeds]
        argv = self.config(host, name), *checkpoints, "--out", self.folder / out, *options
        return self.command_refused(*argv)

    def command(self, *argv: object) -> None:
        os.environ["MMPLUGINS_SYNTHETIC"] = str(self.folder / "data")
        self.main([str(part) for part in argv])

    def command_refused(self, *argv: object) -> str:
        with pytest.raises(SystemExit) as ended:
            self.command(*argv)
        assert str(ended.value).startswith("error: ")  # printed, with the status 1, by Python
        return str(ended.value)


def value(results: Results, metric: str, part: str, point: str | None = "pgrid") -> float:
    """Of the row that there is one of."""
    (row,) = (
        row for row in results.rows if (row.metric, row.part, row.point) == (metric, part, point)
    )
    return row.value
