"""Views of several sizes through both hosts: what is found lies where the training size has it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from pycocotools import mask as coco_masks

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_engines import config, make_data
from rectangle_scenes import (
    COLOURS,
    HEIGHT,
    MEAN,
    RECTANGLES,
    WIDTH,
    Finder,
    labels,
    noise,
    pictures,
    segmenter,
)

from mmplugins.evaluation.inference import engine
from mmplugins.evaluation.inference.engine import Engine, _placed
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.predictions.label_maps import cut
from mmplugins.evaluation.sizes import SHAPES, SizePlan, SizeSet
from mmplugins.evaluation.tasks.resolution import (
    accuracy_sums,
    detection_measures,
    segmentation_measures,
)
from mmplugins.evaluation.views import WHOLE, View
from mmplugins.visualise.look import build_model

DIVISOR = 16
# Multiples, at which borders lie between pixels.
EVERY = dict(
    resize=("0.5", "1", "2"),
    extent=("1", "1.3", "2.1"),
    crop=("0.5", "0.7", "1"),
    slide=("2",),
    aspect=tuple(SHAPES),
)
DETECTOR = {mode: points for mode, points in EVERY.items() if mode != "slide"}
# What the test pipeline does: nothing, or one side larger in whole cells.
PIPELINES = {"none": None, "shape": dict(scale=(WIDTH, 2 * HEIGHT), keep_ratio=False)}


def plan_of(sizes, fill="mean"):
    return SizePlan(tuple(SizeSet(mode, points) for mode, points in sizes.items()), DIVISOR, fill)


def looked(model, found, sizes, **options):
    plan = plan_of(sizes)
    return Engine(model.eval(), found, plan, features=False, **options).look(0), plan


def values(measures):
    """By metric, part and axis: what is at each point."""
    ones = np.ones((1, 1))
    return {
        (m.metric, m.part, m.axis): dict(zip(m.points, m.statistic(ones)[0], strict=True))
        for m in measures
    }


@pytest.mark.parametrize("host", ["mmdet", "mmseg"])
@pytest.mark.parametrize("size", [(2 * WIDTH, 2 * HEIGHT), (112, 80)])
def test_at_the_training_size_the_picture_is_the_hosts_own(host, size, tmp_path):
    """Bit for bit, where that is of whole cells."""
    resize = dict(scale=size, keep_ratio=True)
    found = pictures(tmp_path / host, host, resize, pixels=noise())
    own = found[0].pixels
    assert tuple(own.shape[1:]) == size[::-1]
    ready = plan_of(EVERY).prepared(found[0])
    view = plan_of(EVERY).looks(ready)[0]
    for ours in (ready.pixels, view.pixels):
        assert ours.dtype == own.dtype == torch.uint8
        assert torch.equal(ours, own)
    assert ready.scale == found[0].scale == (size[1] / HEIGHT, size[0] / WIDTH)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `config`")
        yield make_data(tmp_path_factory.mktemp("benchmark"), images=1)


@pytest.mark.parametrize("host", ["mask_rcnn", "upernet"])
def test_at_the_training_size_predictions_are_those_of_the_hosts_own_test(host, benchmark):
    """Of real models, through the dataset and pipeline of the config."""
    cfg = config(benchmark, host)
    found, model = Pictures(cfg, originals=True), build_model(cfg)
    record, _ = looked(model, found, {"extent": ("1", "1.1")})
    packed = found._dataset[0]
    data = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
    with torch.no_grad():
        (theirs,) = model.test_step(data)
    if host == "upernet":
        np.testing.assert_array_equal(record.views[0], theirs.pred_sem_seg.data[0])
        assert record.views.shape == (2, *theirs.ori_shape)
        return
    ours, theirs = record.views[0], theirs.pred_instances
    assert len(ours) > 50
    np.testing.assert_array_equal(ours.boxes, theirs.bboxes)
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(coco_masks.decode([*ours.masks]).transpose(2, 0, 1), theirs.masks)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_detections_lie_where_the_objects_are_in_every_view(pipeline, tmp_path):
    record, plan = looked(
        Finder(), pictures(tmp_path / "some", "mmdet", PIPELINES[pipeline]), DETECTOR
    )
    zoom = np.tile([record.scale[1], record.scale[0]], 2)
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in RECTANGLES]) * zoom
    np.testing.assert_array_equal(record.truth.found.boxes, boxes)
    assert record.truth.area.tolist() == [w * h for *_, w, h, _ in RECTANGLES]
    for (mode, point), view in zip(plan.conditions, record.views, strict=True):
        window = plan.window(mode, point, record.scene.view)
        low, high = np.tile(window.origin[::-1], 2), np.tile(window.origin, 2)[::-1]
        high = low + np.tile(window.size[::-1], 2)
        seen = boxes if mode == "resize" else boxes.clip(low, high)
        seen = seen[(seen[:, 2:] > seen[:, :2]).all(1)]
        order = [np.lexsort(each.T) for each in (seen, view.boxes)]
        np.testing.assert_allclose(view.boxes[order[1]], seen[order[0]], atol=1e-9)
        for box, mask in zip(view.boxes, coco_masks.decode([*view.masks]).T, strict=True):
            x, y = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            assert [x[0], y[0], x[-1] + 1, y[-1] + 1] == box.tolist()
            assert mask.T.shape == record.scene.view
    found = values(detection_measures([record], plan))
    for part in ("box", "mask"):
        for mode, points in DETECTOR.items():
            for metric in ("AP", "AP50", "AP75"):
                assert found[metric, part, mode] == pytest.approx(dict.fromkeys(points, 1.0))
        assert set(found["AP delta", part, "resize"].values()) == {0.0}
        assert found["AP ResAUC up", part, "sizes"] == pytest.approx({"resize": 1, "extent": 1})


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_labels_lie_where_the_rectangles_are_in_every_view(pipeline, tmp_path):
    found = pictures(tmp_path / "some", "mmseg", PIPELINES[pipeline])
    record, plan = looked(segmenter(), found, EVERY)
    known = labels()
    assert record.truth.shape == record.scene.view
    for side, scale in enumerate(map(int, record.scale)):
        known = known.repeat(scale, side)
    np.testing.assert_array_equal(record.truth, known)
    for mode, points in EVERY.items():
        for point in points:
            said = record.views[plan.index(mode, point)]
            core = plan.core(mode, record.scene.view)
            np.testing.assert_array_equal(cut(said, core), cut(known, core))
    sums = accuracy_sums(record, plan, len(COLOURS))
    result = values(segmentation_measures([sums], plan))
    for mode, points in EVERY.items():
        assert result["mIoU", "labels", mode] == pytest.approx(dict.fromkeys(points, 1.0))
    assert result["slide-gap", "labels", "slide"] == {"2": 0.0}


@pytest.mark.parametrize("size", [(231, 165), (150, 107)])
def test_pictures_of_no_whole_cells_are_scaled_to_some_and_their_truth_too(size, tmp_path):
    resize = dict(scale=size, keep_ratio=False)
    record, plan = looked(
        Finder(), pictures(tmp_path / "some", "mmdet", resize), {"resize": ("0.5", "1", "2")}
    )
    height, width = record.scene.view
    assert (height % DIVISOR, width % DIVISOR) == (0, 0)
    assert record.scale == (height / HEIGHT, width / WIDTH)
    found = values(detection_measures([record], plan))
    assert found["AP50", "box", "resize"] == {"0.5": 1, "1": 1, "2": 1}
    assert found["AP", "box", "resize"]["1"] > 0.7


def test_records_do_not_depend_on_the_batches(tmp_path):
    """Of views of one size but of different modes, bytes and others."""
    sizes = {"resize": ("1", "2"), "extent": ("1", "2"), "aspect": tuple(SHAPES)}
    for host, model in (("mmdet", Finder()), ("mmseg", segmenter())):
        found = pictures(tmp_path / host, host)
        first, _ = looked(model, found, sizes)
        again, _ = looked(model, found, sizes, batch_size=4)
        for ours, theirs in zip(first.views, again.views, strict=True):
            if host == "mmdet":
                ours, theirs = ours.boxes, theirs.boxes
            np.testing.assert_array_equal(ours, theirs)


class TestSlide:
    def test_without_context_it_says_the_same(self, tmp_path):
        found = pictures(tmp_path / "some", "mmseg", pixels=noise())
        record, plan = looked(
            segmenter(), found, {"resize": ("1", "1.5", "2"), "slide": ("1.5", "2")}
        )
        for point in ("1.5", "2"):
            whole, slid = (record.views[plan.index(mode, point)] for mode in ("resize", "slide"))
            np.testing.assert_array_equal(whole, slid)
        sums = accuracy_sums(record, plan, len(COLOURS))
        gap = values(segmentation_measures([sums], plan))["slide-gap", "labels", "slide"]
        assert gap == {"1.5": 0.0, "2": 0.0}
        miou = values(segmentation_measures([sums], plan))["mIoU", "labels", "resize"]
        assert 0 < miou["2"] < 0.5

    def test_with_context_it_sees_that_of_a_crop(self, tmp_path):
        """Where one crop alone shows it, its labels are those of this crop looked at alone."""
        # Darker from the left to the right, so that crops differ.
        pixels = (noise() * np.linspace(1, 0.2, WIDTH)[:, None]).astype(np.uint8)
        found = pictures(tmp_path / "some", "mmseg", pixels=pixels)
        model = segmenter(context=-0.5)
        record, plan = looked(model, found, {"resize": ("1", "2"), "slide": ("2",)})
        whole, slid = (record.views[plan.index(mode, "2")] for mode in ("resize", "slide"))
        assert 0.001 < (whole != slid).mean() < 0.5
        view = plan.looks(plan.prepared(found[0]))[plan.index("slide", "2")]
        crop = view.pixels[:, :HEIGHT, :WIDTH]
        info = dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH))
        data = dict(inputs=[crop], data_samples=[found.sample(info)])
        logits = model.test_step(data)[0].seg_logits.data
        alone = torch.nn.functional.avg_pool2d(logits[None], 2)[0].argmax(0)
        inside = tuple(slice(0, side // 2) for side in view.test_cfg["stride"])
        np.testing.assert_array_equal(slid[inside], alone[inside])
        assert (whole[inside] != slid[inside]).any()

    def test_a_config_that_slides_is_looked_at_as_a_whole(self, tmp_path):
        found = pictures(tmp_path / "some", "mmseg")
        sliding = dict(mode="slide", crop_size=(64, 64), stride=(48, 48))
        sizes = {mode: EVERY[mode] for mode in ("resize", "extent", "crop", "slide", "aspect")}
        whole, _ = looked(segmenter(-2.0), found, sizes)
        told, _ = looked(segmenter(-2.0, **sliding), found, sizes)
        np.testing.assert_array_equal(told.views, whole.views)

    def test_the_models_own_way_comes_back(self):
        sliding = dict(mode="slide", crop_size=(64, 64), stride=(48, 48))
        model = segmenter(**sliding)
        own = model.test_cfg
        with engine.testing(model, WHOLE):
            assert model.test_cfg == {**sliding, **WHOLE}
            assert isinstance(model.test_cfg, ConfigDict)
        assert model.test_cfg is own
        with engine.testing(model, {}):
            assert model.test_cfg is own
        detector = Finder()
        detector.test_cfg = dict(rcnn=dict(score_thr=0.5))
        with engine.testing(detector, WHOLE):
            assert detector.test_cfg == dict(rcnn=dict(score_thr=0.5))

    def test_an_exception_in_a_pass_leaves_the_model_as_it_was(self, tmp_path):
        found = pictures(tmp_path / "some", "mmseg")
        model = segmenter()
        own, model.decode_head.conv_seg = model.test_cfg, torch.nn.Conv2d(1, 1, 1)
        with pytest.raises(RuntimeError, match="channels"):
            looked(model, found, {"resize": ("1", "2"), "slide": ("2",)})
        assert model.test_cfg is own


def test_canvases_are_of_the_mean_in_the_order_of_the_picture(tmp_path):
    """So that they are 0 once normalised, though the host turns the channels around."""
    found = pictures(tmp_path / "some", "mmseg")
    model = segmenter()
    looking = Engine(model, found, plan_of({"extent": ("1", "2")}), features=False)
    picture = looking.plan.prepared(found[0])
    scene = looking.plan.scene(*picture.pixels.shape[1:])
    *_, seen = looking.seen(picture, scene)
    assert seen.view.pixels[:, -1, -1].tolist() == list(MEAN[::-1])
    data = dict(inputs=[seen.view.pixels], data_samples=[seen.sample])
    given = model.data_preprocessor(data)["inputs"]
    assert not given[:, :, HEIGHT:].any()
    assert not given[..., WIDTH:].any()
    assert given[:, :, :HEIGHT, :WIDTH].any(1).all()


sides = st.integers(1, 6)
places = st.integers(-9, 9)


@given(sides, sides, sides, sides, places, places, st.sampled_from([None, 0, 2]))
def test_maps_are_placed_as_a_slow_loop_does(h, w, height, width, top, left, count):
    shape = (h, w) if count is None else (count, h, w)
    maps = np.random.default_rng(h * w).integers(1, 9, shape).astype(np.uint8)
    view = View(torch.zeros(3, h, w), (h, w), (h, w), (top, left), (height, width))
    expected = np.full((*shape[:-2], height, width), 77, np.uint8)
    for y, x in np.ndindex(h, w):
        if 0 <= y + top < height and 0 <= x + left < width:
            expected[..., y + top, x + left] = maps[..., y, x]
    found = _placed(maps, view, outside=77)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    whole = replace(view, origin=(0, 0), frame=(h, w))
    np.testing.assert_array_equal(_placed(maps, whole, outside=77), maps)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_resampling_is_that_of_the_test_pipeline(interpolation, tmp_path):
    step = dict(scale=(60, 40), keep_ratio=False, interpolation=interpolation)
    found = pictures(tmp_path / "some", "mmseg", step)
    plan = SizePlan((SizeSet("resize", ("1", "2")),), divisor=4)
    assert torch.equal(plan.prepared(found[0]).pixels, found[0].pixels)
