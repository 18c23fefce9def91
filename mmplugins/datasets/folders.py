"""Folders that are complete or not there at all, filled in parallel by runs that may be killed."""

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.progress import track

MANIFEST = "manifest.json"


def check_counts(options: Any, most: int, what: str) -> None:
    """Refuse counts of `what` in `options.train` and `val` beyond `most`, or a negative seed.

    Raises:
        ValueError: which of them, and what it may be.
    """
    for name in ("train", "val"):
        count = getattr(options, name)
        if not 1 <= count <= most:
            raise ValueError(f"{name}={count}: must be 1 to {most} {what}")
    if options.seed < 0:
        raise ValueError(f"seed={options.seed}: must not be negative")


@contextmanager
def whole_folder(out: Path, manifest: dict, *, overwrite: bool) -> Iterator[Path | None]:
    """A hidden folder beside `out` to fill, which gets its name when the block is done.

    None where `out` holds what `manifest` says already. A run that was killed leaves the hidden
    folder, and the next one with an equal manifest is given it again.

    Raises:
        FileExistsError: `out` holds something else, or what another manifest says and not
            `overwrite`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with FileLock(out.with_name(f".{out.name}.lock")):
        if is_made(out, manifest, overwrite):
            yield None
            return
        if read_manifest(partial) != manifest:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(exist_ok=True)
            write_json(partial / MANIFEST, manifest)
        yield partial
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)


def is_made(out: Path, manifest: dict, overwrite: bool) -> bool:
    """Whether `out` holds what `manifest` says; an error if it must not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    found = read_manifest(out)
    if found == manifest:
        return True
    if found is None or found.get("benchmark") != manifest["benchmark"]:
        raise FileExistsError(f"{out} is not a benchmark of ours; choose another folder")
    if overwrite:
        return False
    flat = [{"version": m["version"], **m["options"]} for m in (found, manifest)]
    differences = ", ".join(
        f"{key}={flat[0].get(key)} (not {value})"
        for key, value in flat[1].items()
        if flat[0].get(key) != value
    )
    raise FileExistsError(
        f"{out} was made with {differences}; pass overwrite (--overwrite) to replace it, "
        "or choose another folder"
    )


def read_manifest(folder: Path) -> dict | None:
    """The folder's manifest; None if it has no readable one."""
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError):
        return None


def write_json(path: Path, content: dict | list) -> None:
    """Write the file completely or not at all."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content))
    os.replace(draft, path)


def run_all(make: Callable, todo: list[tuple], jobs: int, doing: str) -> None:
    """Call `make(*job)` for each job of `todo`, with a progress bar."""
    with _started(make, todo, min(jobs, len(todo))) as results:
        deque(track(results, doing, total=len(todo)), maxlen=0)  # run to the end


@contextmanager
def _started(make: Callable, todo: list[tuple], jobs: int) -> Iterator[Iterator]:
    """The jobs being done, one result each; inside this process if `jobs` is less than 2."""
    if jobs < 2:
        yield (make(*job) for job in todo)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures: list[Future] = [pool.submit(make, *job) for job in todo]
        try:
            yield (future.result() for future in as_completed(futures))
        finally:  # after an error or Ctrl-C, do not draw the rest first
            pool.shutdown(wait=True, cancel_futures=True)
