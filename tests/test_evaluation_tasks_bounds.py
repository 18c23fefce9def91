"""Bounds of AP against every choice there is, and against evaluations from the start."""

from itertools import product

import numpy as np
import pytest
from task_records import noisy, plan_of, records_of, truthful

from mmplugins.evaluation.statistics.weighted import Matches, mean_average_precision
from mmplugins.evaluation.tasks.average_precision import match_views
from mmplugins.evaluation.tasks.bounds import bounds

PLAN = plan_of((0, 8), (8, 0), (-8, -8))


def matches_of(records, plan=PLAN):
    return [list(view["all"].values()) for view in match_views(records, plan)]


def chosen(views, choices):
    """AP of a choice: the rows of each image from its view, in the order of the images."""
    classes = []
    for of_views in zip(*views, strict=True):
        rows = [
            (m, np.flatnonzero(m.image == image))
            for image, m in enumerate(of_views[choice] for choice in choices)
        ]
        classes.append(
            Matches(
                np.concatenate([m.image[at] for m, at in rows]),
                np.concatenate([m.score[at] for m, at in rows]),
                np.concatenate([m.hit[:, at] for m, at in rows], axis=1),
                np.concatenate([m.ignored[:, at] for m, at in rows], axis=1),
                of_views[0].truths,
            )
        )
    return mean_average_precision(classes)(np.ones((1, len(choices)))).mean()


class TestBounds:
    @pytest.mark.parametrize("seed", range(3))
    def test_enclose_single_shifts_and_random_choices(self, seed):
        views = matches_of(records_of(PLAN, noisy, images=8, seed=seed))
        found = bounds(views)
        for view, value in enumerate(found.single):
            assert value == pytest.approx(chosen(views, [view] * 8), rel=1e-12)
            assert found.low - 1e-12 <= value <= found.high + 1e-12
        for choices in np.random.default_rng(seed).integers(0, 4, (50, 8)):
            assert found.low < chosen(views, choices) < found.high
        assert found.difference == found.high - found.low > 0.1

    def test_values_are_those_of_the_choices(self):
        views = matches_of(records_of(PLAN, noisy, images=8))
        found = bounds(views)
        for name in ("low", "high", "minimum"):
            choices = getattr(found, f"{name}_choices")
            assert getattr(found, name) == pytest.approx(chosen(views, choices), rel=1e-12)
            assert len(set(choices)) > 1

    @pytest.mark.parametrize("sign", [1, -1])
    def test_one_image_after_the_other_takes_the_best_given_the_others(self, sign):
        views = matches_of(records_of(PLAN, noisy, images=5))
        single = [sign * chosen(views, [view] * 5) for view in range(4)]
        choices = [int(np.argmax(single))] * 5
        for image in range(5):
            trials = [[*choices[:image], v, *choices[image + 1 :]] for v in range(4)]
            values = [sign * chosen(views, trial) for trial in trials]
            if max(values) > values[choices[image]] + 1e-12:
                choices = trials[int(np.argmax(values))]
        found = bounds(views)
        assert (found.high_choices if sign == 1 else found.low_choices).tolist() == choices

    def test_two_images_are_searched_to_the_end(self):
        views = matches_of(records_of(PLAN, noisy, images=2, seed=4))
        every = [chosen(views, choices) for choices in product(range(4), repeat=2)]
        found = bounds(views)
        worst = np.sort(every)
        assert worst[0] - 1e-12 <= found.low <= worst[3]
        assert worst[-4] <= found.high <= worst[-1] + 1e-12

    def test_minimum_by_image(self):
        records = records_of(PLAN, noisy, images=6)
        views = matches_of(records)
        own = np.array(
            [[chosen(matches_of([record]), [view]) for view in range(4)] for record in records]
        )
        assert bounds(views).minimum_choices.tolist() == own.argmin(axis=1).tolist()

    def test_equivariant_detector_has_none(self):
        found = bounds(matches_of(records_of(PLAN, truthful)))
        assert found.single == pytest.approx(np.ones(4))
        assert (found.low, found.difference) == (pytest.approx(1), pytest.approx(0))
        assert found.low_choices.tolist() == found.high_choices.tolist() == [0] * 6

    def test_images_without_truth_or_detections(self):
        records = records_of(PLAN, noisy, images=3) + records_of(PLAN, truthful, images=1, count=0)
        found = bounds(matches_of(records))
        assert [c[3] for c in (found.low_choices, found.minimum_choices)] == [
            int(found.single.argmin()),
            0,
        ]

    def test_progress_and_errors(self):
        told = []
        views = matches_of(records_of(PLAN, noisy, images=3))
        bounds(views, lambda *state: told.append(state))
        assert told == [(done, 6) for done in range(1, 7)]
        with pytest.raises(ValueError, match="true objects"):
            bounds(matches_of(records_of(PLAN, truthful, images=1, count=0)))
