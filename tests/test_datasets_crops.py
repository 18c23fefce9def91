"""Crops to classify: every class alike often, files equal whoever makes them, whole or absent."""

import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmplugins.datasets import crops
from mmplugins.datasets.crops import MOTIF_OF_CLASS, CropOptions, make_crop, make_crops
from mmplugins.datasets.families import FAMILY_OF_CLASS
from mmplugins.datasets.parts import LOOKS
from mmplugins.datasets.scenes import Scene, render

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = CropOptions(train=3, val=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_crops(tmp_path_factory.mktemp("crops") / "classification", OPTIONS)


def contents(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_classes_are_those_that_a_crop_tells() -> None:
    told = {"appearance", "arrangement"}
    assert set(MOTIF_OF_CLASS) == {c for c, family in FAMILY_OF_CLASS.items() if family in told}


def test_form_is_imagenets_and_classes_are_balanced(made: Path) -> None:
    pictures = [path.relative_to(made).parts for path in made.rglob("*.png")]
    assert all(len(parts) == 3 for parts in pictures)
    for split, count in (("train", OPTIONS.train), ("val", OPTIONS.val)):
        assert Counter(c for s, c, _ in pictures if s == split) == dict.fromkeys(
            MOTIF_OF_CLASS, count
        )
    for path in made.rglob("*.png"):
        image = Image.open(path)
        assert (image.mode, image.size) == ("RGB", (96, 64))
    assert len({path.read_bytes() for path in made.rglob("*.png")}) == len(pictures)


@pytest.mark.parametrize("category", MOTIF_OF_CLASS)
def test_picture_shows_one_object_of_its_class(
    category: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the diamond that says which, wholly inside."""
    shown = []

    def remember(rng, canvas, parts) -> Scene:
        scene = render(rng, canvas, parts)
        shown.append((parts, scene))
        return scene

    monkeypatch.setattr(crops, "render", remember)
    for index in range(6):
        picture = make_crop([0, 1, index, 1], category)
        parts, scene = shown[index]
        assert [instance.category for instance in scene.instances] == [category]
        markers = [part.look for part in parts if part.category is None]
        assert len(markers) == (FAMILY_OF_CLASS[category] == "arrangement")
        assert set(markers) <= set(LOOKS)
        boxes = np.array([part.box for part in parts])
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= scene.labels.shape).all()
        halves = scene.image.reshape(64, 2, 96, 2, 3).mean(axis=(1, 3))
        assert np.abs(picture - halves).max() <= 0.5
    centres = {(p.y, p.x) for parts, _ in shown for p in parts if p.category}
    assert len(centres) == 6  # the object lies anywhere


def test_files_depend_neither_on_jobs_nor_on_the_number_of_crops(
    made: Path, tmp_path: Path
) -> None:
    assert contents(make_crops(tmp_path / "parallel", OPTIONS, jobs=2)) == contents(made)
    fewer = contents(make_crops(tmp_path / "fewer", CropOptions(train=1, val=1)))
    more = contents(made)
    pictures = [name for name in fewer if name.suffix == ".png"]
    assert len(pictures) == 16
    assert all(fewer[name] == more[name] for name in pictures)


def test_another_seed_is_refused_beside_the_first_and_draws_otherwise(
    made: Path, tmp_path: Path
) -> None:
    options = CropOptions(train=1, val=1, seed=1)
    with pytest.raises(FileExistsError, match=r"train=3 \(not 1\).*seed=0 \(not 1\).*--overwrite"):
        make_crops(made, options)
    other = contents(make_crops(tmp_path / "other", options))
    assert not {v for k, v in other.items() if k.suffix == ".png"} & set(contents(made).values())


def test_a_failed_run_leaves_nothing_at_its_name_and_goes_on_later(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of disk in the middle of a picture."""
    saved = []

    def save(image: Image.Image, path: Path, **options: str) -> None:
        if len(saved) == 5:
            path.write_bytes(b"\x89PNG half")
            raise OSError("No space left on device")
        saved.append(path)
        real(image, path, **options)

    real = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="No space left"):
        make_crops(tmp_path / "data", OPTIONS)
    assert not (tmp_path / "data").exists()
    (partial,) = tmp_path.glob(".data.partial")
    assert len(list(partial.rglob("*.png"))) == 5
    monkeypatch.setattr(Image.Image, "save", real)
    drawn = []
    draw = crops.make_crop
    monkeypatch.setattr(
        crops, "make_crop", lambda key, category: drawn.append(key) or draw(key, category)
    )
    assert contents(make_crops(tmp_path / "data", OPTIONS)) == contents(made)
    assert len(drawn) == 8 * (3 + 2) - 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, r"train=0: must be 1 to 1000000 crops of each class"),
        ({"val": 1_000_001}, r"val=1000001"),
        ({"seed": -1}, r"seed=-1: must not be negative"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CropOptions(**options)


def test_bad_number_of_jobs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="jobs=0"):
        make_crops(tmp_path / "data", OPTIONS, jobs=0)
    assert not list(tmp_path.iterdir())


def test_command_line_puts_them_beside_the_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = str(ROOT / "tools" / "make_benchmark.py")
    options = ["--train", "1", "--val", "1", "--jobs", "1", "--out", str(tmp_path / "data")]

    def run(*more: str) -> None:
        monkeypatch.setattr(sys, "argv", [tool, *options, *more])
        runpy.run_path(tool, run_name="__main__")

    run()
    assert not (tmp_path / "data" / "classification").exists()
    run("--crops", "2")
    assert "classification: 2 and 1 crops of each class" in capsys.readouterr().out
    assert len(list((tmp_path / "data/classification/train/hexagon_far").glob("*.png"))) == 2
    with pytest.raises(SystemExit, match="make_benchmark: train=0: must be"):
        run("--crops", "0")


def test_config_names_the_classes_as_folders_are_sorted() -> None:
    base = Config.fromfile(ROOT / "configs" / "_base_" / "datasets" / "synthetic_crops.py")
    assert tuple(base.metainfo.classes) == tuple(sorted(MOTIF_OF_CLASS))
    types = [transform.type for transform in base.train_pipeline]
    assert not any("Flip" in name or "Crop" in name for name in types)
