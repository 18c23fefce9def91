"""All rows at one shape: what fits and agrees is measured, its times in turn, round after round."""

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch
from torch import Tensor

from mmplugins.benchmark.agreement import check
from mmplugins.benchmark.cases import BASELINE, Row, Shape
from mmplugins.benchmark.layers import STEPS, Layer
from mmplugins.benchmark.memory import can_count, foretold_bytes, free_bytes, own_pages, peak_bytes
from mmplugins.benchmark.timing import turn

# Of norms of whole tensors, in single precision. In the straightforward form of SaPE2 distances
# between look-alikes are wrong in the third digit.
TOLERANCE = 1e-2
SHARE = 0.9  # of the free memory that a step may take

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass
class Cell:
    """One row and step: seconds of each round, peak bytes, and why some are missing."""

    row: Row
    step: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.row}, {self.step}"


@dataclass(frozen=True)
class Setting:
    """How all rows run.

    Attributes:
        rounds: times of each step that count.
        device: cpu or cuda.
        dtype: of q, k and v.
        threads: on the CPU.
        memory: bytes that a step may take, by default most of those that are free.
        least: seconds to repeat a short step for.
    """

    rounds: int = 5
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    memory: int | None = None
    least: float = 0.25


def compare(shape: Shape, rows: Sequence[Row], setting: Setting, say: Say) -> list[Cell]:
    """Seconds and peak bytes of all `rows` at `shape`.

    On a CPU times are taken in a process of their own, and each row's memory in another: what ran
    before leaves memory behind that changes both.

    Args:
        shape: of the layers.
        rows: what is measured.
        setting: how.
        say: told what was done; as other processes call it, it is pickled.

    Raises:
        Disagreement: two forms of an encoding are not the same function.
        BrokenProcessPool: the process of the times died.
    """
    cells = [Cell(row, step) for row in rows for step in STEPS]
    _check(shape, cells, setting, say)
    for row in dict.fromkeys(cell.row for cell in _open(cells)):
        _count(shape, [cell for cell in _open(cells) if cell.row == row], setting, say)
    timed = _alone(setting, time_rounds, shape, _open(cells), setting, say)
    for cell, seconds in zip(_open(cells), timed, strict=True):
        cell.seconds = seconds
    return cells


def _alone(setting: Setting, work: Callable[..., T], *args: object) -> T:
    if setting.device != "cpu":
        return work(*args)
    # A fork server imports torch once for all, and runs nothing. Windows has none.
    known = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(known)
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, _begin, (setting.threads,)) as pool:
        return pool.submit(work, *args).result()


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Else a process whose parent was killed works on, and then waits for ever."""
    parent.join()
    os._exit(1)


def _open(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if not cell.note]


def _check(shape: Shape, cells: Sequence[Cell], setting: Setting, say: Say) -> None:
    """Leave out what does not fit or cannot run; hold all forms of an encoding to its first."""
    first: dict[str, tuple[Row, dict[str, Tensor]]] = {}
    for row in dict.fromkeys(cell.row for cell in cells):
        # Whatever precision is timed, in half of it forms would differ by rounding alone.
        mine = [cell for cell in cells if cell.row == row]
        try:
            layer = Layer(shape, row, device=setting.device)
        except ValueError as error:  # heads that an encoding cannot serve
            for cell in mine:
                cell.note = str(error)
            say(f"{row}: left out, {error}")
            continue
        for cell in mine:
            cell.note = _obstacle(partial(STEPS[cell.step], layer), setting)
            if cell.note:
                say(f"{cell}: left out, {cell.note}")
        remaining = [cell.step for cell in _open(mine)]
        if not remaining or row.encoding == BASELINE:
            continue
        whole = "forward + backward" in remaining
        results = layer.forward_backward() if whole else {"output": layer.forward()}
        if row.encoding not in first:
            first[row.encoding] = row, results
            continue
        reference, expected = first[row.encoding]
        worst = check(row, results, reference, expected, tolerance=TOLERANCE)
        say(f"{row}: the same function as {reference}, differs by {worst:.0e}")


def _obstacle(step: Callable[[], object], setting: Setting) -> str:
    """Why a step cannot be run; nothing if it can."""
    try:
        foretold = foretold_bytes(step)
    except (ValueError, NotImplementedError) as error:  # a kernel that does not serve this
        return str(error)
    free = setting.memory or SHARE * (free_bytes(setting.device) or float("inf"))
    if foretold is None or foretold <= free:
        return ""
    return f"would take {foretold / 1e9:.3g} GB of {free / 1e9:.3g}"


def _count(shape: Shape, cells: Sequence[Cell], setting: Setting, say: Say) -> None:
    """Peak bytes of a row."""
    if not can_count(setting.device):
        return
    try:
        peaks = _alone(setting, count, shape, cells[0].row, [cell.step for cell in cells], setting)
    except BrokenProcessPool:
        peaks = None
    for i, cell in enumerate(cells):
        if peaks is None:
            cell.note = "its process died: most often for want of memory"
        else:
            cell.peak_bytes = peaks[i]
        say(f"{cell}: {cell.note or f'{cell.peak_bytes / 1e6:.1f} MB'}")


def count(shape: Shape, row: Row, steps: Sequence[str], setting: Setting) -> list[int]:
    """Peak bytes of each of `steps`."""
    peaks = []
    with own_pages():
        layer = Layer(shape, row, device=setting.device, dtype=setting.dtype)
        for name in steps:
            step = partial(STEPS[name], layer)
            step()  # libraries keep buffers from their first run on
            peaks.append(peak_bytes(step, setting.device))
    return peaks


def time_rounds(
    shape: Shape, cells: Sequence[Cell], setting: Setting, say: Say
) -> list[list[float]]:
    """Rounds of all cells, in another order each, so that none always follows the same other."""
    device, dtype = setting.device, setting.dtype
    rows = dict.fromkeys(cell.row for cell in cells)
    layers = {row: Layer(shape, row, device=device, dtype=dtype) for row in rows}
    order, shuffled = list(cells), random.Random(0)
    for number in range(setting.rounds + 1):
        start = time.perf_counter()
        shuffled.shuffle(order)
        for cell in order:
            step = partial(STEPS[cell.step], layers[cell.row])
            if number:
                cell.seconds.append(turn(step, device, least=setting.least))
            else:
                step()
        what = f"round {number} of {setting.rounds}" if number else "warm up"
        say(f"{what}, {len(order)} steps: {time.perf_counter() - start:.1f} s")
    return [cell.seconds for cell in cells]
