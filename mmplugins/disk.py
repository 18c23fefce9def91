"""Files that are there whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A name beside `file` to write under; what lies there gets its name at the end.

    An error on the way, a full disk for one, leaves nothing new, and what was there before.
    """
    # Processes on other machines that share the disk may have the same id.
    part = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        part.touch()
        mode = part.stat().st_mode  # as the user's umask says, whatever a writer would make of it
        yield part
        part.chmod(mode)
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def write(file: Path, content: bytes) -> None:
    """All of it under its name, or nothing."""
    with whole(file) as part:
        part.write_bytes(content)


def file_hash(path: str) -> str | None:
    """SHA-256 of a file, read in pieces; None for a URL."""
    if "://" in path:
        return None
    digest = hashlib.sha256()
    with Path(path).expanduser().open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
