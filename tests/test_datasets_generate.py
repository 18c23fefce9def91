"""The benchmark on disk: valid files, equal whoever makes them, complete or absent."""

import json
import multiprocessing
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools.coco import COCO

from mmplugins.datasets import generate
from mmplugins.datasets.families import CLASSES, FAMILY_OF_CLASS, PALETTE, SEG_FAMILY_OF_CLASS
from mmplugins.datasets.generate import BenchmarkOptions, make_benchmark

REPO = Path(__file__).resolve().parents[1]
CLI = REPO / "tools" / "make_benchmark.py"
BASES = REPO / "configs" / "_base_" / "datasets"
OPTIONS = BenchmarkOptions(train=60, val=40)
SMALL = BenchmarkOptions(train=30, val=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_benchmark(tmp_path_factory.mktemp("data") / "synthetic", OPTIONS)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def cocos(root):
    return [
        COCO(root / f"coco/annotations/instances_{split}2017.json") for split in ("train", "val")
    ]


def test_annotations_are_cocos(made):
    train, val = cocos(made)
    assert (len(train.imgs), len(val.imgs)) == (60, 40)
    assert not set(train.imgs) & set(val.imgs)
    assert not set(train.anns) & set(val.anns)
    for coco in (train, val):
        assert set(coco.dataset) == {"info", "licenses", "images", "annotations", "categories"}
        assert [category["name"] for category in coco.dataset["categories"]] == list(CLASSES)
        for category in coco.dataset["categories"]:
            assert category["supercategory"] == FAMILY_OF_CLASS[category["name"]]
        for entry in coco.anns.values():
            mask = coco.annToMask(entry)
            y, x = np.nonzero(mask)
            assert mask.shape == (160, 224)
            assert entry["area"] == mask.sum() >= 16
            left, top, width, height = entry["bbox"]
            assert (left, top) == (x.min(), y.min())
            assert (left + width, top + height) == (x.max() + 1, y.max() + 1)
            assert isinstance(entry["segmentation"], dict if entry["iscrowd"] else list)


def test_every_hard_case_occurs(made):
    coco, _ = cocos(made)
    entries = list(coco.anns.values())
    areas = np.array([entry["area"] for entry in entries])
    assert (areas < 32**2).any()
    assert ((areas >= 32**2) & (areas < 96**2)).any()
    assert (areas >= 96**2).any()
    assert any(entry["iscrowd"] for entry in entries)
    assert any(len(entry["segmentation"]) > 1 for entry in entries if not entry["iscrowd"])
    assert any(not coco.imgToAnns[image_id] for image_id in coco.imgs)


def test_label_maps_are_ade20ks(made):
    for split, count in (("training", 60), ("validation", 40)):
        pictures = sorted((made / "ade/images" / split).iterdir())
        labels = sorted((made / "ade/annotations" / split).iterdir())
        assert [path.stem for path in pictures] == [path.stem for path in labels]
        assert len(labels) == count
        values = set()
        for path in labels:
            image = Image.open(path)
            assert (image.mode, image.size) == ("L", (224, 160))
            values |= set(np.unique(image).tolist())
        assert values == set(range(len(SEG_FAMILY_OF_CLASS) + 1))


def test_files_depend_neither_on_jobs_nor_on_the_number_of_images(made, tmp_path):
    parallel = make_benchmark(tmp_path / "parallel", OPTIONS, jobs=2)
    assert contents(parallel) == contents(made)
    fewer = contents(make_benchmark(tmp_path / "fewer", SMALL))
    more = contents(made)
    for name in fewer:
        if name.suffix in (".jpg", ".png"):
            assert fewer[name] == more[name]


def test_a_second_call_reuses_and_another_benchmark_is_not_overwritten(tmp_path):
    out = make_benchmark(tmp_path / "data", SMALL)
    before = contents(out), (out / "manifest.json").stat().st_mtime_ns
    make_benchmark(out, SMALL)
    assert (contents(out), (out / "manifest.json").stat().st_mtime_ns) == before
    other = BenchmarkOptions(train=2, val=1, seed=5)
    with pytest.raises(FileExistsError, match=r"train=30 \(not 2\), seed=0 \(not 5\).*--overwrite"):
        make_benchmark(out, other)
    assert contents(out) == before[0]
    make_benchmark(out, other, overwrite=True)
    assert len(list((out / "coco/train2017").iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".data.lock", "data"]


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"mine is not a benchmark of ours"):
        make_benchmark(tmp_path / "mine", SMALL, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_failed_run_leaves_nothing_at_its_name_and_goes_on_later(tmp_path, monkeypatch):
    whole = make_benchmark(tmp_path / "whole", SMALL)
    drawn = []

    def make_scene(key, height, width):
        if len(drawn) == 27:
            raise OSError("disk full")
        drawn.append(key)
        return real(key, height, width)

    real = generate.make_scene
    monkeypatch.setattr(generate, "make_scene", make_scene)
    with pytest.raises(OSError, match="disk full"):
        make_benchmark(tmp_path / "broken", SMALL)
    assert not (tmp_path / "broken").exists()
    drawn.clear()
    make_benchmark(tmp_path / "broken", SMALL)
    assert len(drawn) == 31 - generate.CHUNK  # the first chunk was done
    assert contents(tmp_path / "broken") == contents(whole)


def test_a_killed_run_is_resumed(made, tmp_path):
    out = tmp_path / "killed"
    process = multiprocessing.get_context("fork").Process(
        target=make_benchmark, args=(out, OPTIONS)
    )
    process.start()
    while process.is_alive() and not list(tmp_path.glob(".killed.partial/chunk_*.json")):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -9
    assert not out.exists()
    assert contents(make_benchmark(out, OPTIONS)) == contents(made)


def test_leftovers_of_other_options_are_not_mixed_in(tmp_path):
    partial = tmp_path / ".data.partial"
    make_benchmark(tmp_path / "data", BenchmarkOptions(train=1, val=1, seed=1)).rename(partial)
    (partial / "chunk_train_000000.json").write_text("[]")
    out = make_benchmark(tmp_path / "data", BenchmarkOptions(train=1, val=1))
    assert len(cocos(out)[0].imgs) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, r"train=0: must be 1 to 1000000 images"),
        ({"val": 1_000_001}, r"val=1000001"),
        ({"height": 96}, r"height=96: must be at least 160 pixels"),
        ({"width": 159}, r"width=159: must be at least 160 pixels"),
        ({"seed": -1}, r"seed=-1: must not be negative"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkOptions(**options)


def test_bad_number_of_jobs(tmp_path):
    with pytest.raises(ValueError, match="jobs=0"):
        make_benchmark(tmp_path / "data", SMALL, jobs=0)
    assert not list(tmp_path.iterdir())


def run_cli(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", [str(CLI), *map(str, args)])
    runpy.run_path(str(CLI), run_name="__main__")


def test_command_line(tmp_path, monkeypatch, capsys):
    out, preview = tmp_path / "data", tmp_path / "new" / "preview.png"
    run_cli(
        monkeypatch, "--out", out, "--train", 2, "--val", 8, "--jobs", 1, "--size", 160, 192,
        "--preview", preview,
    )  # fmt: skip
    assert Image.open(preview).size[0] > 1000
    assert cocos(out)[0].imgs[1]["width"] == 192
    with pytest.raises(SystemExit, match=r"make_benchmark: .*was made with"):
        run_cli(monkeypatch, "--out", out, "--train", 3)
    with pytest.raises(SystemExit, match=r"make_benchmark: height=64"):
        run_cli(monkeypatch, "--out", out, "--size", 64, 64)
    with pytest.raises(SystemExit, match="0"):
        run_cli(monkeypatch, "--help")
    text = capsys.readouterr().out
    assert all(family in text for family in FAMILY_OF_CLASS.values())


@pytest.fixture
def base_config(made, monkeypatch):
    monkeypatch.setenv("MMPLUGINS_SYNTHETIC", str(made))
    return lambda name: Config.fromfile(BASES / f"synthetic_{name}.py")


def test_configs_list_the_generators_classes(base_config):
    instance, seg = base_config("instance").metainfo, base_config("seg").metainfo
    assert tuple(instance.classes) == CLASSES
    assert tuple(map(tuple, instance.palette)) == PALETTE[1:]
    assert dict(zip(seg.classes, seg.families, strict=True)) == dict(SEG_FAMILY_OF_CLASS)
    assert tuple(map(tuple, seg.palette)) == PALETTE


def test_configs_do_not_flip(base_config):
    for name in ("instance", "seg"):
        assert "Flip" not in json.dumps(base_config(name).train_pipeline)


def test_mmdet_loads_every_sample(made, base_config):
    registry = pytest.importorskip("mmdet.registry")
    config = base_config("instance")
    train, _ = cocos(made)
    with DefaultScope.overwrite_default_scope("mmdet"):
        for loader in (config.train_dataloader, config.val_dataloader):
            dataset = registry.DATASETS.build(loader.dataset)
            samples = [dataset[index] for index in range(len(dataset))]
            if dataset.test_mode:
                assert len(samples) == 40
            else:
                assert len(samples) == sum(bool(train.imgToAnns[i]) for i in train.imgs) < 60
                crowds = [s["data_samples"].get("ignored_instances") for s in samples]
                assert any(len(crowd.bboxes) for crowd in crowds)
            assert {tuple(sample["inputs"].shape) for sample in samples} == {(3, 160, 224)}


def test_mmseg_loads_every_sample(base_config):
    registry = pytest.importorskip("mmseg.registry")
    config = base_config("seg")
    with DefaultScope.overwrite_default_scope("mmseg"):
        for loader, count in ((config.train_dataloader, 60), (config.val_dataloader, 40)):
            dataset = registry.DATASETS.build(loader.dataset)
            assert len(dataset) == count
            values = set()
            for index in range(count):
                values |= set(dataset[index]["data_samples"].gt_sem_seg.data.unique().tolist())
            assert values == {*range(len(SEG_FAMILY_OF_CLASS)), 255}
