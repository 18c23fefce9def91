"""Products in full single precision, whatever the user has set for speed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Autocast off, where there is one: not on meta tensors."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def as_autocast(*tensors: Tensor) -> list[Tensor]:
    """What autocast would make of the operands of a product: double precision remains."""
    device = tensors[0].device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return list(tensors)
    half = torch.get_autocast_dtype(device)
    return [t if t.dtype == torch.float64 else t.to(half) for t in tensors]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Without autocast, and without TF32 or bfloat16 within float32 products.

    Distances between look-alikes are small differences of large products: TF32 would lose them.
    A graph of torch.compile cannot change that setting: it keeps the one it was compiled under.
    """
    backends = {"cuda": torch.backends.cuda.matmul, "cpu": torch.backends.mkldnn.matmul}
    backend = backends.get(device.type)
    with without_autocast(device):
        if backend is None or torch.compiler.is_compiling():
            yield
            return
        name, exact = ("fp32_precision", "ieee")
        if not hasattr(backend, name):  # torch < 2.9
            name, exact = ("allow_tf32", False)
        before = getattr(backend, name, exact)
        if before == exact:
            yield
            return
        setattr(backend, name, exact)
        try:
            yield
        finally:
            setattr(backend, name, before)
