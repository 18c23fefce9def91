"""Records on disk, a file for each image: what was done survives, and is never done twice.

A file appears under its name when it is whole, so a run that is killed at any time leaves whole
records only, and one that follows does the rest. `key.json` says what the records are of; a cache
of something else is refused and left as it is. Files hold arrays alone, no code.
"""

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmplugins.disk import write
from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.archive import arrays_of, record_of
from mmplugins.evaluation.record import Record

KEY = "key.json"
COUNT = "arrays"  # how many there are
T = TypeVar("T")
# What reading a zip file with a bit wrong somewhere can end in; RuntimeError: it seems encrypted.
DAMAGE = ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error


class Cache:
    """The records of one run.

    Args:
        folder: made where it does not exist.
        key: what the records follow from, as JSON can hold it.

    Raises:
        InputError: the folder holds records of something else.
    """

    def __init__(self, folder: Path, key: Mapping):
        self.folder = folder
        file = folder / KEY
        if file.is_file():
            before, key = _flat(read_key(folder)), _flat(json.loads(json.dumps(key)))
            if changed := [n for n in sorted({*key, *before}) if key.get(n) != before.get(n)]:
                name = changed[0]
                raise InputError(
                    f"{folder} holds records of another {', '.join(changed)}: {name} was "
                    f"{_short(before.get(name))} and is {_short(key.get(name))}. Name another "
                    "--out, or delete that folder"
                )
        (folder / "images").mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            write(file, json.dumps(key, indent=1).encode())

    def __contains__(self, image: str) -> bool:
        return self._file(image).is_file()

    def __setitem__(self, image: str, record: Record) -> None:
        _save(self._file(image), arrays_of(record))

    def __getitem__(self, image: str) -> Record:
        """The record of an image.

        Raises:
            InputError: there is none, or its file was damaged.
        """
        file = self._file(image)
        if not file.is_file():
            raise InputError(f"{self.folder} has no record of image {image}: run it to its end")
        return _load(file, record_of)

    def arrays(self, name: str, make: Callable[[], dict] | None = None) -> dict[str, np.ndarray]:
        """Arrays that all images share: of a file, or of `make()` the first time.

        Raises:
            InputError: the file was damaged; or it is not there, and nothing makes it.
        """
        file = self.folder / f"{name}.npz"
        if not file.is_file():
            if make is None:
                raise InputError(f"{file} is missing: run again")
            _save(file, make())
        return _load(file, dict)

    def _file(self, image: str) -> Path:
        """Named after the image, whatever its id is made of."""
        digest = hashlib.sha256(image.encode()).hexdigest()[:12]
        return self.folder / "images" / f"{re.sub(r'[^A-Za-z0-9]+', '-', image)[-40:]}-{digest}.npz"


def read_key(folder: Path) -> dict:
    """What the records of a folder are of.

    Raises:
        InputError: it holds none, or its key was damaged.
    """
    file = folder / KEY
    if not file.is_file():
        raise InputError(f"{folder} holds no records: there is no {KEY}")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}): delete {folder} and run again") from error


def _save(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{COUNT: len(arrays)}, **arrays)
    write(file, buffer.getvalue())


def _load(file: Path, form: Callable[[dict[str, np.ndarray]], T]) -> T:
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = dict(found)
        if arrays.pop(COUNT) != len(arrays):  # its table of contents has no checksum
            raise ValueError("arrays are missing")
        return form(arrays)
    except DAMAGE as error:
        raise InputError(f"{file} is damaged ({error}): delete it and run again") from error


def _flat(key: Mapping, place: str = "") -> dict[str, object]:
    """A key within another as `outer.inner`, so that a difference can be named."""
    flat = {}
    for name, value in key.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{place}{name}.")
        else:
            flat[place + name] = value
    return flat


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."
