"""Weights from files and to files, of whatever wrapper, without running code from them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.hub import download_url_to_file

from mmplugins.checkpoints.moves import State
from mmplugins.compat import secure_checkpoints
from mmplugins.disk import whole
from mmplugins.engine.inputs import InputError, check_file

# Entries under which projects keep a model's weights, the most usual first.
ENTRIES = ("state_dict", "model", "model_state_dict", "model_state", "module", "teacher")
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        state: the weights.
        entry: under which entry they were; empty if there are no entries.
        meta: what else the file says of them, in plain types.
        entries: names of all that it holds.
    """

    state: State
    entry: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    entries: tuple[str, ...] = ()


def read(path: str, *, trust: bool = False, entry: str | None = None) -> Weights:
    """The weights in a file of torch or safetensors, or at a URL.

    Args:
        path: the file, or its URL.
        trust: also run code that the file brings, as pickle would.
        entry: which of several weights, such as `model_ema`; by default the first of the usual.

    Raises:
        InputError: no such file, a damaged one, or one without weights.
        UnpicklingError: a file that holds more than data.
    """
    check_file(path, "checkpoint")
    try:
        with _local(path) as file:
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as tensors:
                    content: Any = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
                    return Weights(content, meta=dict(tensors.metadata() or {}))
            with secure_checkpoints(trust):
                content = CheckpointLoader.load_checkpoint(str(file), map_location="cpu")
    except (InputError, UnpicklingError):
        raise
    except Exception as error:  # what damage makes a reader raise, nobody has listed
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged or no checkpoint: {reason}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, no state dict")
    name, state = _weights(content, entry, path)
    meta = content.get("meta") if name else None
    known = dict(meta) if isinstance(meta, Mapping) else {}
    return Weights(state, name, known, tuple(map(str, content)))


@contextmanager
def _local(path: str) -> Iterator[Path]:
    """The file itself, or for the time being what a URL gives."""
    if "://" not in path:
        yield Path(path).expanduser()
        return
    with TemporaryDirectory() as folder:
        # Not through torch's cache, where all files of one last name are one.
        file = Path(folder, Path(urlparse(path).path).name)
        try:
            download_url_to_file(path, str(file))
        except (OSError, ValueError) as error:
            raise InputError(f"could not fetch {path}: {error}") from error
        yield file


def write(path: Path, state: State, *, meta: Mapping[str, Any], entry: str = "state_dict") -> None:
    """Write `state` under its name when all of it is on the disk, and not before.

    Args:
        path: a file of torch, `{entry: state, "meta": meta}`, or .safetensors.
        state: the weights.
        meta: in plain types; safetensors keeps texts, so others as JSON.
        entry: where readers will look for the weights.

    Raises:
        InputError: a name with another suffix, or it could not be written.
    """
    check_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            if path.suffix == ".safetensors":
                texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in meta.items()}
                save_file(state, part, texts)
            else:
                torch.save({entry: state, "meta": dict(meta)}, part)
    except (OSError, RuntimeError, SafetensorError) as error:  # how the writers tell a full disk
        raise InputError(f"could not write `{path}`: {error}") from error


def check_suffix(path: Path) -> None:
    """Refuse names that tell no format."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"`{path}`: name a file that ends in {', '.join(SUFFIXES)}")


def _weights(content: Mapping[str, Any], entry: str | None, path: str) -> tuple[str, State]:
    """Name and tensors of an entry; the name is empty if `content` is a state dict itself."""
    some = ", ".join(map(str, content)) or "nothing"
    if entry is not None:
        if not _is_state(content.get(entry)):
            raise InputError(f"{path} has no weights under `{entry}`; it holds {some}")
        return entry, _tensors(content[entry])
    for name in ENTRIES:
        if _is_state(content.get(name)):
            return name, _tensors(content[name])
    if _is_state(content):
        return "", _tensors(content)
    raise InputError(f"{path} has no weights that are known as such: it holds {some:.300}")


def _is_state(content: Any) -> bool:
    return isinstance(content, Mapping) and any(isinstance(v, Tensor) for v in content.values())


def _tensors(content: Mapping[str, Any]) -> State:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
