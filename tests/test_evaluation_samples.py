"""Sample pictures: which images and shifts they show, and what is marked in them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from PIL import Image

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from detection_scenes import detections, iou_of, with_masks
from evaluation_engines import config, engine, make_data
from segmentation_records import IGNORED, NAMES, pieces, plan_of, record_of

from mmplugins.evaluation import overlays
from mmplugins.evaluation.inference.pictures import Picture, Pictures
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.record import Objects, Record
from mmplugins.evaluation.runs import Run, RunKey
from mmplugins.evaluation.shifting import samples
from mmplugins.evaluation.shifting.samples import (
    LOST,
    NEW,
    Worst,
    choose,
    worst_shift,
    write_samples,
)

SHIFTS = ((0, 8), (-4, 0), (3, 5))
HEIGHT, WIDTH = 96, 128


def run_of(folder, plan, *records, classes=("bolt", "nut", "pin")):
    """A run that is done, of what some model has said."""
    detection = not isinstance(records[0].views, np.ndarray)
    key = RunKey("model", "data", None, plan, tuple(classes), detection, ())
    run = Run.of(folder / "records", key)
    for record in records:
        run.cache[record.image] = record
    return run


def of_detector(mode, *views, image="some", truth=None):
    """Plan and record; the views' detections are given in the reference's frame."""
    plan = Plan(mode, (ShiftSet("some", SHIFTS),), 4, divisor=8)
    scene = plan.scene(HEIGHT, WIDTH)
    frame = (0, 0, *scene.view)
    seen = [
        with_masks(found.shifted(*shift), frame)
        for found, shift in zip(views, ((0, 0), *SHIFTS), strict=True)
    ]
    return plan, Record(image, scene, (1.0, 1.0), seen, truth)


def picture_of(height, width, image="some"):
    """Of which every pixel tells where it lies, and every channel which it is."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return Picture(image, torch.stack([y, x, torch.full_like(y, 200)]).byte(), (1.0, 1.0))


def drawn(axes, style):
    """(left, top, right, bottom) of the boxes of a fate."""
    boxes = [patch.get_bbox() for patch in axes.patches if patch.get_gid() == style.name]
    return {tuple(map(round, (box.x0, box.y0, box.x1, box.y1))) for box in boxes}


KEPT, GONE, COME = (40, 40, 60, 60), (70, 30, 90, 50), (30, 55, 45, 70)


@pytest.mark.parametrize("mode", ["window", "canvas", "masked_canvas"])
def test_what_one_view_has_alone_is_marked(tmp_path, mode):
    both = detections([KEPT, GONE])
    other = detections([KEPT, COME])
    truth = Objects(with_masks(both), np.zeros(2, bool), np.full(2, 400.0))
    plan, record = of_detector(mode, both, both, other, both, truth=truth)
    run = run_of(tmp_path, plan, record)
    worst = worst_shift(run, "some", 0.5)
    assert (worst.number, worst.value) == (1, pytest.approx(0.5))
    figure, told = samples.detections_sample(run, picture_of(HEIGHT, WIDTH), worst, 0.5)
    left, right = figure.axes
    assert drawn(left, LOST) == {GONE}
    assert drawn(right, NEW) == {COME}
    assert drawn(left, samples.FOUND) == drawn(right, samples.FOUND) == {KEPT}
    assert not drawn(left, NEW) | drawn(right, LOST)
    marks = [[line.get_marker() for line in axes.lines] for axes in (left, right)]
    assert marks == [["x"], ["+"]]
    styles = {patch.get_gid(): patch.get_linestyle() for a in figure.axes for patch in a.patches}
    assert len({*styles.values()}) == len(styles) == 3  # not by colour alone
    assert {text.get_text() for text in left.texts} == {"bolt 0.90"}
    for axes in (left, right):
        outlines = [each.get_gid() for each in axes.collections]
        assert outlines.count("truth") == 2
        assert len(outlines) == 4
    assert "(dy, dx) = (-4, 0) px" in told
    assert "PC of boxes, 50.0%" in told
    assert "Not found again: 1 of 2 boxes; not found before: 1 " in told


def test_boxes_that_the_core_cuts_are_not_counted_and_low_scores_not_drawn(tmp_path):
    cut = (0, 0, 20, 20)
    found = detections([KEPT, GONE, cut], [0.9, 0.2, 0.9])
    none = detections(np.zeros((0, 4)))
    plan, record = of_detector("window", found, found, none, found)
    run = run_of(tmp_path, plan, record)
    worst = worst_shift(run, "some", 0.5)
    assert worst == Worst("some", 1, 0.0)
    figure, told = samples.detections_sample(run, picture_of(HEIGHT, WIDTH), worst, 0.5)
    assert drawn(figure.axes[0], LOST) == {KEPT}
    assert drawn(figure.axes[0], samples.CUT) == {cut}
    assert not figure.axes[1].patches
    assert "1 of 1 boxes" in told


def test_boxes_that_stick_out_of_the_content_count_on_a_canvas(tmp_path):
    out, kept = (4, 4, 20, 20), detections([KEPT])
    plan, record = of_detector("canvas", detections([KEPT, out]), kept, kept, kept)
    run = run_of(tmp_path, plan, record)
    worst = worst_shift(run, "some", 0.5)
    assert worst == Worst("some", 0, pytest.approx(2 / 3))
    figure, _ = samples.detections_sample(run, picture_of(HEIGHT, WIDTH), worst, 0.5)
    assert drawn(figure.axes[0], LOST) == {out}


def test_the_commonest_labels_have_colours_of_their_own():
    labels = np.repeat(np.arange(9), [1, 90, 80, 70, 60, 50, 40, 30, 20])[None]
    colours = samples.label_colours([labels, labels])
    assert list(colours) == [1, 2, 3, 4, 5, 6]
    assert len({*colours.values()}) == 6
    assert overlays.CHANGED not in colours.values()
    handles = overlays.label_handles([0, 2, 5, IGNORED], "abcdefghi", colours)
    assert [handle.get_label() for handle in handles] == ["c", "f", "other classes"]


def test_the_worst_shift_of_boxes_is_that_of_a_slow_loop(tmp_path, generator):
    """Boxes that lie apart: each has at most one partner, so that nothing has to be assigned."""
    places = np.array([(x, y) for y in range(10, 76, 22) for x in range(10, 100, 22)])
    views = []
    for _ in range(4):
        some = places[generator.random(len(places)) < 0.7]
        sides = generator.integers(8, 17, (len(some), 2))
        views.append(detections(np.concatenate([some, some + sides], axis=1)))
    plan, record = of_detector("canvas", *views)
    margin = record.scene.content[0]
    values = []
    for back in views[1:]:
        shares = []
        for threshold in np.arange(50, 100, 5) / 100:
            pairs = sum(
                iou_of(a, b) >= threshold - 1e-12 for a in views[0].boxes for b in back.boxes
            )
            shares.append(2 * pairs / (len(views[0]) + len(back)))
        values.append(np.mean(shares))
    assert margin > 0
    worst = worst_shift(run_of(tmp_path, plan, record), "some", 0.5)
    assert worst.number == int(np.argmin(values))
    assert worst.value == pytest.approx(min(values))


@pytest.mark.parametrize("mode", ["roll", "window", "canvas", "masked_canvas"])
def test_the_worst_shift_of_labels_is_that_of_a_slow_loop(tmp_path, generator, mode):
    plan = plan_of(mode, (*SHIFTS, (0.5, 0)) if mode == "roll" else SHIFTS)
    labels = pieces()
    truth = labels.copy()
    truth[30:40, 20:60] = IGNORED
    whole = replace(plan, sets=(ShiftSet("some", SHIFTS),))
    record = record_of(whole, labels, truth=truth)
    noisy = np.where(generator.random(record.views.shape) < 0.2, 1, record.views).astype(np.uint8)
    extra = noisy[:1] if mode == "roll" else noisy[:0]  # of which nothing is known
    record = replace(record, views=np.concatenate([noisy, extra]))
    run = run_of(tmp_path, plan, record, classes=NAMES)
    top, left, bottom, right = record.scene.core
    height, width = record.scene.view
    changed = []
    for view, (dy, dx) in zip(noisy[1:], SHIFTS, strict=True):
        changed.append(
            {
                (y - top, x - left)
                for y in range(top, bottom)
                for x in range(left, right)
                if record.truth[y, x] != IGNORED
                and noisy[0, y, x] != view[(y + dy) % height, (x + dx) % width]
            }
        )
    worst = worst_shift(run, "some", 0.5)
    asked = (record.truth[top:bottom, left:right] != IGNORED).sum()
    assert worst.number == max(range(3), key=lambda s: len(changed[s]))
    assert worst.value == pytest.approx(1 - len(changed[worst.number]) / asked)
    figure, told = samples.labels_sample(run, picture_of(*labels.shape), worst, 0.5)
    marked = (figure.axes[2].images[0].get_array()[..., :3] == to_rgba(overlays.CHANGED)[:3]).all(2)
    assert {*map(tuple, np.argwhere(marked).tolist())} == changed[worst.number]
    assert f"{worst.value:.1%} of the pixels that count" in told


@pytest.mark.parametrize(
    ("mode", "corner"), [("roll", (0, 0)), ("window", (12, 8)), ("canvas", (0, 0))]
)
def test_predictions_lie_over_the_content_they_are_of(tmp_path, mode, corner):
    """Where the core starts in the picture: after the margin and the largest shift, or at once."""
    plan = plan_of(mode, SHIFTS)
    record = record_of(plan, pieces())
    shown = samples.background(picture_of(72, 80), record.scene, record.scene.core)
    top, left, bottom, right = record.scene.core
    assert shown.shape == (bottom - top, right - left, 3)
    assert shown[0, 0].tolist() == [200, corner[1], corner[0]]  # as RGB; hosts load BGR
    run = run_of(tmp_path, plan, record, classes=NAMES)
    figure, _ = samples.labels_sample(run, picture_of(72, 80), worst_shift(run, "some", 0), 0)
    for image in (image for axes in figure.axes for image in axes.images):
        assert image.get_extent() == [left, right, bottom, top]
    table = {
        to_rgba(c, overlays.OPACITY) for c in samples.label_colours([record.views[0]]).values()
    }
    overlay = figure.axes[0].images[1].get_array().reshape(-1, 4)
    assert {*map(tuple, overlay.tolist())} <= table | {to_rgba(overlays.OTHER, overlays.OPACITY)}


def test_the_worst_come_first_and_the_middle_one_last():
    values = [0.5, 0.9, 0.2, 0.7, 0.2, 1.0, 0.8]
    every = [Worst(str(number), 0, value) for number, value in enumerate(values)]
    chosen = [(worst.image, rank) for worst, rank in choose(every, 3)]
    assert chosen == [
        ("2", "worst of 7 images"),
        ("4", "2nd worst of 7 images"),
        ("3", "in the middle of 7 images"),
    ]
    assert [worst.image for worst, _ in choose(every, 1)] == ["2"]
    assert [worst.image for worst, _ in choose(every, 99)] == list("2403615")
    assert [rank for _, rank in choose(every, 99)][3] == "in the middle of 7 images"
    assert [rank for _, rank in choose(every[:2], 4)] == [
        "worst of 2 images",
        "2nd worst of 2 images",
    ]
    assert choose([], 4) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `config`")
        yield make_data(tmp_path_factory.mktemp("data"))


def looked(folder, out, host, images=3):
    """A run over pictures of the benchmark, and these."""
    cfg = config(folder, host, [])
    if host == "mask_rcnn":
        cfg.model.test_cfg.rcnn.max_per_img = 8
    looking = engine(cfg, features=False)
    records = [looking.look(index) for index in range(images)]
    pictures = looking.pictures
    return run_of(out, looking.plan, *records, classes=pictures.classes), pictures


@pytest.mark.parametrize("host", ["mask_rcnn", "upernet"])
def test_samples_of_both_hosts(folder, tmp_path, host):
    run, pictures = looked(folder, tmp_path, host)
    images, out = pictures.ids[:3], tmp_path / "samples"
    write_samples(out, run, pictures, images, score=0.0)
    told = json.loads((out / "samples.json").read_text())
    assert [entry["file"] for entry in told] == ["0.png", "1.png", "2.png"]
    assert {entry["image"] for entry in told} == {*images}
    for entry in told:
        assert entry["title"].startswith(f"Image {entry['image']}: ")
        assert "of all shifts the one with the least " in entry["text"]
        assert entry["text"].endswith(f"{entry['title'].partition(': ')[2]}.")
        with Image.open(out / entry["file"]) as picture:
            assert 900 < picture.width <= 1000
            assert picture.height < 700
        assert 20_000 < (out / entry["file"]).stat().st_size < 500_000
    values = [worst_shift(run, entry["image"], 0.0).value for entry in told]
    assert values == sorted(values)
    assert values[0] < 1
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    write_samples(out, run, pictures, images, score=0.0)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    write_samples(out, run, pictures, images, score=0.0, count=1)
    assert {file.name: file.read_bytes() for file in out.iterdir()}.keys() == {
        "0.png",
        "samples.json",
    }
    assert (out / "0.png").read_bytes() == before["0.png"]


def test_what_cannot_be_written_leaves_the_captions_of_before(folder, tmp_path):
    run, pictures = looked(folder, tmp_path, "upernet", images=2)
    out = tmp_path / "samples"
    write_samples(out, run, pictures, pictures.ids[:2], score=0.0, count=1)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    (out / "1.png").mkdir()  # no file can take its place
    with pytest.raises(IsADirectoryError):
        write_samples(out, run, pictures, pictures.ids[:2], score=0.0)
    assert {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()} == before


def test_where_nothing_can_be_compared_there_are_no_samples(folder, tmp_path):
    pictures = Pictures(config(folder, "upernet"))
    plan = plan_of("roll", [(0.5, 0)])
    run = run_of(tmp_path / "labels", plan, record_of(plan, pieces()), classes=NAMES)
    write_samples(tmp_path / "labels", run, pictures, ["some"], score=0.0)
    assert json.loads((tmp_path / "labels/samples.json").read_text()) == []
    found = detections([KEPT])
    scene = plan_of("roll").scene(HEIGHT, WIDTH)
    record = Record("some", scene, (1.0, 1.0), [found] * 6)
    run = run_of(tmp_path / "boxes", plan_of("roll"), record)
    write_samples(tmp_path / "boxes", run, pictures, ["some"], score=0.0)
    assert json.loads((tmp_path / "boxes/samples.json").read_text()) == []
