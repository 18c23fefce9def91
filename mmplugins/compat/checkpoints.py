"""Load checkpoints without running code from them, in both OpenMMLab families."""

import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from safetensors.torch import load_file
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
FORBID = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def _named(function: Callable, module: str, name: str) -> Callable:
    """Return `function` such that torch.load finds it where a file asks for `module.name`."""

    def call(*args: object) -> object:
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call


def _safe_globals() -> list[Callable]:
    """Return what checkpoints of mmengine, and others, hold beside tensors.

    Logged scalars are numpy arrays in a HistoryBuffer; it and the one-cycle schedule also save
    methods of their own classes, which pickle writes as calls of `getattr`. Others keep the options
    of their command line.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    def method(owner: type, name: str) -> Callable:
        if owner not in (HistoryBuffer, OneCycleParamScheduler) or name.startswith("__"):
            raise UnpicklingError(
                f"getattr({owner!r}, {name!r}) is not a method that mmengine saves"
            )
        return getattr(owner, name)

    functions = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    modules = "numpy.core.multiarray", "numpy._core.multiarray"  # numpy 1, numpy 2
    codes = "?" + np.typecodes["AllInteger"] + np.typecodes["Float"]
    return [
        HistoryBuffer,
        OneCycleParamScheduler,
        Namespace,
        _named(method, "builtins", "getattr"),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in codes},
        *(_named(f, module, f.__name__) for f in functions for module in modules),
    ]


@contextmanager
def secure_checkpoints(trust: bool = False) -> Iterator[None]:
    """Within this context every load by mmengine is `torch.load(weights_only=True)`.

    It covers `load_from`, `resume` and `init_cfg=dict(type='Pretrained')`, from files and URLs.
    mmengine's original family passes `weights_only=False`, OneDL's falls back to it: both would
    run code that a file brings. `trust=True` leaves them their way.

    Raises:
        UnpicklingError: a checkpoint holds more than tensors and mmengine's own log objects.
    """
    if trust:
        yield
        return
    from mmengine.runner.checkpoint import CheckpointLoader

    original = CheckpointLoader.load_checkpoint

    def load_checkpoint(
        filename: str, map_location: object = None, logger: object = "current"
    ) -> dict:
        path = Path(filename).expanduser()
        try:
            if path.is_file() and path.suffix == ".safetensors":  # torch can from 2.13 on
                return load_file(path)
            if path.is_file():
                return torch.load(path, map_location=map_location, weights_only=True)
            return original(filename, map_location, logger)
        except UnpicklingError as error:
            raise UnpicklingError(
                f"{filename} is damaged or holds more than weights, and loading it may run code "
                "that it brings. If you trust where it comes from, pass --trust-checkpoint."
            ) from error

    method = vars(CheckpointLoader)["load_checkpoint"]
    environ = {name: os.environ.pop(name, None) for name in (FORCE, FORBID)}
    allowed = [entry for entry in _safe_globals() if entry not in get_safe_globals()]
    os.environ[FORCE] = "1"  # loaders of URL schemes pass weights_only=False to torch.load
    add_safe_globals(allowed)
    CheckpointLoader.load_checkpoint = staticmethod(load_checkpoint)
    try:
        yield
    finally:
        CheckpointLoader.load_checkpoint = method
        # Others' stay, also those that a module imported meanwhile has added.
        others = [entry for entry in get_safe_globals() if entry not in allowed]
        clear_safe_globals()
        add_safe_globals(others)
        del os.environ[FORCE]
        os.environ.update({name: value for name, value in environ.items() if value is not None})
