"""Pictures: the truth lies where the picture shows it, in every mode, scale and form."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.plan import Plan, ShiftSet

MODES = ("roll", "window", "canvas", "masked_canvas")
HEIGHT, WIDTH = 60, 84
# x, y, width, height, category, crowd; 7 is a category that the config does not name.
OBJECTS = [(2, 4, 20, 10, 3, 0), (30, 8, 16, 40, 5, 0), (60, 20, 24, 30, 5, 1), (4, 40, 9, 9, 7, 0)]


def plan_of(mode):
    return Plan(mode, (ShiftSet("some", ((4, -8), (0, 8))),), 8, divisor=8)


def drawn(x, y, w, h):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return mask


def polygon(x, y, w, h):
    """In two parts, side by side."""
    half = w // 2
    return [
        [left, y, right, y, right, y + h, left, y + h]
        for left, right in ((x, x + half), (x + half, x + w))
    ]


def compressed(*box):
    code = coco_masks.encode(drawn(*box))
    return {"size": code["size"], "counts": code["counts"].decode()}


def uncompressed(*box):
    pixels = drawn(*box).ravel(order="F")
    changes = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [0]])))
    runs = np.diff(np.concatenate([[0], changes, [pixels.size]]))
    return {"size": [HEIGHT, WIDTH], "counts": runs.tolist()}


FORMS = {"polygons": polygon, "compressed": compressed, "uncompressed": uncompressed}


def resize(scale, interpolation="nearest"):
    y, x = scale
    return dict(
        type="Resize", scale=(int(WIDTH * x), int(HEIGHT * y)), keep_ratio=False,
        interpolation=interpolation,
    )  # fmt: skip


def detection(folder: Path, form=compressed, scale=(1, 1), **dataset) -> Pictures:
    """Two pictures, of which the first shows object k in the colour 40 (k + 1)."""
    pixels = sum(40 * (k + 1) * drawn(*each[:4]) for k, each in enumerate(OBJECTS))
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(folder / name)
    sizes = dict(height=HEIGHT, width=WIDTH)
    annotations = [
        dict(id=k + 1, image_id=11, bbox=[x, y, w, h], area=w * h, category_id=c, iscrowd=crowd)
        for k, (x, y, w, h, c, crowd) in enumerate(OBJECTS)
    ]
    for each in annotations:
        each["segmentation"] = form(*each["bbox"])
    content = dict(
        images=[dict(id=11, file_name="a.png", **sizes), dict(id=7, file_name="b.png", **sizes)],
        categories=[dict(id=3, name="x"), dict(id=5, name="y"), dict(id=7, name="z")],
        annotations=annotations,
    )
    (folder / "truth.json").write_text(json.dumps(content))
    options = dict(
        type="CocoDataset",
        ann_file=str(folder / "truth.json"),
        data_prefix=dict(img=str(folder)),
        metainfo=dict(classes=("x", "y")),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            resize(scale),
            dict(type="Pad", size_divisor=32),
            dict(type="mmdet.Pad", size=(512, 512)),
            dict(type="PackDetInputs", meta_keys=("img_id", "scale_factor")),
        ],
    )
    return pictures(default_scope="mmdet", test_dataloader=dict(dataset=options | dataset))


def pictures(**cfg) -> Pictures:
    return Pictures(Config(cfg))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [(1, 1), (2, 3), (2, 1)])
def test_objects_are_where_the_picture_shows_them(form, scale, tmp_path):
    found = detection(tmp_path, FORMS[form], scale)
    assert found.ids == ["11", "7"]
    assert found.classes == ("x", "y")
    picture = found[0]
    assert picture.scale == scale
    assert picture.pixels.shape == (3, HEIGHT * scale[0], WIDTH * scale[1])  # without padding
    for mode in MODES:
        plan = plan_of(mode)
        scene = plan.scene(*picture.pixels.shape[1:])
        truth = found.truth(picture, scene)
        assert truth.found.labels.tolist() == [0, 1, 1]
        assert truth.crowd.tolist() == [False, False, True]
        assert truth.area.tolist() == [200, 640, 720]
        view = plan.views(picture.pixels)[0][0].numpy()
        for k, mask in enumerate(truth.found.masks):
            shown = view == 40 * (k + 1)
            np.testing.assert_array_equal(coco_masks.decode(mask).astype(bool), shown)
            rows, columns = np.nonzero(shown)
            whole = shown.sum() == truth.area[k] * scale[0] * scale[1]
            assert whole or mode in ("window", "roll")
            if whole:  # else the view cuts it, and its box does not end there
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert truth.found.boxes[k].tolist() == box


def test_a_picture_without_objects(tmp_path):
    found = detection(tmp_path)
    truth = found.truth(found[1], plan_of("canvas").scene(HEIGHT, WIDTH))
    assert (len(truth.found), len(truth.crowd), len(truth.area)) == (0, 0, 0)
    assert truth.found.boxes.shape == (0, 4)


@pytest.mark.parametrize("form", [lambda *box: [], lambda *box: None])
def test_boxes_without_masks(form, tmp_path):
    found = detection(tmp_path, form)
    truth = found.truth(found[0], plan_of("canvas").scene(HEIGHT, WIDTH))
    assert len(truth.found) == 3
    assert truth.found.masks is None


BLOCKS = np.random.default_rng(0).integers(0, 5, (HEIGHT // 4, WIDTH // 4))
BLOCKS = BLOCKS.repeat(4, 0).repeat(4, 1).astype(np.uint8)


def segmentation(
    folder, scale, *, early=False, labels=BLOCKS, interpolation="nearest", classes=tuple("abcd")
):
    """A picture that shows its labels; 0 is no class."""
    for place, colours in (("pictures", "RGB"), ("labels", "L")):
        (folder / place / "deep").mkdir(parents=True)
        Image.fromarray(labels).convert(colours).save(folder / place / "deep" / "one.png")
    annotations = dict(type="LoadAnnotations", reduce_zero_label=True)
    resizing = resize(scale, interpolation)
    steps = [annotations, resizing] if early else [resizing, annotations]
    dataset = dict(
        type="BaseSegDataset",
        metainfo=dict(classes=classes),
        reduce_zero_label=True,
        data_root=str(folder),
        img_suffix=".png",
        data_prefix=dict(img_path="pictures", seg_map_path="labels"),
        test_mode=True,
        pipeline=[dict(type="LoadImageFromFile"), *steps, dict(type="PackSegInputs")],
    )
    return pictures(default_scope="mmseg", test_dataloader=dict(dataset=dataset))


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("scale", [(1, 1), (2, 3), (0.5, 1)])
def test_labels_are_where_the_picture_shows_them(scale, early, tmp_path):
    found = segmentation(tmp_path, scale, early=early)
    assert found.ids == ["deep/one.png"]
    picture = found[0]
    for mode in MODES:
        plan = plan_of(mode)
        truth = found.truth(picture, plan.scene(*picture.pixels.shape[1:]))
        outside = torch.zeros(3)  # 0 in the picture is no class
        view = plan.views(picture.pixels, outside)[0][0].numpy()
        expected = np.where(view == 0, 255, view - 1)
        assert truth.dtype == np.uint8
        np.testing.assert_array_equal(truth, expected)


def test_labels_are_those_of_the_middle_of_pixels(tmp_path):
    """As those pictures show that are interpolated: of a ramp, at a third of its size."""
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH) + 1).astype(np.uint8)
    names = tuple(map(str, range(200)))
    found = segmentation(
        tmp_path, (1 / 3, 1 / 3), labels=ramp, interpolation="bilinear", classes=names
    )
    picture = found[0]
    assert picture.pixels.shape == (3, HEIGHT // 3, WIDTH // 3)
    top, left, bottom, right = (scene := plan_of("canvas").scene(*picture.pixels.shape[1:])).content
    truth = found.truth(picture, scene)[top:bottom, left:right]
    np.testing.assert_array_equal(truth + 1, picture.pixels[0])


def test_labels_of_no_class_are_not_asked_for(tmp_path):
    found = segmentation(tmp_path, (1, 1), classes=("a", "b"))
    whole = segmentation(tmp_path / "all", (1, 1))
    scene = plan_of("canvas").scene(HEIGHT, WIDTH)
    truth, all_of_it = found.truth(found[0], scene), whole.truth(whole[0], scene)
    assert {*np.unique(truth)} == {0, 1, 255}
    np.testing.assert_array_equal(truth, np.where(all_of_it < 2, all_of_it, 255))


def test_a_segmenter_without_truth(tmp_path):
    found = segmentation(tmp_path, (1, 1), early=True)
    del found._dataset.pipeline.transforms[1]
    assert found.truth(found[0], plan_of("canvas").scene(HEIGHT, WIDTH)) is None


def test_real_masks_are_those_of_coco_scaled(data_root):
    """Of coco_tiny at two thirds and three times the size: thin and small things differ by more."""
    folder = data_root / "coco_tiny"
    dataset = dict(
        type="CocoDataset",
        data_root=str(folder),
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        indices=12,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(960, 430), keep_ratio=True),
            dict(type="PackDetInputs"),
        ],
    )
    found = pictures(default_scope="mmdet", test_dataloader=dict(dataset=dataset))
    coco, compared = COCO(str(folder / "annotations/instances_val2017.json")), 0
    for index, image in enumerate(found.ids):
        picture = found[index]
        scene = plan_of("canvas").scene(*picture.pixels.shape[1:])
        truth = found.truth(picture, scene)
        annotations = coco.imgToAnns[int(image)]
        assert len(truth.found) == len(annotations)
        top, left, bottom, right = scene.content
        for k, annotation in enumerate(annotations):
            mask = coco_masks.decode(truth.found.masks[k]).astype(bool)
            assert not np.delete(
                np.delete(mask, range(top, bottom), 0), range(left, right), 1
            ).any()
            mine = mask[top:bottom, left:right]
            original = Image.fromarray(coco.annToMask(annotation) * 255)
            theirs = np.asarray(original.resize(mine.shape[::-1], Image.Resampling.BILINEAR)) > 127
            if theirs.sum() > 1500:
                compared += 1
                assert (mine & theirs).sum() / (mine | theirs).sum() > 0.9
                box = coco_masks.toBbox(truth.found.masks[k])
                x1, y1, x2, y2 = truth.found.boxes[k]
                np.testing.assert_allclose(box, [x1, y1, x2 - x1, y2 - y1], atol=3)
    assert compared > 20


def test_more_classes_than_a_byte_can_tell_are_refused(tmp_path):
    names = [str(number) for number in range(256)]
    assert len(segmentation(tmp_path / "255", (1, 1), classes=names[:255]).classes) == 255
    with pytest.raises(InputError, match="BaseSegDataset: 256 classes, but label maps are kept in"):
        segmentation(tmp_path / "256", (1, 1), classes=names)


def test_a_config_without_test_data():
    with pytest.raises(InputError, match="no test_dataloader"):
        pictures(default_scope="mmdet")
    several = dict(type="ConcatDataset", datasets=[])
    with pytest.raises(InputError, match="name one with a pipeline, not ConcatDataset"):
        pictures(default_scope="mmdet", test_dataloader=dict(dataset=several))


def test_a_classifier_has_no_predictions_to_compare():
    with pytest.raises(InputError, match=r"detectors .* the config is of mmpretrain"):
        Pictures(Config(dict(default_scope="mmpretrain", test_dataloader=dict(dataset={}))))


def test_detections_in_another_form_than_coco(tmp_path):
    (tmp_path / "list.txt").write_text("one")
    (tmp_path / "VOC2007" / "Annotations").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "VOC2007" / "one.jpg")
    size = "<size><width>8</width><height>8</height></size>"
    (tmp_path / "VOC2007" / "Annotations" / "one.xml").write_text(f"<a>{size}</a>")
    dataset = dict(
        type="VOCDataset",
        ann_file=str(tmp_path / "list.txt"),
        data_prefix=dict(sub_data_root=str(tmp_path / "VOC2007")),
        pipeline=[],
        test_mode=True,
    )
    with pytest.raises(InputError, match="VOCDataset: truth is read in COCO's form"):
        pictures(default_scope="mmdet", test_dataloader=dict(dataset=dataset))
