"""AP and mIoU over sizes: against COCO's code and slow loops, what is cut, DiD of known models."""

from dataclasses import replace

import numpy as np
import pytest
from detection_scenes import detections, with_masks
from task_records import SIZE, noisy, objects, own_stats

from mmplugins.evaluation.predictions.label_maps import IGNORED
from mmplugins.evaluation.record import Objects, Record
from mmplugins.evaluation.results.comparison import Measured, compare
from mmplugins.evaluation.results.rows import by_key, estimate_all
from mmplugins.evaluation.sizes import SHAPES, SizePlan, SizeSet
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.tasks.average_precision import FIGURES
from mmplugins.evaluation.tasks.resolution import (
    BY_AREA,
    accuracy_sums,
    detection_measures,
    segmentation_measures,
)

CLASSES = 4
EVERY = {
    "resize": ("0.5", "1", "1.5"),
    "extent": ("1", "2"),
    "crop": ("0.5", "1"),
    "aspect": tuple(SHAPES),
}


def plan_of(sizes):
    return SizePlan(tuple(SizeSet(mode, points) for mode, points in sizes.items()), 8)


PLAN = plan_of(EVERY)
SLIDING = plan_of(EVERY | {"slide": ("1.5",)})


def records_of(plan, detector, *, images=4, seed=0, scale=(1.0, 1.0), **options):
    """One record an image; `detector` is given truth, scene and a generator for every view."""
    generator, scene = np.random.default_rng(seed), plan.scene(*SIZE)
    records = []
    for image in range(images):
        truth = objects(generator, scene, 8, **options)
        views = [detector(truth, (0, 0), scene, generator) for _ in plan.conditions]
        records.append(Record(str(image), scene, scale, views, truth))
    return records


def truthful(truth, shift, scene, generator):
    return truth.found


def values(measures, weights=None, images=1):
    """By metric, part and axis: what is at each point."""
    by_key(measures)  # none is there twice
    weights = np.ones(images) if weights is None else np.asarray(weights, float)
    return {
        (m.metric, m.part, m.axis): dict(zip(m.points, m.statistic(weights[None])[0], strict=True))
        for m in measures
    }


class TestDetectors:
    def test_truth_fed_back_is_one_at_every_size(self):
        found = values(detection_measures(records_of(PLAN, truthful), PLAN), images=4)
        for part in ("box", "mask"):
            for mode, points in EVERY.items():
                assert found["AP", part, mode] == dict.fromkeys(points, 1)
            for mode in ("resize", "extent", "crop"):
                assert {*found["AP delta", part, mode].values()} == {0}
                assert {*found["AP relative", part, mode].values()} == {1}
            assert found["AP delta", part, "aspect"] == {"portrait": 0, "landscape": 0}
            assert found["AP ResAUC up", part, "sizes"] == {"resize": 1, "extent": 1}
            assert found["AP ResAUC down", part, "sizes"] == {"resize": 1, "crop": 1}
            assert found["AP RR90", part, "sizes"] == {"resize": 1.5, "extent": 2}

    @pytest.mark.parametrize(
        ("kind", "scale"), [("box", (1.0, 1.0)), ("box", (0.5, 2.0)), ("mask", (1.0, 1.0))]
    )
    @pytest.mark.parametrize("mode", ["resize", "extent"])
    def test_figures_are_those_of_coco(self, kind, scale, mode):
        records = records_of(PLAN, noisy, scale=scale, crowds=True)
        found = values(detection_measures(records, PLAN), images=4)
        for point in EVERY[mode]:
            theirs = own_stats(records, PLAN.index(mode, point), (0, 0), kind)
            assert theirs.std() > 0.02
            ours = [found[metric, kind, mode][point] for metric in FIGURES]
            assert ours == pytest.approx(theirs, rel=1e-9)

    @pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.5)])
    def test_figures_by_pixels_of_the_input_are_those_of_coco_there(self, scale):
        """Of the boxes as they lie in the network's input, and of areas there."""
        records = records_of(PLAN, noisy, scale=scale, crowds=True)
        found = values(detection_measures(records, PLAN), images=4)
        seen = set()
        for point in EVERY["resize"]:
            ratio = float(point)
            there = [
                replace(
                    record,
                    scale=(1 / ratio, 1 / ratio),
                    truth=replace(record.truth, area=record.truth.area * np.prod(scale) * ratio**2),
                )
                for record in records
            ]
            theirs = own_stats(there, PLAN.index("resize", point), (0, 0), "box")[3:]
            seen.add(tuple(theirs))
            ours = [found[f"{metric} input", "box", "resize"][point] for metric in BY_AREA]
            assert [-1 if np.isnan(each) else each for each in ours] == pytest.approx(theirs)
            # Masks are those of the boxes.
            ours = [found[f"{metric} input", "mask", "resize"][point] for metric in BY_AREA]
            if scale == (1, 1):
                assert [-1 if np.isnan(each) else each for each in ours] == pytest.approx(theirs)
        assert len(seen) == 3
        if scale == (1, 1):
            for metric in BY_AREA:
                at_1 = found[metric, "box", "resize"]["1"]
                assert found[f"{metric} input", "box", "resize"]["1"] == at_1
                assert (f"{metric} input", "box", "extent") not in found

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_what_the_core_cuts_is_neither_missed_nor_wrong(self, kind):
        plan = plan_of({"crop": ("0.5", "1")})
        scene = plan.scene(*SIZE)
        core = (48, 64, 144, 192)
        assert plan.core("crop", SIZE) == core
        boxes = [[70, 50, 100, 90], [160, 60, 220, 110], [0, 0, 40, 40]]  # inside, cut, outside
        frame = (0, 0, *SIZE)
        truth = with_masks(detections(boxes, np.ones(3)), frame)
        truth = Objects(truth, np.zeros(3, bool), np.full(3, 1200.0))
        cropped = np.clip(boxes[:2], [64, 48, 64, 48], [192, 144, 192, 144])
        best = with_masks(detections(cropped, np.array([0.5, 0.9])), frame)
        for more, expected in [
            ([], 1.0),
            ([[150, 120, 200, 150]], 1.0),  # sticks out
            ([[150, 120, 180, 140]], 1.0),  # less than 16 pixels off
            ([[130, 90, 160, 120]], 0.5),  # within, and of a larger score
        ]:
            found = with_masks(
                detections([*best.boxes, *more], np.append(best.scores, np.full(len(more), 0.99))),
                frame,
            )
            record = Record("some", scene, (1.0, 1.0), [truth.found, found], truth)
            result = values(detection_measures([record], plan))
            assert result["AP", kind, "crop"] == {"1": 1, "0.5": pytest.approx(expected)}
        wanted = Record("some", scene, (1.0, 1.0), [truth.found, best[[1]]], truth)
        assert values(detection_measures([wanted], plan))["AP", kind, "crop"]["0.5"] == 0

    def test_detections_on_the_canvas_alone_are_never_wrong(self):
        plan = plan_of({"extent": ("1", "2")})
        records = records_of(plan, truthful, images=1)
        truth = records[0].truth.found
        beyond = detections([[300, 100, 340, 150], [10, 192, 60, 230]], np.ones(2))
        both = detections(
            np.concatenate([beyond.boxes, truth.boxes]),
            np.append([1.0, 1.0], np.full(len(truth), 0.5)),
            np.append([0, 0], truth.labels),
        )
        records = [replace(records[0], views=[truth, both])]
        found = values(detection_measures(records, plan))
        assert found["AP", "box", "extent"] == {"1": 1, "2": 1}

    def test_weights_repeat_images(self):
        records = records_of(PLAN, noisy)
        twice = values(detection_measures(records, PLAN), [2, 0, 1, 1])
        again = values(detection_measures([records[i] for i in (0, 0, 2, 3)], PLAN), images=4)
        for key, at in again.items():
            assert twice[key] == pytest.approx(at, rel=1e-12, nan_ok=True)

    def test_unknown_truth(self):
        records = [replace(r, truth=None) for r in records_of(PLAN, truthful, images=1)]
        with pytest.raises(ValueError, match="the truth about image 0 is not known"):
            detection_measures(records, PLAN)

    @pytest.mark.parametrize("mode", EVERY)
    def test_one_mode_alone(self, mode):
        plan = plan_of({mode: EVERY[mode]})
        found = values(detection_measures(records_of(plan, noisy, images=2), plan), images=2)
        assert {axis for _, _, axis in found} == {mode} | ({"sizes"} if mode != "aspect" else set())
        of_all = values(detection_measures(records_of(plan, truthful, images=2), plan), images=2)
        assert found.keys() == of_all.keys()


def maps(plan, seed, *, right=0.7, ignored=0.1):
    """A record of label maps, a part of them right at random."""
    generator, scene = np.random.default_rng(seed), plan.scene(64, 96)
    truth = generator.integers(0, CLASSES, scene.view).astype(np.uint8)
    shape = len(plan.conditions), *scene.view
    guesses = generator.integers(0, CLASSES, shape).astype(np.uint8)
    said = np.where(generator.random(shape) < right, truth, guesses)
    truth[generator.random(scene.view) < ignored] = IGNORED
    return Record(str(seed), scene, (1.0, 1.0), said, truth)


def measures_of(records, plan):
    return segmentation_measures([accuracy_sums(r, plan, CLASSES) for r in records], plan)


class TestSegmenters:
    def test_truth_fed_back_is_one_at_every_size(self):
        record = maps(SLIDING, 0, ignored=0)
        views = np.repeat(record.truth[None], len(record.views), axis=0)
        outside = np.ones(record.scene.view, bool)
        found = values(measures_of([replace(record, views=views)], SLIDING))
        for group in SLIDING.sets:
            assert found["mIoU", "labels", group.mode] == dict.fromkeys(group.points, 1)
        assert found["slide-gap", "labels", "slide"] == {"1.5": 0}
        # Beyond the core nothing counts, be it wrong or not even a class.
        top, left, bottom, right = SLIDING.core("crop", record.scene.view)
        outside[top:bottom, left:right] = False
        views[SLIDING.index("crop", "0.5")][outside] = IGNORED
        found = values(measures_of([replace(record, views=views)], SLIDING))
        assert found["mIoU", "labels", "crop"] == {"0.5": 1, "1": 1}

    def test_is_that_of_a_slow_loop(self):
        records = [maps(SLIDING, seed) for seed in range(3)]
        found = values(measures_of(records, SLIDING), [1, 2, 0])
        slow = {}
        for group in SLIDING.sets:
            for point in group.points:
                top, left, bottom, right = SLIDING.core(group.mode, (64, 96))
                both, either = np.zeros(CLASSES), np.zeros(CLASSES)
                for record in (records[0], records[1], records[1]):
                    said = record.views[SLIDING.index(group.mode, point)]
                    for y in range(top, bottom):
                        for x in range(left, right):
                            a, b = record.truth[y, x], said[y, x]
                            if a != IGNORED:
                                both[a] += a == b
                                either[[*{a, b}]] += 1
                slow[group.mode, point] = (both / either).mean()
                assert found["mIoU", "labels", group.mode][point] == pytest.approx(
                    slow[group.mode, point], rel=1e-12
                )
        gap = slow["resize", "1.5"] - slow["slide", "1.5"]
        assert found["slide-gap", "labels", "slide"] == {"1.5": pytest.approx(gap, abs=1e-12)}
        changed = slow["resize", "0.5"] - slow["resize", "1"]
        assert found["mIoU delta", "labels", "resize"]["0.5"] == pytest.approx(changed)
        kept = slow["extent", "2"] / slow["extent", "1"]
        assert found["mIoU relative", "labels", "extent"] == {"2": pytest.approx(kept)}
        wide = slow["aspect", "landscape"] - slow["aspect", "square"]
        assert found["mIoU delta", "labels", "aspect"]["landscape"] == pytest.approx(wide)

    @pytest.mark.parametrize("mode", EVERY)
    def test_one_mode_alone(self, mode):
        plan = plan_of({mode: EVERY[mode]})
        found = values(measures_of([maps(plan, 0)], plan))
        assert {axis for _, _, axis in found} == {mode} | ({"sizes"} if mode != "aspect" else set())

    def test_without_truth_there_is_nothing_to_measure(self):
        records = [maps(PLAN, 0), replace(maps(PLAN, 1), truth=None)]
        assert accuracy_sums(records[1], PLAN, CLASSES) == {}
        assert measures_of(records, PLAN) == []


HALVES = plan_of({"resize": ("1", "2"), "extent": ("1", "2")})


def halves(wrong, images=5):
    """Of two classes, halves of a picture; that many of 32 lines of the first are said wrong."""
    scene = HALVES.scene(64, 64)
    truth = np.repeat([0, 1], 32)[:, None].repeat(64, 1).astype(np.uint8)
    views = np.stack([truth] * len(HALVES.conditions))
    for (mode, point), lines in wrong.items():
        views[HALVES.index(mode, point), :lines] = 1
    return [Record(str(n), scene, (1.0, 1.0), views, truth) for n in range(images)]


def miou(lines):
    """Of `halves`, in closed form."""
    part = lines / 32
    return ((1 - part) + 1 / (1 + part)) / 2


def measured(name, records, measures):
    findings = estimate_all([measures], Bootstrap(len(records), 50))
    return Measured(name, {"images": [record.image for record in records]}, findings)


class TestDifferenceInDifferences:
    def test_of_a_model_against_itself_is_exactly_0(self):
        found = records_of(PLAN, noisy)
        said = [maps(SLIDING, seed) for seed in range(4)]
        for records, measures, plan in [
            (found, detection_measures(found, PLAN), PLAN),
            (said, measures_of(said, SLIDING), SLIDING),
        ]:
            one, same = (measured(name, records, measures) for name in ("one", "same"))
            rows = [d.row for d in compare(one, [same], plan) if d.row.metric.endswith(" delta")]
            assert {row.axis for row in rows} == {"resize", "extent", "crop", "aspect"}
            known = [row for row in rows if not np.isnan(row.value)]
            assert len(known) >= len(rows) / 2
            assert {row.value for row in known} == {0.0}
            assert {row.high - row.low for row in known if row.low == row.low} == {0.0}

    def test_is_the_closed_form(self):
        lines = {
            "pe": {("resize", "1"): 4, ("resize", "2"): 20, ("extent", "2"): 9},
            "none": {("resize", "1"): 8, ("resize", "2"): 12, ("extent", "2"): 31},
        }
        runs = {
            name: measured(name, records, segmentation_measures(
                [accuracy_sums(record, HALVES, 2) for record in records], HALVES
            ))
            for name, records in ((name, halves(wrong)) for name, wrong in lines.items())
        }  # fmt: skip
        found = {
            (d.row.metric, d.row.axis, d.row.point): d
            for d in compare(runs["pe"], [runs["none"]], HALVES)
        }
        pe, none = ({at: miou(each) for at, each in lines[name].items()} for name in ("pe", "none"))
        for mode in ("resize", "extent"):
            size, trained = (mode, "2"), ("resize", "1")
            did = (pe[size] - none[size]) - (pe[trained] - none[trained])
            assert abs(did) > 0.1
            one = found["mIoU delta", mode, "2"]
            assert one.other == "none"
            assert one.row.value == pytest.approx(did, abs=1e-12)
            plain = found["mIoU", mode, "2"].row.value
            assert plain == pytest.approx(pe[size] - none[size], abs=1e-12)
