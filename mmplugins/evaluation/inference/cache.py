"""Records on disk, a file for each image: what was done survives, and is never done twice.

A file appears under its name when it is whole, so a run that is killed at any time leaves whole
records only, and one that follows does the rest. `key.json` says what the records are of; a cache
of something else is refused and left as it is. Files hold arrays alone, no code.
"""

import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.archive import arrays_of, record_of
from mmplugins.evaluation.inference.record import Record

KEY = "key.json"


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
        (folder / "images").mkdir(parents=True, exist_ok=True)
        key, file = json.loads(json.dumps(key)), folder / KEY
        if file.is_file():
            before = json.loads(file.read_text())
            if changed := [n for n in sorted({*key, *before}) if key.get(n) != before.get(n)]:
                name = changed[0]
                raise InputError(
                    f"{folder} holds records of another {', '.join(changed)}: {name} was "
                    f"{_short(before.get(name))} and is {_short(key.get(name))}. Name another "
                    "--out, or delete that folder"
                )
        else:
            write(file, json.dumps(key, indent=1).encode())

    def __contains__(self, image: str) -> bool:
        return self._file(image).is_file()

    def __setitem__(self, image: str, record: Record) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays_of(record))
        write(self._file(image), buffer.getvalue())

    def __getitem__(self, image: str) -> Record:
        """The record of an image.

        Raises:
            InputError: there is none, or its file was damaged.
        """
        file = self._file(image)
        if not file.is_file():
            raise InputError(f"{self.folder} has no record of image {image}: run it to its end")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return record_of(dict(arrays))
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{file} is damaged ({error}): delete it and run again") from error

    def arrays(self, name: str, make: Callable[[], dict]) -> dict[str, np.ndarray]:
        """Arrays that all images share: of a file, or of `make()` the first time."""
        file = self.folder / f"{name}.npz"
        if not file.is_file():
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **make())
            write(file, buffer.getvalue())
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)

    def _file(self, image: str) -> Path:
        """Named after the image, whatever its id is made of."""
        digest = hashlib.sha256(image.encode()).hexdigest()[:12]
        return self.folder / "images" / f"{re.sub(r'[^A-Za-z0-9]+', '-', image)[-40:]}-{digest}.npz"


def write(file: Path, content: bytes) -> None:
    """All of it under its name, or nothing."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."
