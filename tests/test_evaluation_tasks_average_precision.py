"""AP under shifts against COCO's own evaluation, truth fed back, and objects the core cuts."""

from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from detection_scenes import detections
from pycocotools.coco import COCO
from task_records import noisy, own_stats, plan_of, records_of, truthful

from mmplugins.evaluation.record import Objects, Record
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.tasks.average_precision import FIGURES, average_precision, match_views

PLAN = plan_of((0, 8), (8, 0), (-8, -8))


def figures(records, plan, kind="box", weights=None):
    """{figure: [b, 1 + S]}."""
    weights = np.ones((1, len(records))) if weights is None else weights
    measures = average_precision(match_views(records, plan, kind), plan, kind)
    return {measure.metric: measure.statistic(weights) for measure in measures}


class TestAgainstCoco:
    @pytest.mark.parametrize(
        ("kind", "scale"), [("box", (1.0, 1.0)), ("box", (2.0, 1.0)), ("mask", (1.0, 1.0))]
    )
    def test_six_figures_of_every_view(self, kind, scale):
        records = records_of(PLAN, noisy, scale=scale, crowds=True)
        wide = replace(records[0].scene, core=(-50, -50, 500, 500))  # nothing is left out
        records = [replace(record, scene=wide) for record in records]
        ours = np.concatenate(list(figures(records, PLAN, kind).values()))
        for view, (dy, dx) in enumerate([(0, 0), *PLAN.shifts]):
            theirs = own_stats(records, view, (-dy, -dx), kind)
            assert theirs.std() > 0.02
            assert ours[:, view] == pytest.approx(theirs, rel=1e-9)

    def test_hundred_detections_of_a_class(self):
        records = records_of(PLAN, truthful, images=1)
        truth = records[0].truth.found
        false = detections(np.tile([0, 0, 9, 9], (100, 1)), np.full(100, 1.0))
        boxes, labels = (
            np.concatenate([getattr(side, name) for side in (false, truth)])
            for name in ("boxes", "labels")
        )
        scores = np.append(np.full(100, 1.0), np.full(len(truth), 0.5))
        views = [detections(boxes, scores, labels)] * 4
        labels = truth.labels
        assert 0 < (labels == 0).sum() < len(labels)
        found = figures([replace(records[0], views=views)], PLAN)["AP"][0, 0]
        assert found == pytest.approx((np.unique(labels) != 0).mean(), rel=1e-12)


class TestShifts:
    @pytest.mark.parametrize("kind", ["box", "mask"])
    @pytest.mark.parametrize("mode", ["canvas", "window"])
    def test_truth_fed_back_is_one_at_every_shift(self, mode, kind):
        plan = plan_of((0, 8), (8, 0), (-8, -8), mode=mode, edge=4)
        records = records_of(plan, truthful)
        assert records[0].scene.core != (0, 0, *records[0].scene.view)
        for values in figures(records, plan, kind).values():
            assert values[0] == pytest.approx(np.ones(4), abs=1e-12)

    def test_wrong_way_back_shows(self):
        plan = plan_of((0, 8), (16, 0))
        records = records_of(plan, truthful)
        for back in ([0, 2, 1], [0, 0, 0]):  # shifts swapped, or not made
            wrong = [replace(r, views=[r.views[view] for view in back]) for r in records]
            values = figures(wrong, plan)["AP"][0]
            assert values[0] == pytest.approx(1)
            assert (values[1:] < 0.6).all()

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_cut_objects_are_neither_missed_nor_wrong(self, kind):
        plan = plan_of((0, 8), edge=20)
        records = records_of(plan, truthful, count=12)
        core = records[0].scene.core
        cut = [~record.truth.found.inside(core) for record in records]
        assert 10 < sum(map(np.sum, cut)) < 50
        # Without cut objects in one view, with each twice in the other.
        views = [
            [r.views[0][~c], r.views[1][np.repeat(np.arange(len(c)), 1 + c)]]
            for r, c in zip(records, cut, strict=True)
        ]
        changed = [replace(r, views=v) for r, v in zip(records, views, strict=True)]
        assert figures(changed, plan, kind)["AP"][0] == pytest.approx([1, 1], abs=1e-12)

    def test_rounding_does_not_put_objects_out_of_the_content(self):
        plan = plan_of((0, 8))
        records = records_of(plan, truthful, images=1, count=1)
        top, left, bottom, right = records[0].scene.content
        whole = detections([[left, top, right + 1e-9, bottom + 1e-9]], [1.0])
        truth = Objects(whole, np.zeros(1, bool), np.ones(1) * 1e4)
        views = [whole, whole.shifted(0, 8)]
        values = figures([replace(records[0], truth=truth, views=views)], plan)["AP"]
        assert values[0] == pytest.approx([1, 1])

    def test_areas_are_of_the_original_image(self):
        plan = plan_of((0, 8))
        truth = detections([[50, 50, 90, 90]])
        scene = plan.scene(192, 256)
        objects = Objects(truth, np.zeros(1, bool), np.array([400.0]))
        far = detections([[50, 50, 90, 90], [120, 50, 160, 90]], [0.5, 0.9])
        record = Record("0", scene, (2.0, 2.0), [far, far.shifted(0, 8)], objects)
        found = figures([record], plan)
        assert found["AP_S"][0] == pytest.approx([0.5, 0.5])  # the other is small too, and wrong
        assert np.isnan([found["AP_M"], found["AP_L"]]).all()

    def test_without_truth_in_the_core_is_undefined(self):
        records = records_of(PLAN, truthful, images=2, count=0)
        values = np.stack(list(figures(records, PLAN).values()))
        assert values.shape == (6, 1, 4)
        assert np.isnan(values).all()

    def test_image_without_objects_has_no_masks(self):
        records = records_of(PLAN, truthful, images=2)
        nothing = Objects(detections([]), np.zeros(0, bool), np.zeros(0))
        empty = replace(records[0], truth=nothing, views=[detections([])] * 4)
        assert figures([empty, records[1]], PLAN, "mask")["AP"][0] == pytest.approx(np.ones(4))

    def test_errors(self):
        records = records_of(PLAN, truthful, images=2)
        with pytest.raises(ValueError, match="image 1 is not known"):
            match_views([records[0], replace(records[1], truth=None)], PLAN)
        with pytest.raises(ValueError, match="mode roll"):
            match_views(records, plan_of((0, 8), mode="roll"))


class TestResamples:
    def test_weights_repeat_images(self):
        records = records_of(PLAN, noisy)
        weights = np.array([[1.0, 1, 1, 1, 1, 1], [0, 3, 1, 0, 2, 0]])
        weighted = figures(records, PLAN, weights=weights)
        repeated = figures([records[n] for n in (1, 1, 1, 2, 4, 4)], PLAN)
        assert list(weighted) == list(FIGURES)
        for name, values in repeated.items():
            np.testing.assert_allclose(weighted[name][1], values[0], rtol=1e-12)

    def test_each_is_computed_once(self):
        measures = average_precision(match_views(records_of(PLAN, noisy), PLAN), PLAN, "box")
        bootstrap = Bootstrap(6, count=20)
        first = bootstrap.estimate(measures[0].statistic).draws
        again = bootstrap.estimate(measures[0].statistic).draws
        np.testing.assert_array_equal(first, again)
        assert first.std() > 0


class TestRealData:
    def test_truth_moved_by_one_pixel(self, data_root):
        files = sorted((data_root / "coco_tiny" / "annotations").glob("*val*.json"))
        with redirect_stdout(StringIO()):
            coco = COCO(files[0])
        moves = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
        plan = plan_of(*moves.values())
        records = []
        for image in coco.loadImgs(coco.getImgIds()):
            rows = coco.loadAnns(coco.getAnnIds(image["id"]))
            scene = plan.scene(image["height"], image["width"])
            boxes = np.reshape([row["bbox"] for row in rows], (-1, 4)).astype(float)
            boxes[:, 2:] += boxes[:, :2]
            labels = np.array([row["category_id"] for row in rows], int)
            found = detections(boxes, np.ones(len(rows)), labels).shifted(*scene.content[:2])
            crowd = np.array([row["iscrowd"] for row in rows], bool)
            truth = Objects(found, crowd, np.array([row["area"] for row in rows], float))
            # What is found in each view lies one pixel off, as the reference's does not.
            views = [found[~crowd], *(found[~crowd].shifted(2 * y, 2 * x) for y, x in plan.shifts)]
            wide = replace(scene, core=(-9, -9, 9999, 9999))
            records.append(Record(str(image["id"]), wide, (1.0, 1.0), views, truth))
        found = figures(records, plan)
        print({name: np.round(100 * values[0], 1).tolist() for name, values in found.items()})
        assert found["AP"][0, 0] == pytest.approx(1)
        for view, (dy, dx) in enumerate(plan.shifts, 1):
            assert found["AP"][0, view] == pytest.approx(self.recall(records, dy, dx), abs=0.02)
        assert (found["AP_S"][0, 1:] < found["AP_M"][0, 1:]).all()
        assert (found["AP_M"][0, 1:] < found["AP_L"][0, 1:]).all()

    def recall(self, records, dy, dx):
        """Share of objects whose IoU with themselves moved passes, by class and threshold."""
        objects = [(r.truth.found, r.truth.crowd) for r in records]
        boxes = np.concatenate([found.boxes[~crowd] for found, crowd in objects])
        labels = np.concatenate([found.labels[~crowd] for found, crowd in objects])
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        shared = (width - abs(dx)) * (height - abs(dy))
        passed = (shared / (2 * width * height - shared))[:, None] >= np.arange(50, 100, 5) / 100
        return np.mean([passed[labels == label].mean() for label in np.unique(labels)])
