"""Files that are there whole or not at all."""

import os
from pathlib import Path
from uuid import uuid4


def write(file: Path, content: bytes) -> None:
    """All of it under its name, or nothing."""
    # Processes on other machines that share the disk may have the same id.
    part = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
