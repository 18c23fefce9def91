"""Seconds of a step, whatever ran before it."""

import gc
import math
import time
from collections.abc import Callable

import torch

from mmplugins.benchmark.memory import trim


def seconds(step: Callable[[], object], device: str, *, repeats: int = 1) -> float:
    """Mean time of `repeats` steps, the device's work included."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(repeats):
            step()
        return (time.perf_counter() - start) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / repeats


def turn(step: Callable[[], object], device: str, *, least: float) -> float:
    """Time of one of several steps that take turns: each begins with the same empty memory.

    It is run once before it counts, and then repeated for `least` seconds.
    """
    gc.collect()
    trim()
    gc.disable()
    try:
        first = seconds(step, device)
        return seconds(step, device, repeats=max(math.ceil(least / first), 1))
    finally:
        gc.enable()
