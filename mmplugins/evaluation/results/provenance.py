"""Where numbers come from: what a file of results says of its origin.

Two parts. `protocol` is what other runs must share to be compared; `origin` is all else: the tool,
the config and checkpoints by their hashes, versions, and when and where it ran.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmplugins
from mmplugins.compat.family import DISTRIBUTIONS, owners
from mmplugins.disk import file_hash
from mmplugins.evaluation.sizes import AnyPlan
from mmplugins.evaluation.statistics.resampling import Bootstrap

OTHERS = ("torch", "numpy", "scipy", "timm", "pycocotools")


def protocol(plan: AnyPlan, images: Sequence[str], bootstrap: Bootstrap) -> dict[str, Any]:
    """What was measured and how, whatever the model, in the plain types of JSON."""
    return {
        **plan.facts,
        "images": list(images),
        "seed": bootstrap.seed,
        "boot": bootstrap.count,
    }


def origin(
    *,
    tool: str,
    options: Mapping[str, Any],
    config: str,
    cfg: Config,
    checkpoints: Sequence[str],
    device: str,
    started: datetime,
    processes: int,
) -> dict[str, Any]:
    """What made the numbers, in the plain types of JSON.

    Args:
        tool: its name.
        options: as the user gave them.
        config: path, likewise.
        cfg: what it became, with all that was inherited and overridden.
        checkpoints: paths or URLs of one recipe's training runs.
        device: its name.
        started: when.
        processes: how many shared the work.

    Raises:
        OSError: a checkpoint cannot be read.
    """
    return {
        "tool": tool,
        "options": {name: _plain(value) for name, value in options.items()},
        "config": {"path": config, "sha256": config_hash(cfg)},
        "checkpoints": [
            {"name": Path(checkpoint).name, "sha256": file_hash(checkpoint)}
            for checkpoint in checkpoints
        ],
        "position_encodings": dict(encodings(cfg.get("model"))),
        "versions": versions(),
        "device": device,
        "started": started.isoformat(timespec="seconds"),
        "processes": processes,
    }


def config_hash(cfg: Config) -> str:
    """SHA-256 of the resolved config, which neither order nor formatting changes."""
    text = json.dumps(_plain(cfg.to_dict()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def encodings(cfg: Any, place: str = "model") -> Iterator[tuple[str, list]]:
    """Every list of position encodings in a config, with its place."""
    if isinstance(cfg, Mapping):
        for key, value in cfg.items():
            if key == "position_encodings":
                yield f"{place}.{key}", _plain(value)
            else:
                yield from encodings(value, f"{place}.{key}")
    elif isinstance(cfg, list | tuple):
        for index, value in enumerate(cfg):
            yield from encodings(value, f"{place}[{index}]")


def versions() -> dict[str, str]:
    """Of Python, of us, of the OpenMMLab family in use, and of what numbers are made with."""
    modules = dict.fromkeys(name for family in DISTRIBUTIONS.values() for name in family)
    return {
        "python": platform.python_version(),
        "mmplugins": mmplugins.__version__,
        **{name: metadata.version(name) for module in modules for name in owners(module)},
        **{name: metadata.version(name) for name in OTHERS},
    }


def _plain(value: Any) -> Any:
    """Nested as JSON has it; classes and other objects by name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if hasattr(value, "__qualname__"):  # a class or a function, whose str() tells its address
        return f"{value.__module__}.{value.__qualname__}"
    return value if isinstance(value, str | int | float | bool | None) else str(value)
