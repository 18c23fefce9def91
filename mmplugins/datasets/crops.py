"""Single objects to classify, in ImageNet's form: something to pretrain a backbone on.

`make_crops` draws pictures of one object each, with the diamond that it refers to if it has one, on
the scenes' ground and behind their bars, and writes them at half their size as
`out/{train,val}/CLASS/*.png`, equally many of each class. The object lies anywhere in its picture.

Of the families of `mmplugins.datasets` two are here, since a crop must tell the class:

- appearance, as it is;
- arrangement. Above or below, left or right: a position-blind model must toss, so that with the two
  classes of appearance and, at best, near and far it reaches 75 % and not more. (At half size the
  two distances differ by half a patch of 16, too.)
- not location: the frame whose half decides is the scene's, and a crop has another;
- not repetition: both of its classes are in every scene of it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmplugins.datasets import motifs
from mmplugins.datasets.folders import check_counts, run_all, whole_folder
from mmplugins.datasets.forms import FIRST_ID
from mmplugins.datasets.scenes import ground, place, render

VERSION = 1  # of the pictures: raise it when equal options give other files
CHUNK = 25  # pictures: what one worker makes at a time
HEIGHT, WIDTH = 64, 96  # pixels of a picture; not square, so that no code can take it for such
SCALE = 2  # at which it is drawn: the widest pair of parts needs more than a picture
MAX_CROPS = FIRST_ID["val"] - FIRST_ID["train"]
MOTIF_OF_CLASS = {
    "striped_disk": motifs.appearance,
    "checked_triangle": motifs.appearance,
    "hexagon_above": motifs.vertical,
    "hexagon_below": motifs.vertical,
    "hexagon_left": motifs.horizontal,
    "hexagon_right": motifs.horizontal,
    "hexagon_near": motifs.distance,
    "hexagon_far": motifs.distance,
}


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """What decides the content; `train` and `val` are pictures of each class.

    Raises:
        ValueError: an option out of its range.
    """

    train: int = 200
    val: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_counts(self, MAX_CROPS, "crops of each class")

    @property
    def manifest(self) -> dict:
        """What identifies the files that these options give."""
        return {"benchmark": "mmplugins crops", "version": VERSION, "options": asdict(self)}


def make_crops(
    out: Path | str, options: CropOptions, *, jobs: int = 1, overwrite: bool = False
) -> Path:
    """Make `out/{train,val}/CLASS/*.png`, unless they are there already, and return `out`.

    As `mmplugins.datasets.generate.make_benchmark`: complete or not there at all, restartable, and
    equal whatever the number of jobs.

    Raises:
        FileExistsError: `out` holds something else, or other crops and not `overwrite`.
        ValueError: `jobs` is less than 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs}: must be at least 1")
    out = Path(out).absolute()
    with whole_folder(out, options.manifest, overwrite=overwrite) as partial:
        if partial:
            todo = [
                (partial / split / category, options, split, category, range(start, stop))
                for split in FIRST_ID
                for category in MOTIF_OF_CLASS
                for start, stop in _ranges(getattr(options, split))
            ]
            run_all(make_chunk, todo, jobs, "Drawing crops")
    return out


def make_chunk(
    folder: Path, options: CropOptions, split: str, category: str, indices: range
) -> None:
    """Draw the pictures that are not there yet, each written completely or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    number = list(MOTIF_OF_CLASS).index(category)
    for index in indices:
        path = folder / f"{category}_{index + 1:07d}.png"
        if path.exists():
            continue
        # One number more than a scene's key: no crop repeats the ground of a scene.
        crop = make_crop([options.seed, FIRST_ID[split], index, number + 1], category)
        draft = path.with_suffix(".tmp")
        Image.fromarray(crop).save(draft, format="PNG")
        draft.replace(path)


def make_crop(key: list[int], category: str) -> np.ndarray:
    """The picture of `key`, uint8 (HEIGHT, WIDTH, 3), whatever else is made before or beside it."""
    rng = np.random.default_rng(key)
    height, width = SCALE * HEIGHT, SCALE * WIDTH
    canvas = ground(rng, height, width)
    parts = []
    # Thrown again until the coin says `category`: layout and class stay independent.
    while not any(part.category == category for part in parts):
        parts = place(rng, MOTIF_OF_CLASS[category], np.zeros((height, width), bool), overlap=0.0)
    image = render(rng, canvas, parts).image
    return np.asarray(Image.fromarray(image).reduce(SCALE))


def _ranges(count: int) -> list[tuple[int, int]]:
    return [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
