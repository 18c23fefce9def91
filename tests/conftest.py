"""What every test starts from: one thread, one seed, both kinds of data roots."""

import gc
import os
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

import mmplugins  # noqa: F401  first of all, so that mmcv finds its ops before mmdet is imported

# A busy machine is slow; that is no property of an input.
# Fewer examples than usual: all tests together have ten minutes.
settings.register_profile(
    "any", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in what is imported: it is much, and it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # workers of xdist share the cores


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  mmcv's and mmdet's transforms draw from numpy's global state


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Real data; the folder of MMPLUGINS_DATA, whose tests are skipped where it is not set."""
    folder = os.environ.get("MMPLUGINS_DATA")
    if not folder:
        pytest.skip("real data: set MMPLUGINS_DATA to the folder that holds it")
    root = Path(folder)
    if not root.is_dir():
        pytest.fail(f"MMPLUGINS_DATA={folder} is not a folder")
    return root.resolve()


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def float64() -> None:
    """Make float64 the default dtype for one test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
