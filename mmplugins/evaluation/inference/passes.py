"""Many images by several processes: each looks at its share, and disk brings them together."""

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from mmengine import dist

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.cache import Cache
from mmplugins.evaluation.inference.engine import Engine
from mmplugins.evaluation.progress import Bars

PATIENCE = timedelta(days=7)  # that a process waits for the slowest one


def join(launcher: str) -> None:
    """Get together with the other processes of torchrun or Slurm; on a CPU through gloo.

    Raises:
        InputError: a launcher that needs GPUs where there are none.
    """
    if launcher == "none":
        return
    if torch.cuda.is_available():
        dist.init_dist(launcher, timeout=PATIENCE.total_seconds())
    elif launcher == "pytorch":
        torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    else:
        raise InputError(f"--launcher {launcher} needs GPUs, pytorch (torchrun) does not")


def device_of() -> str:
    """Where this process runs its model."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', torch.cuda.current_device())}"


def run_pass(engine: Engine, cache: Cache, indices: Sequence[int], bars: Bars, what: str) -> None:
    """Leave a record of every image of `indices` in the cache; those that are there, stay.

    Every process returns when all are done.
    """
    share, ids = indices[dist.get_rank() :: dist.get_world_size()], engine.pictures.ids
    missing = [index for index in share if ids[index] not in cache]
    if len(missing) < len(share):
        bars.say(f"{what}: {len(share) - len(missing)} of {len(share)} images were there")
    for index in bars.track(missing, what, "image"):
        cache[ids[index]] = engine.look(index)
    dist.barrier()
