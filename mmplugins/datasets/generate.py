"""Makes the benchmark on disk: in parallel, restartable, and complete or not there at all."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mmplugins.datasets.folders import check_counts, run_all, whole_folder, write_json
from mmplugins.datasets.forms import FIRST_ID, coco_dataset, make_folders, write_sample
from mmplugins.datasets.scenes import MIN_SIDE, make_scene

VERSION = 1  # of the pictures: raise it when equal options give other files
CHUNK = 25  # scenes: what one worker makes at a time, and what a killed run can lose
MAX_IMAGES = FIRST_ID["val"] - FIRST_ID["train"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """What decides the content; `height` and `width` in pixels.

    Raises:
        ValueError: an option out of its range.
    """

    train: int = 600
    val: int = 150
    height: int = 160
    width: int = 224
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_counts(self, MAX_IMAGES, "images")
        for name in ("height", "width"):
            if getattr(self, name) < MIN_SIDE:
                raise ValueError(
                    f"{name}={getattr(self, name)}: must be at least {MIN_SIDE} pixels, "
                    "or the widest group of objects does not fit"
                )

    @property
    def manifest(self) -> dict:
        """What identifies the files that these options give."""
        return {"benchmark": "mmplugins synthetic", "version": VERSION, "options": asdict(self)}


def make_benchmark(
    out: Path | str, options: BenchmarkOptions, *, jobs: int = 1, overwrite: bool = False
) -> Path:
    """Make `out/coco` and `out/ade`, unless they are there already, and return `out`.

    Files are collected in a hidden folder beside `out`, which gets its name when all is done. A
    run that was killed leaves that folder, and the next one with equal options goes on from it.

    Args:
        out: the folder to make.
        options: what to make.
        jobs: number of processes; it does not change the files.
        overwrite: replace a benchmark made with other options.

    Raises:
        FileExistsError: `out` holds something else, or another benchmark and not `overwrite`.
        ValueError: `jobs` is less than 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs}: must be at least 1")
    out = Path(out).absolute()
    with whole_folder(out, options.manifest, overwrite=overwrite) as partial:
        if partial:
            make_folders(partial)
            make_chunks(partial, options, jobs)
            merge_chunks(partial, options)
    return out


def chunk_paths(root: Path, options: BenchmarkOptions, split: str) -> dict[Path, range]:
    """File of each chunk's annotations -> indices of its scenes."""
    count = getattr(options, split)
    return {
        root / f"chunk_{split}_{start:06d}.json": range(start, min(start + CHUNK, count))
        for start in range(0, count, CHUNK)
    }


def make_chunks(root: Path, options: BenchmarkOptions, jobs: int) -> None:
    """Make every chunk that is not there yet, with a progress bar."""
    todo = [
        (path, options, split, indices)
        for split in FIRST_ID
        for path, indices in chunk_paths(root, options, split).items()
        if not path.exists()
    ]
    run_all(make_chunk, todo, jobs, "Drawing scenes")


def make_chunk(path: Path, options: BenchmarkOptions, split: str, indices: range) -> None:
    """Draw and write some scenes; their annotations come last, as the sign that they are done."""
    samples = []
    for index in indices:
        key = [options.seed, FIRST_ID[split], index]
        scene = make_scene(key, options.height, options.width)
        samples.append(write_sample(path.parent, split, index, scene))
    write_json(path, samples)


def merge_chunks(root: Path, options: BenchmarkOptions) -> None:
    """Write each split's annotation file; only then remove the chunks."""
    for split in FIRST_ID:
        samples = [
            sample
            for path in chunk_paths(root, options, split)
            for sample in json.loads(path.read_text())
        ]
        description = f"mmplugins synthetic benchmark, version {VERSION}, {split}"
        content = coco_dataset(samples, description)
        write_json(root / "coco" / "annotations" / f"instances_{split}2017.json", content)
    for path in root.glob("chunk_*.json"):
        path.unlink()
