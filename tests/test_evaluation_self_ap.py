"""Self AP against plain evaluations, weights against repeated images, faults and real data."""

from dataclasses import fields

import numpy as np
import pytest
from detection_scenes import (
    DRIFTS,
    FRAME,
    detections,
    fragment_rate,
    scene,
    scores_of,
    summarise,
    with_masks,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.predictions.matching import (
    compare,
)
from mmplugins.evaluation.predictions.self_ap import SelfAP


def jittered(images=6):
    """Images and their detections, found again with errors."""
    rng = np.random.default_rng(0)
    for seed in range(images):
        a = scene(seed, count=seed + 2)
        boxes = a.boxes + rng.integers(-2, 3, a.boxes.shape)
        yield a, with_masks(detections(boxes, rng.uniform(0.3, 1, len(a)), a.labels))


def plain_ap(truth, found, kind):
    """AP as everyone computes it."""
    rows = [
        {
            "id": 100 * image + row + 1,
            "image_id": image,
            "category_id": int(view.labels[row]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "segmentation": view.masks[row],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        for image, view in enumerate(truth)
        for row, (x1, y1, x2, y2) in enumerate(view.boxes)
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": n, "height": 96, "width": 128} for n in range(len(truth))],
        "categories": [{"id": n} for n in range(3)],
        "annotations": rows,
    }
    coco.createIndex()
    results = [
        {
            "image_id": image,
            "category_id": int(view.labels[row]),
            "score": float(view.scores[row]),
            **(
                {"segmentation": view.masks[row]}
                if kind == "mask"
                else {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            ),
        }
        for image, view in enumerate(found)
        for row, (x1, y1, x2, y2) in enumerate(view.boxes)
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), {"box": "bbox", "mask": "segm"}[kind])
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


class TestSelfAP:
    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_mean_of_two_plain_evaluations(self, kind):
        a, b = zip(*jittered(), strict=True)
        wide = (-9, -9, 200, 200)
        expected = (plain_ap(a, b, kind) + plain_ap(b, a, kind)) / 2
        assert 0.1 < expected < 0.9
        assert SelfAP(a, b, [wide] * 6, kind=kind)() == pytest.approx(expected, rel=1e-12)

    def test_crowds_are_counted_whole(self):
        corner = np.stack(np.meshgrid(range(0, 110, 10), range(0, 110, 10)), -1).reshape(-1, 2)
        crowd = detections(np.concatenate([corner, corner + 8], axis=1))
        assert SelfAP([crowd], [crowd], [(0, 0, 120, 120)])() == pytest.approx(1)


class TestWeights:
    def test_weights_repeat_images(self):
        pairs = list(jittered())
        weights = np.array([[1, 1, 1, 1, 1, 1], [0, 3, 1, 0, 2, 1], [0, 0, 0, 6, 0, 0]])
        sums = [compare(a, b, FRAME) for a, b in pairs]
        weighted = summarise(sums, weights)
        self_ap = SelfAP(*zip(*pairs, strict=True), [FRAME] * 6)
        for row, counts in enumerate(weights):
            picks = np.repeat(np.arange(6), counts)
            for name, value in summarise([sums[pick] for pick in picks]).items():
                assert weighted[name].shape == (3,)
                assert weighted[name][row] == pytest.approx(value, rel=1e-12)
            a, b = zip(*(pairs[pick] for pick in picks), strict=True)
            repeated = SelfAP(a, b, [FRAME] * len(a))()
            assert self_ap(counts) == self_ap(weights)[row] == pytest.approx(repeated, rel=1e-12)

    def test_no_image_drawn(self):
        pairs = list(jittered())
        sums = [compare(a, b, FRAME) for a, b in pairs]
        assert all(np.isnan(value) for value in summarise(sums, np.zeros(6)).values())
        assert np.isnan(SelfAP(*zip(*pairs, strict=True), [FRAME] * 6)(np.zeros(6, int)))

    def test_self_ap_of_the_same_images(self):
        none = detections([])
        with pytest.raises(ValueError, match="not of the same images"):
            SelfAP([none], [none, none], [FRAME])

    def test_sums_are_of_one_image(self):
        a = scene(0)
        sums = compare(a, a, FRAME)
        for field in fields(sums):
            shape = {"found_references": (10,), "found_shifted": (10,), "found": (12,)}
            assert np.shape(getattr(sums, field.name)) == shape.get(field.name, ())


class TestFaults:
    """A perfect detector, its detections moved back wrongly."""

    FRAME = (0, 0, 400, 400)
    FAULTS = (
        ("sign", lambda dy, dx: (dy, dx), (2 * 6, 2 * 3)),
        ("axes", lambda dy, dx: (-dx, -dy), (6 - 3, 3 - 6)),
        ("one more in x", lambda dy, dx: (-dy, -dx - 1), (0, -1)),
        ("one less in y", lambda dy, dx: (-dy + 1, -dx), (1, 0)),
    )

    def truth(self):
        rng = np.random.default_rng(0)
        corner = np.stack(np.meshgrid([20, 150, 270], [20, 150, 270]), -1).reshape(-1, 2)
        boxes = np.concatenate([corner, corner + rng.integers(60, 100, (9, 2))], axis=1)
        labels = np.arange(9) % 2
        return with_masks(detections(boxes, rng.uniform(0.3, 1, 9), labels), self.FRAME)

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_moved_back_rightly(self, kind):
        a = self.truth()
        result = scores_of(a, a.shifted(6, 3).shifted(-6, -3), self.FRAME, kind=kind)
        assert (result["PC"], result["CD_px"]) == (1, 0)

    @pytest.mark.parametrize("kind", ["box", "mask"])
    @pytest.mark.parametrize(("name", "back", "off"), FAULTS, ids=[row[0] for row in FAULTS])
    def test_each_fault_shows(self, name, back, off, kind):
        # Large boxes one pixel off still overlap by .95; one of 10 pixels does not.
        a = self.truth()
        small = with_masks(detections([[350, 350, 360, 360]], labels=[2]), self.FRAME)
        b = a.shifted(6, 3).shifted(*back(6, 3))
        result = scores_of(a, b, self.FRAME, kind=kind)
        assert result["PC_50"] == 1
        assert result["CD_px"] == pytest.approx(np.hypot(*off), rel=1e-12)
        assert result["mIoU_match"] < 1
        shifted = small.shifted(6, 3).shifted(*back(6, 3))
        assert scores_of(small, shifted, self.FRAME, kind=kind)["PC"] < 1


class TestRealData:
    @pytest.mark.parametrize("name", ["coco_tiny", "nuclei"])
    def test_truth_fed_back(self, data_root, name):
        files = sorted((data_root / name / "annotations").glob("*val*.json"))
        coco = COCO(files[0])
        views, cores = [], []
        for image in coco.loadImgs(coco.getImgIds()):
            found = coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=False))
            boxes = np.reshape([row["bbox"] for row in found], (-1, 4)).astype(float)
            boxes[:, 2:] += boxes[:, :2]
            masks = [coco.annToRLE(row) for row in found]
            labels = np.array([row["category_id"] for row in found], int)
            views.append(detections(boxes, np.ones(len(found)), labels, masks))
            cores.append((32, 32, image["height"] - 32, image["width"] - 32))
        for kind in ("box", "mask"):
            back = [view.shifted(8, -16).shifted(-8, 16) for view in views]
            pairs = list(zip(views, back, cores, strict=True))
            images = [compare(a, b, core, margin=16, kind=kind) for a, b, core in pairs]
            result = summarise(images)
            assert sum(image.references for image in images) > 20
            assert result["PC"] == result["PC_macro"] == result["mAISC"] == 1
            assert result["mIoU_match"] == pytest.approx(1, abs=1e-12)
            assert [result[key] for key in DRIFTS] == pytest.approx([0] * 5, abs=1e-12)
            assert fragment_rate([[image] for image in images]) == 0
            assert SelfAP(views, back, cores, margin=16, kind=kind)() == pytest.approx(1)
