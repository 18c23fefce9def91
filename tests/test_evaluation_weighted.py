"""Weighted AP against pycocotools on datasets that really hold their images several times."""

import numpy as np
import pytest
from coco_scenes import coco_of, matches_of, random_scene
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.statistics.intervals import interval
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.statistics.weighted import (
    Matches,
    mean_average_precision,
    mean_iou,
)


def their_precision(evaluator: COCOeval, area: str) -> np.ndarray:
    """AP [T, classes] of pycocotools, NaN where it says -1."""
    area = evaluator.params.areaRngLbl.index(area)
    precision = evaluator.eval["precision"][:, :, :, area, -1].mean(1)
    return np.where(precision < 0, np.nan, precision)


def our_precision(matches: list[Matches], weights: np.ndarray) -> np.ndarray:
    return np.stack([of_class.average_precision(weights) for of_class in matches], -1)


@pytest.fixture(params=[False, True], ids=["scores differ", "scores tie"])
def scenes(request) -> list[tuple[list[dict], list[dict]]]:
    generator = np.random.default_rng(3)
    return [random_scene(generator, request.param) for _ in range(40)]


class TestAveragePrecision:
    @pytest.mark.parametrize("area", ["all", "small", "medium", "large"])
    def test_of_weight_one_is_that_of_coco(self, scenes, area):
        evaluator = coco_of(scenes)
        theirs = their_precision(evaluator, area)
        assert theirs.shape == (10, 5)
        ours = our_precision(matches_of(evaluator, area), np.ones((1, 40)))[0]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        assert np.isnan(ours[:, 3:]).all()  # no truth
        assert 0.05 < np.nanmean(ours) < 0.95
        assert (np.nanstd(ours, axis=0)[:2] > 0.01).all()  # IoU thresholds matter

    @pytest.mark.parametrize("seed", range(4))
    def test_of_whole_weights_is_that_of_coco_on_repeated_images(self, scenes, seed):
        matches = matches_of(coco_of(scenes))
        weights = Bootstrap(40, count=1, seed=seed).weights
        assert weights.min() == 0
        assert weights.max() > 2
        repeated = np.repeat(np.arange(40), weights[0].astype(int))
        evaluator = coco_of([scenes[index] for index in repeated])
        theirs = their_precision(evaluator, "all")
        np.testing.assert_allclose(our_precision(matches, weights)[0], theirs, rtol=1e-12)
        evaluator.summarize()
        mean = mean_average_precision(matches)(weights)[0]
        assert mean.mean() == pytest.approx(evaluator.stats[0], rel=1e-12)
        assert mean[[0, 5]] == pytest.approx(evaluator.stats[1:3], rel=1e-12)

    def test_class_that_a_resample_lost_is_left_out_of_the_mean(self, scenes):
        matches = matches_of(coco_of(scenes))
        holders = matches[2].truths > 0
        assert 0 < holders.sum() < 40
        weights = np.stack([np.ones(40), np.where(holders, 0, 2)])
        ours = our_precision(matches, weights)
        assert np.isnan(ours[:, 0, 2]).tolist() == [False, True]
        expected = ours[1, :, :2].mean(1)
        np.testing.assert_allclose(mean_average_precision(matches)(weights)[1], expected)

    def test_rows_of_weights_do_not_mix(self, scenes):
        statistic = mean_average_precision(matches_of(coco_of(scenes)))
        weights = Bootstrap(40, count=7).weights
        alone = np.concatenate([statistic(row[None]) for row in weights])
        np.testing.assert_allclose(statistic(weights), alone, rtol=1e-13)

    def test_interval(self, scenes):
        statistic = mean_average_precision(matches_of(coco_of(scenes)))
        estimate = Bootstrap(40, count=200).estimate(statistic)
        found = interval(estimate.combine(lambda ap: ap.mean(-1)))
        assert found.low < found.value < found.high < found.low + 0.4

    def test_by_hand(self):
        # Ranked: hit (image 0), miss (image 1), hit (image 1); image 1 counts three times.
        matches = Matches(
            np.array([0, 1, 1]),
            np.array([0.9, 0.5, 0.8]),
            np.array([[True, True, False]]),
            np.zeros((1, 3), bool),
            np.array([2.0, 1.0]),
        )
        found = matches.average_precision(np.array([[1.0, 3.0], [1, 0], [0, 1], [0, 0]]))[:, 0]
        # recall 1/5 at precision 1, then 4/5 at 4/7; 1/2 at 1; 1 at 1/2; no truth
        expected = [(21 + 60 * 4 / 7) / 101, 51 / 101, 1 / 2, np.nan]
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_without_detections_is_zero_and_without_truth_undefined(self):
        nothing = np.zeros((1, 0), bool)
        matches = Matches(np.zeros(0, int), np.zeros(0), nothing, nothing, np.array([2.0, 0.0]))
        found = matches.average_precision(np.array([[1.0, 1.0], [0, 2]]))
        np.testing.assert_array_equal(found, [[0], [np.nan]])

    def test_errors(self):
        one, score, truths = np.ones((1, 1), bool), np.ones(1), np.ones(2)
        with pytest.raises(ValueError, match=r"`image` must lie in \[0, 2\)"):
            Matches(np.array([2]), score, one, one, truths)
        with pytest.raises(ValueError, match="1 images, 2 scores"):
            Matches(np.array([1]), np.ones(2), one, one, truths)
        with pytest.raises(ValueError, match="ignored"):
            Matches(np.array([1]), score, one, np.ones((2, 1), bool), truths)


class TestMeanIou:
    @given(st.integers(0, 2**32 - 1))
    def test_is_that_of_repeated_images(self, seed):
        generator = np.random.default_rng(seed)
        unions = generator.integers(0, 3, (2, 4, 6)) * generator.integers(0, 2, (2, 4, 1))
        intersections = generator.integers(0, unions + 1)
        weights = Bootstrap(6, count=5, seed=seed).weights
        found = mean_iou(intersections, unions)(weights)
        assert found.shape == (5, 2)
        for b, times in enumerate(weights.astype(int)):
            for shift in range(2):
                ious = [
                    np.repeat(i, times).sum() / np.repeat(u, times).sum()
                    for i, u in zip(intersections[shift], unions[shift], strict=True)
                    if np.repeat(u, times).sum() > 0
                ]
                expected = np.mean(ious) if ious else np.nan
                assert found[b, shift] == pytest.approx(expected, nan_ok=True)
