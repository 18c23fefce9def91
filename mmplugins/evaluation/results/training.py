"""What a training run cost and how it went, and how large the model is.

A checkpoint of mmengine holds the loss and the time of each of its iterations, those before a
resumption too and nothing of what came later or was lost: costs are read from there. Scores lie in
the logs beside it, in a folder for each start; of an evaluation that was repeated after a
resumption the last counts, and what was logged after the checkpoint is not its own.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmplugins.compat.checkpoints import secure_checkpoints
from mmplugins.position_encodings.base import PositionEncoding

POINTS = 200  # of a curve of losses, at most
ABSENT = -1.0  # of pycocotools: there is no such object
NO_SCORES = {"step", "time", "data_time"}


def training(checkpoint: str, *, trust: bool = False) -> dict[str, Any] | None:
    """The run that made a checkpoint, in the plain types of JSON; None if it does not say.

    Args:
        checkpoint: its file, beside the logs of its run; of a URL nothing is known.
        trust: load it as mmengine would, which runs code that it may bring.

    Returns:
        `iterations`; `epochs`, None of runs that do not count them; `seconds` of all iterations,
        evaluations not included; `loss` [[iteration, mean since the point before], ...]; `scores`
        [[iteration, {metric: value}], ...].

    Raises:
        UnpicklingError: it holds more than tensors and mmengine's own log objects.
    """
    if "://" in checkpoint:
        return None
    with secure_checkpoints(trust):  # without the tensors' values
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location="meta")
    meta = content.get("meta") or {}
    iterations, epochs = meta.get("iter"), meta.get("epoch") or None
    if not iterations:
        return None
    loss, times = (_history(content, name) for name in ("train/loss", "train/time"))
    runs = Path(checkpoint).expanduser().parent.glob("*/vis_data/scalars.json")
    saved = meta.get("time", "")
    own = sorted(file for file in runs if file.parts[-3] <= saved)  # folders: when runs began
    scores = _scores(own, iterations / epochs if epochs else None)
    return {
        "iterations": iterations,
        "epochs": epochs,
        "seconds": float(times.mean() * iterations) if len(times) else None,
        "loss": _thinned(loss, iterations),
        "scores": [[at, found] for at, found in sorted(scores.items()) if at <= iterations],
    }


def sizes_of(model: nn.Module) -> dict[str, int]:
    """How many parameters a model has, and how many of them its position encodings."""
    encodings = nn.ModuleList(m for m in model.modules() if isinstance(m, PositionEncoding))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoding_parameters": sum(p.numel() for p in encodings.parameters()),
    }


def _history(content: Mapping, name: str) -> Float[np.ndarray, " n"]:
    """A value of each iteration, or of the last ones: mmengine forgets those a million ago."""
    logged = (content.get("message_hub") or {}).get("log_scalars", {})
    return np.asarray(logged[name].data[0] if name in logged else [], dtype=np.float64)


def _thinned(values: Float[np.ndarray, " n"], iterations: int) -> list[list]:
    """Means of pieces, with the last iteration of each; None where a loss was not finite."""
    ends = np.linspace(0, len(values), min(len(values), POINTS) + 1).round().astype(int)[1:]
    means = [float(piece.mean()) for piece in np.split(values, ends[:-1]) if len(piece)]
    places = (iterations - len(values) + ends).tolist()
    return [[at, m if math.isfinite(m) else None] for at, m in zip(places, means, strict=True)]


def _scores(files: list[Path], per_epoch: float | None) -> dict[int, dict[str, float]]:
    """By iteration; hosts log the iteration or the epoch of an evaluation."""
    scores: dict[int, dict[str, float]] = {}
    for file in files:
        last = None  # iteration that was logged before
        for record in _records(file):
            step = record["step"]
            if "iter" in record:
                if last is None:  # a resumption, or a new run, takes the place of what follows
                    scores = {at: found for at, found in scores.items() if at < step}
                last = step
                continue
            if step < (last or 0):
                step = round(step * per_epoch) if per_epoch else last
            scores[step] = {
                name: value
                for name, value in record.items()
                if name not in NO_SCORES
                and isinstance(value, int | float)
                and math.isfinite(value)
                and value != ABSENT
            }
    return scores


def _records(file: Path) -> Iterator[dict]:
    """The lines of a log, but one that was cut off when a run was killed."""
    for line in file.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield record
