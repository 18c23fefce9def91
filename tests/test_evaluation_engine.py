"""The pass over one image, with real detectors and segmenters of random weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as coco_masks

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_engines import PERIOD, PLAN, config, engine, make_data, observing
from strided_backbone import Patches
from tool_runs import ROOT

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.features.sums import FIELDS
from mmplugins.evaluation.inference.archive import arrays_of
from mmplugins.evaluation.inference.calibration import calibrate
from mmplugins.evaluation.inference.engine import fill_of
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.predictions.detections import overlaps
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.runs import Run, RunKey
from mmplugins.evaluation.shifting.suite import ShiftSuite

NAMES = ("mask_rcnn", "upernet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `config`")
        # Fewer pictures to know the mean features from.
        patch.setattr("mmplugins.evaluation.inference.calibration.IMAGES", 2)
        yield make_data(tmp_path_factory.mktemp("engine"), images=2)


def agree(first, second):
    """Two records, up to the rounding of another order of sums."""
    ours, theirs = arrays_of(first), arrays_of(second)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        if name in ("labels", "views/codes", "views/lengths"):  # of pixels on the verge
            assert array.size == pytest.approx(theirs[name].size, rel=0.01)
        elif array.dtype.kind == "f":
            np.testing.assert_allclose(array, theirs[name], rtol=1e-3, atol=1e-4)
        else:
            np.testing.assert_array_equal(array, theirs[name])
    if "labels" in ours:
        assert (ours["labels"] == theirs["labels"]).mean() > 0.999


@pytest.mark.parametrize("name", NAMES)
def test_records_depend_neither_on_batches_nor_on_what_was_done_before(folder, name):
    looking = engine(config(folder, name), replace(PLAN, divisor=PERIOD))
    looking = observing(looking, affinity=True)
    first = looking.look(1)
    looking.look(0)
    again = looking.look(1)
    for field, array in arrays_of(first).items():
        np.testing.assert_array_equal(array, arrays_of(again)[field])
    agree(replace(looking, batch_size=3).look(1), first)  # batches of three views and of one
    assert first.image == looking.pictures.ids[1]
    assert len(first.views) == 1 + len(PLAN.shifts)


def relative_errors(record):
    """By level, the largest error over whole periods, one cell off the border."""
    found = {}
    for name, sums in record.sums.items():
        if name.startswith("feature/"):
            fields = dict(zip(FIELDS, sums[: len(PLAN.sets[0].shifts), 1].T, strict=True))
            if not fields["resampled"].any():
                found[name] = np.sqrt(fields["difference"] / fields["spread"]).max()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_features_move_with_the_content_without_encodings_alone(folder, name):
    exact = relative_errors(observing(engine(config(folder, name, []))).look(0))
    table = [dict(type="LearnedAPE")]
    learned = relative_errors(observing(engine(config(folder, name, table))).look(0))
    assert exact.keys() == learned.keys()
    assert len(exact) >= 7
    if name == "upernet":  # pools over regions of the view
        assert exact.pop("feature/decode_head") > 0.05
    assert max(exact.values()) < 1e-5
    assert min(learned.values()) > 0.01


def found_again(record):
    """The part of the reference's detections that both shifts by whole periods find, too."""
    reference, down, aside = record.views[:3]
    for shift, view in zip(PLAN.shifts, (down, aside), strict=False):
        dy, dx = shift
        reference = reference[overlaps(reference, view.shifted(-dy, -dx)).max(axis=1) > 0.99]
    return len(reference) / len(record.views[0])


def test_detections_move_with_the_content_without_encodings_alone(folder):
    """Most of a hundred: which are the best differs with what is found beyond the content."""
    exact = engine(config(folder, "mask_rcnn", []), features=False).look(0)
    learned = engine(config(folder, "mask_rcnn", [dict(type="LearnedAPE")]), features=False).look(0)
    assert found_again(learned) < 0.2 < 0.6 < found_again(exact)


def test_masks_are_those_of_the_host(folder):
    looking = engine(config(folder, "mask_rcnn"), features=False)
    picture, record = looking.pictures[0], looking.look(0)
    for view, seen in zip(record.views, looking.seen(picture, record.scene), strict=True):
        masks = coco_masks.decode(list(view.masks)).transpose(2, 0, 1).astype(bool)
        np.testing.assert_array_equal(masks, seen.sample.pred_instances.masks)
        assert masks.any()


@pytest.mark.parametrize("name", NAMES)
def test_canvases_are_zero_once_normalised(folder, name):
    """As hosts pad, whatever the order of channels is."""
    looking = engine(config(folder, name))
    looking.model.data_preprocessor.mean.copy_(torch.tensor([[[1.5]], [[20.25]], [[200.125]]]))
    picture = looking.pictures[0]
    view = PLAN.views(picture.pixels, fill_of(looking.model))[0]
    sample = looking.pictures.sample(dict(img_shape=view.shape[1:]))
    given = looking.model.data_preprocessor(dict(inputs=[view], data_samples=[sample]))["inputs"]
    top, left, bottom, right = PLAN.scene(*picture.pixels.shape[1:]).content
    assert (given[0, :, top:bottom, left:right] != 0).float().mean() > 0.99
    given[0, :, top:bottom, left:right] = 0
    assert not given.any()


@pytest.mark.parametrize("mode", ["roll", "window"])
def test_other_modes_keep_the_size_and_the_truth(folder, mode):
    looking = engine(config(folder, "upernet"), replace(PLAN, mode=mode, divisor=32))
    record = observing(looking).look(0)
    size = {"roll": (160, 224), "window": (96, 160)}[mode]
    assert record.scene.view == size
    assert record.views.shape == (4, *size)
    assert record.truth.shape == size
    assert record.sums["total_variation"].shape == (3, 2)


def test_a_detr_that_is_told_of_its_padding(folder):
    """Content at two places on a canvas: the same boxes, at the content; else they differ."""
    shifts = ShiftSet("some", ((8, -16), (-24, 8)))
    told, plain = (Plan(mode, (shifts,), 8, 32) for mode in ("masked_canvas", "canvas"))
    config(folder, "mask_rcnn")  # the data's place
    cfg = Config.fromfile(ROOT / "configs/detr/detr_r18-sine_1xb8-8e_synthetic-160x224.py")
    cfg.model.backbone = dict(type=Patches)
    looking = engine(cfg, told, batch_size=2)
    for parameter in [*looking.model.encoder.parameters(), *looking.model.bbox_head.parameters()]:
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    known = calibrate(looking)  # one view, in batches for two
    assert "mean/encoder.0" in known
    moved, left = (
        errors_of_boxes(replace(looking, plan=plan).look(0), plan) for plan in (told, plain)
    )
    assert max(moved) < 0.01  # pixels
    assert max(left) > 1


def errors_of_boxes(record, plan):
    reference, *others = record.views
    assert reference.boxes.std(0).max() > 0.1  # they are not all the same
    return [
        np.abs(view.shifted(-dy, -dx).boxes - reference.boxes).max()
        for view, (dy, dx) in zip(others, plan.shifts, strict=True)
    ]


def test_only_a_detr_can_be_told_of_padding(folder):
    looking = engine(config(folder, "upernet"), replace(PLAN, mode="masked_canvas"))
    with pytest.raises(InputError, match="EncoderDecoder is none: use --mode canvas or window"):
        looking.look(0)


def test_calibration_is_over_the_content_of_the_dataset_and_pictures_of_nothing(folder):
    looking = engine(config(folder, "upernet"))
    known = calibrate(looking)
    shown = []
    for index in range(len(looking.pictures)):
        picture = looking.pictures[index]
        scene = PLAN.scene(*picture.pixels.shape[1:])
        level = next(iter(looking.seen(picture, scene))).levels["blocks.1"].double().numpy()
        side, (top, left, bottom, right) = scene.view[0] // level.shape[1], scene.content
        shown += [
            level[:, y, x]
            for y, x in np.ndindex(*level.shape[1:])
            if top <= y * side and y * side + side <= bottom
            if left <= x * side and x * side + side <= right
        ]
    assert 0 < len(shown) < level[0].size * len(looking.pictures)
    np.testing.assert_allclose(known["mean/blocks.1"], np.mean(shown, axis=0), rtol=1e-6)
    kinds = {each.split("/")[0] for each in known}
    assert kinds == {"mean", "constant", "noise"}
    again = calibrate(replace(looking, batch_size=4))
    for each, value in known.items():
        np.testing.assert_allclose(again[each], value, rtol=1e-4, atol=1e-6)


def test_pictures_too_small_for_windows_are_no_part_of_the_calibration(folder):
    plan = Plan("window", (ShiftSet("some", ((32, 0),)),), PERIOD, PERIOD)
    looking = engine(config(folder, "upernet"), plan)
    small, large = (replace(looking.pictures[0], pixels=torch.zeros(3, n, n)) for n in (64, 128))
    known = calibrate(replace(looking, pictures=Some(looking.pictures, [small, large])))
    only = calibrate(replace(looking, pictures=Some(looking.pictures, [large])))
    np.testing.assert_array_equal(known["mean/blocks.1"], only["mean/blocks.1"])
    with pytest.raises(InputError, match="use --mode canvas"):
        calibrate(replace(looking, pictures=Some(looking.pictures, [small])))


class Some(list):
    """Pictures of one's own."""

    def __init__(self, pictures, own):
        super().__init__(own)
        self.ids, self.sample = [str(n) for n in range(len(own))], pictures.sample


def test_nothing_of_the_pass_stays_on_the_model(folder):
    looking = observing(engine(config(folder, "upernet")), affinity=True, lie=True)
    looking.look(0)
    bare = engine(config(folder, "upernet")).model
    for ours, theirs in zip(looking.model.modules(), bare.modules(), strict=True):
        assert len(ours._forward_hooks) == len(theirs._forward_hooks)
        assert len(ours._forward_pre_hooks) == len(theirs._forward_pre_hooks)
        assert ours.__dict__.keys() == theirs.__dict__.keys()


def measured(folder, plan, pictures, views, out):
    """At every shift, measures of records whose views are made of the truth."""
    names = tuple(pictures.classes)
    run = Run.of(out, RunKey("model", "data", None, plan, names, pictures.detection, ()))
    for index, image in enumerate(pictures.ids):
        picture = pictures[index]
        scene = plan.scene(*picture.pixels.shape[1:])
        truth = pictures.truth(picture, scene)
        run.cache[image] = Record(image, scene, picture.scale, views(truth, scene), truth)
    ones = np.ones((1, len(pictures)))
    measures = ShiftSuite(("pred", "task")).measures(run, pictures.ids, Bars(quiet=True))
    curves = [measure for measure in measures if measure.axis == "shift"]
    return {
        (curve.metric, curve.part): dict(
            zip(curve.points, curve.statistic(ones)[0].tolist(), strict=True)
        )
        for curve in curves
    }


def test_true_objects_fed_back_are_found_and_a_wrong_sign_is_caught(folder, tmp_path):
    pictures = Pictures(config(folder, "mask_rcnn"))

    def fed(sign):
        def views(truth, scene):
            shifts = [(sign * dy, sign * dx) for dy, dx in PLAN.shifts]
            return [truth.found.shifted(*shift) for shift in [(0, 0), *shifts]]

        return measured(folder, PLAN, pictures, views, tmp_path / str(sign))

    right, wrong = fed(1), fed(-1)
    for part in ("box", "mask"):
        for metric in ("PC", "mIoU_match", "sAP", "AP", "AP50", "CD"):
            values = right[metric, part]
            assert {*PLAN.shifts} <= {*values}
            assert values == pytest.approx(dict.fromkeys(values, float(metric != "CD")), abs=1e-12)
        for metric in ("PC", "sAP", "AP"):
            values = [wrong[metric, part][shift] for shift in PLAN.shifts]
            assert max(values[:2]) < 0.5
            assert values[2] < 0.9  # by 5 pixels


def test_true_labels_fed_back_are_right_and_a_wrong_sign_is_caught(folder, tmp_path):
    pictures = Pictures(config(folder, "upernet"))

    def fed(sign):
        def views(truth, scene):
            shifts = [(sign * dy, sign * dx) for dy, dx in [(0, 0), *PLAN.shifts]]
            known = np.where(truth == 255, 0, truth)
            return np.stack([np.roll(known, shift, (0, 1)) for shift in shifts])

        return measured(folder, PLAN, pictures, views, tmp_path / str(sign))

    right, wrong = fed(1), fed(-1)
    for metric in ("mASSC", "mIoU"):
        values = right[metric, "labels"]
        assert values == pytest.approx(dict.fromkeys(values, 1), abs=1e-12)
        assert max(wrong[metric, "labels"][shift] for shift in PLAN.shifts) < 0.97
