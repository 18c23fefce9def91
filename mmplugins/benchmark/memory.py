"""Peak memory of a step: measured, or foretold without running it; and how much there is."""

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PEAK = Path("/proc/self/clear_refs")  # of Linux
MMAP_THRESHOLD = -3  # of mallopt


def can_count(device: str) -> bool:
    """Whether somebody counts the most memory that was held."""
    return device != "cpu" or PEAK.exists()


def peak_bytes(step: Callable[[], object], device: str) -> int | None:
    """The most memory that one step holds beyond what is held before; None where nobody counts it.

    On a CPU it is the process's, as Linux counts it: see `own_pages`.
    """
    gc.collect()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    if not can_count(device):
        return None
    trim()
    PEAK.write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


@contextmanager
def own_pages() -> Iterator[None]:
    """Every tensor made within lies in pages of its own, and gives them back when it is freed.

    Else those that are freed leave holes, and the process holds more than its tensors do. So it
    does where there are such holes already: a process that has not run yet is best.
    """
    if not can_count("cpu"):
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, 1 << 16)
    try:
        yield
    finally:
        libc.mallopt(MMAP_THRESHOLD, 1 << 25)  # where it comes to lie by itself


def foretold_bytes(step: Callable[[], object]) -> int | None:
    """What the tensors of a step will hold at most, by a run in which they hold nothing.

    None where a step cannot be run so: one whose flow depends on the contents of tensors, or that
    calls code from outside torch.
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), _Living() as living:
            step()
    except NotImplementedError:  # which says what cannot run at all
        raise
    except RuntimeError:
        return None
    return living.peak


def free_bytes(device: str) -> int | None:
    """What there is now for a step; None where nobody says so."""
    if device != "cpu":
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + kept
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    free = _kilobytes(meminfo, "MemAvailable")
    most, used = (Path("/sys/fs/cgroup", f"memory.{name}") for name in ("max", "current"))
    if most.exists() and (limit := most.read_text().strip()).isdigit():
        free = min(free, int(limit) - int(used.read_text()))
    return free


def trim() -> None:
    """Give freed memory back to the system, where that is a thing one can do."""
    if sys.platform.startswith("linux"):
        trims = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not of every C library
        if trims is not None:
            trims(0)


class _Living(TorchDispatchMode):
    """Adds up what is held by the results of all operations, as long as they live."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._held: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operation, and count what it makes."""
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._count(result.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:  # a view, or written in place
            return

        def release(_: weakref.ref) -> None:
            del self._held[key]
            self.now -= size

        self._held[key] = weakref.ref(storage, release)
        self.now += size
        self.peak = max(self.peak, self.now)


def _status(key: str) -> int:
    return _kilobytes(Path("/proc/self/status"), key)


def _kilobytes(file: Path, key: str) -> int:
    """Bytes of the line `key: ... kB`."""
    lines = file.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
