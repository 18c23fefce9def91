"""Matches against those of COCO's own code, on scenes full of doubles, crowds and ties."""

import numpy as np
import pytest
from coco_scenes import CLASSES, coco_of, matches_of, random_scene
from detection_scenes import detections

from mmplugins.evaluation.predictions.coco import OUTSIDE, SIZES, Annotations, matched


def annotations(scenes, kind):
    """Of the first or the second part of each scene."""
    sides = [scene[kind] for scene in scenes]
    boxes = [np.reshape([row["bbox"] for row in side], (-1, 4)).astype(float) for side in sides]
    return Annotations(
        [
            detections(
                np.hstack([box[:, :2], box[:, :2] + box[:, 2:]]),
                np.array([row.get("score", 1) for row in side], float),
                np.array([row["category_id"] for row in side], int),
            )
            for box, side in zip(boxes, sides, strict=True)
        ],
        [box[:, 2:].prod(axis=1) for box in boxes],
        [np.array([row.get("iscrowd", 0) for row in side], bool) for side in sides],
    )


def scenes_of(seed, ties=False, rounded=False, images=25):
    generator = np.random.default_rng(seed)
    scenes = [random_scene(generator, ties) for _ in range(images)]
    for row in (row for scene in scenes for side in scene for row in side) if rounded else ():
        # A few places and sizes: many overlaps are equal, and equal to thresholds.
        row["bbox"] = [float(round(part / 20) * 20 + 20) for part in row["bbox"]]
        if "area" in row:
            row["area"] = row["bbox"][2] * row["bbox"][3]
    return scenes


class TestAgainstCoco:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("ties", [False, True], ids=["scores differ", "scores tie"])
    @pytest.mark.parametrize("rounded", [False, True], ids=["any boxes", "equal overlaps"])
    def test_every_detection_at_every_threshold(self, seed, ties, rounded):
        # Two sets of other sizes at once, one of them with itself for truth.
        sets = [scenes_of(seed, ties, rounded), scenes_of(seed + 9, ties, rounded)]
        pairs = [(annotations(scenes, 0), annotations(scenes, 1)) for scenes in sets]
        hits = 0
        for scenes, found in zip(sets, matched(pairs, "box", ranges=SIZES, most=100), strict=True):
            evaluator = coco_of(scenes)
            for name in SIZES:
                theirs = dict(zip(CLASSES, matches_of(evaluator, name), strict=True))
                assert set(found[name]) <= set(theirs)
                for label, ours in found[name].items():
                    expected = theirs[label]
                    for field in ("image", "score", "truths", "ignored"):
                        np.testing.assert_array_equal(
                            getattr(ours, field), getattr(expected, field)
                        )
                    np.testing.assert_array_equal(ours.hit, expected.hit)
                    hits += ours.hit.sum()
        assert hits > 200

    def test_not_more_than_asked_for(self):
        scenes = scenes_of(0)
        pair = annotations(scenes, 0), annotations(scenes, 1)
        (two,), (all_of_them,) = matched([pair], "box", most=2), matched([pair], "box")
        for label, some in two["all"].items():
            every = all_of_them["all"][label]
            counts = np.bincount(every.image, minlength=25)
            assert np.bincount(some.image, minlength=25).tolist() == np.minimum(counts, 2).tolist()
            # By falling score within an image, so these are the first two.
            rank = np.concatenate([np.arange(count) for count in counts])
            np.testing.assert_array_equal(some.score, every.score[rank < 2])
            np.testing.assert_array_equal(some.hit, every.hit[:, rank < 2])


class TestOutside:
    TRUTH = detections([[0, 0, 10, 10], [30, 0, 40, 10]])
    FOUND = detections([[0, 0, 10, 10], [30, 0, 40, 10], [60, 0, 70, 10]], [0.9, 0.8, 0.7])

    @pytest.mark.parametrize(
        ("truth_in", "found_in", "hit", "ignored", "truths"),
        [
            ([1, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0], 2),
            ([1, 0], [1, 1, 1], [1, 1, 0], [0, 1, 0], 1),
            ([1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0], 2),
            ([1, 1], [1, 1, 0], [1, 1, 0], [0, 0, 1], 2),
            ([0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1], 0),
        ],
    )
    def test_neither_missed_nor_wrong(self, truth_in, found_in, hit, ignored, truths):
        areas = [np.where(inside, 100.0, OUTSIDE) for inside in (truth_in, found_in)]
        pair = Annotations([self.TRUTH], [areas[0]]), Annotations([self.FOUND], [areas[1]])
        matches = matched([pair], "box")[0]["all"][0]
        assert (matches.hit == np.array(hit)).all()
        assert (matches.ignored == np.array(ignored)).all()
        assert matches.truths.tolist() == [truths]

    def test_classes_are_those_of_any_truth(self):
        other = detections([[0, 0, 10, 10]], labels=[7])
        sides = [Annotations([each], [np.ones(len(each))]) for each in (self.TRUTH, other)]
        found = matched([(sides[0], sides[1]), (sides[1], sides[0])], "box")
        assert [list(of_pair["all"]) for of_pair in found] == [[0, 7], [0, 7]]
        assert [of_pair["all"][7].truths.tolist() for of_pair in found] == [[0], [1]]
        assert [len(of_pair["all"][7].image) for of_pair in found] == [1, 0]
