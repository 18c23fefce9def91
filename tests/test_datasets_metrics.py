"""Scores by family: equal to pycocotools' on the family alone; what oracle and blind reach."""

import contextlib
import io

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.datasets.families import (
    CLASSES,
    FAMILY_OF_CLASS,
    SEG_CLASSES,
    SEG_FAMILY_OF_CLASS,
    coco_families,
    family_ap,
    family_iou,
)
from mmplugins.datasets.generate import BenchmarkOptions, make_benchmark
from mmplugins.datasets.scenes import make_scene
from mmplugins.registry import METRICS

pytestmark = pytest.mark.family

SEG_FAMILIES = tuple(SEG_FAMILY_OF_CLASS.values())
FAMILIES = ("appearance", "arrangement", "location", "repetition")
NEEDS_POSITION = FAMILIES[1:]
# What looks alike: the classes a position-blind model must choose from. Pairs are neighbours.
PARTNER = {i + 1: i // 2 * 2 + 1 for i in range(len(CLASSES))}


@pytest.fixture(scope="module")
def ann_file(tmp_path_factory):
    out = make_benchmark(
        tmp_path_factory.mktemp("data") / "synthetic", BenchmarkOptions(train=1, val=120)
    )
    return out / "coco" / "annotations" / "instances_val2017.json"


@pytest.fixture(scope="module")
def coco(ann_file):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(ann_file)


def truth_as_detections(coco):
    return [
        {
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": entry["bbox"],
            "segmentation": coco.annToRLE(entry),
            "score": 1.0,
        }
        for entry in coco.anns.values()
        if not entry["iscrowd"]
    ]


def blind_detections(coco, rng):
    """Every object found exactly, both classes of its look reported, in no order."""
    return [
        {**entry, "category_id": PARTNER[entry["category_id"]] + member, "score": rng.random()}
        for entry in truth_as_detections(coco)
        for member in ((0, 1) if entry["category_id"] > 2 else (entry["category_id"] - 1,))
    ]


def noisy_detections(coco, rng):
    return [
        {
            **entry,
            "category_id": int(rng.integers(1, 13)) if rng.random() < 0.3 else entry["category_id"],
            "bbox": (np.array(entry["bbox"]) + rng.normal(0, 2, 4).clip(-4, 4)).tolist(),
            "score": rng.random(),
        }
        for entry in truth_as_detections(coco)
    ]


def evaluated(coco, detections, iou_type="bbox", cat_ids=None):
    evaluation = COCOeval(coco, coco.loadRes(detections), iou_type)
    if cat_ids:
        evaluation.params.catIds = cat_ids
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_truth_scores_one_in_every_family(coco, iou_type):
    evaluation = evaluated(coco, truth_as_detections(coco), iou_type)
    assert evaluation.stats[0] == pytest.approx(1)
    assert family_ap(evaluation) == pytest.approx(dict.fromkeys(FAMILIES, 1))


def test_family_ap_is_cocos_on_the_familys_classes_alone(coco):
    detections = noisy_detections(coco, np.random.default_rng(0))
    found = family_ap(evaluated(coco, detections))
    for family in FAMILIES:
        cat_ids = [i for i, name in enumerate(CLASSES, 1) if FAMILY_OF_CLASS[name] == family]
        alone = evaluated(coco, detections, cat_ids=cat_ids).stats[0]
        assert found[family] == pytest.approx(alone, abs=1e-12)
        assert 0.05 < alone < 0.95


def test_a_position_blind_detector_reaches_half(coco):
    found = family_ap(evaluated(coco, blind_detections(coco, np.random.default_rng(0))))
    assert found["appearance"] == pytest.approx(1)
    for family in NEEDS_POSITION:
        assert 0.42 < found[family] < 0.62


def test_a_family_without_truth_is_nan(coco):
    content = {
        **coco.dataset,
        "annotations": [entry for entry in coco.dataset["annotations"] if entry["category_id"] < 9],
    }
    fewer = COCO()
    fewer.dataset = content
    fewer.createIndex()
    found = family_ap(evaluated(fewer, truth_as_detections(fewer)))
    assert found["arrangement"] == pytest.approx(1)
    assert np.isnan(found["location"])


def test_a_category_without_family_is_named():
    with pytest.raises(ValueError, match="'cat' has no `supercategory`"):
        coco_families([{"id": 1, "name": "cat"}])


def scored_by_mmdet(ann_file, coco, detections, metric=("bbox", "segm")):
    """What mmdet's evaluator makes of the detections, handed over as its models do."""
    evaluator = Evaluator(
        METRICS.build(
            {
                "type": "mmplugins.FamilyCocoMetric",
                "ann_file": str(ann_file),
                "metric": list(metric),
            }
        )
    )
    evaluator.dataset_meta = {"classes": CLASSES}
    for image_id in coco.imgs:
        found = [entry for entry in detections if entry["image_id"] == image_id]
        boxes = torch.tensor([entry["bbox"] for entry in found]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = np.zeros((len(found), 160, 224), bool)
        for mask, entry in zip(masks, found, strict=True):
            mask[:] = rle.decode(entry["segmentation"])
        sample = {
            "img_id": image_id,
            "ori_shape": (160, 224),
            "pred_instances": {
                "bboxes": boxes,
                "labels": torch.tensor([entry["category_id"] - 1 for entry in found], dtype=int),
                "scores": torch.tensor([entry["score"] for entry in found]),
                "masks": torch.from_numpy(masks),
            },
        }
        evaluator.process(data_batch={}, data_samples=[sample])
    return evaluator.evaluate(len(coco.imgs))


def test_metric_of_mmdet_agrees_with_pycocotools(ann_file, coco):
    pytest.importorskip("mmdet")
    detections = noisy_detections(coco, np.random.default_rng(1))
    scores = scored_by_mmdet(ann_file, coco, detections)
    for iou_type in ("bbox", "segm"):
        # pycocotools takes a detection's area from its box if it has one: mmdet drops it.
        kept = [
            {k: v for k, v in entry.items() if k != "bbox" or iou_type == "bbox"}
            for entry in detections
        ]
        evaluation = evaluated(coco, kept, iou_type)
        assert scores[f"coco/{iou_type}_mAP"] == pytest.approx(evaluation.stats[0], abs=6e-4)
        for family, ap in family_ap(evaluation).items():
            assert scores[f"coco/{iou_type}_mAP_{family}"] == pytest.approx(ap, abs=6e-4)


def test_metric_of_mmdet_gives_zero_where_nothing_was_found(ann_file, coco):
    pytest.importorskip("mmdet")
    scores = scored_by_mmdet(ann_file, coco, [])
    names = ["mAP", *(f"mAP_{family}" for family in FAMILIES)]
    assert scores == {f"coco/{kind}_{name}": 0 for kind in ("bbox", "segm") for name in names}


def seg_scores(predict, families=SEG_FAMILIES, count=60):
    """The scores by mmseg where `predict(labels, rng)` is the model; 0 in `labels` is no class."""
    pytest.importorskip("mmseg")
    metric = METRICS.build({"type": "mmplugins.FamilyIoUMetric", "iou_metrics": ["mIoU"]})
    metric.dataset_meta = {"classes": SEG_CLASSES}
    if families:
        metric.dataset_meta["families"] = families
    rng = np.random.default_rng(0)
    for index in range(count):
        truth = make_scene([0, 0, index], 160, 224).labels.astype(int)
        sample = {
            "pred_sem_seg": {"data": torch.from_numpy(predict(truth, rng))[None]},
            "gt_sem_seg": {"data": torch.from_numpy(np.where(truth == 0, 255, truth - 1))[None]},
        }
        metric.process({}, [sample])
    return metric.evaluate(count)


def test_truth_scores_100_in_every_family():
    scores = seg_scores(lambda truth, rng: np.maximum(truth - 1, 0), count=30)
    assert scores["mIoU"] == 100
    assert {scores[f"mIoU_{family}"] for family in FAMILIES} == {100}


def test_a_position_blind_segmenter_reaches_a_third():
    def toss(truth, rng):
        labels = np.maximum(truth - 1, 0)
        first = labels - (labels - 1) % 2
        return np.where(labels > 2, first + rng.integers(0, 2, labels.shape), labels)

    scores = seg_scores(toss)
    assert scores["mIoU_appearance"] == 100
    for family in NEEDS_POSITION:
        assert 28 < scores[f"mIoU_{family}"] < 36


def test_family_iou_skips_classes_that_never_occur():
    families = ("a", "a", "b")
    assert family_iou([0.5, np.nan, 0.25], families) == {"a": 0.5, "b": 0.25}
    with pytest.raises(ValueError, match="1 families for 3 classes"):
        family_iou([0.5, 0.1, 0.25], ("a",))


def test_missing_families_are_named():
    with pytest.raises(KeyError, match="needs `families`"):
        seg_scores(lambda truth, rng: np.maximum(truth - 1, 0), families=None, count=1)
