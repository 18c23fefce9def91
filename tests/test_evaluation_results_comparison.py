"""Differences and noise: pairs, Holm by hand, and runs that cannot be compared."""

import math

import numpy as np
import pytest
from evaluation_results import BOOTSTRAP, IMAGES, PLAN, PROTOCOL, curve, mean, measured

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.comparison import compare, noise
from mmplugins.evaluation.results.rows import rows
from mmplugins.evaluation.shifts import kind_of
from mmplugins.evaluation.statistics.resampling import Bootstrap


class TestCompare:
    def test_pairs_images(self, generator):
        values = generator.random(IMAGES)
        ours, theirs = measured("a", [mean(values + 0.1)]), measured("b", [mean(values)])
        [difference] = compare(ours, [theirs])
        alone = rows(ours.findings)[0].half_width
        assert alone > 0.05
        assert difference.row.value == pytest.approx(0.1)
        assert difference.row.half_width < 1e-12
        assert difference.detectable < 1e-12
        assert difference.p == pytest.approx(1 / (BOOTSTRAP.count + 1))

    def test_of_equals_is_no_difference(self, generator):
        values = generator.random(IMAGES)
        [difference] = compare(measured("a", [mean(values)]), [measured("b", [mean(values)])])
        assert (difference.row.value, difference.row.half_width, difference.p) == (0, 0, 1)

    def test_detectable_effect_is_that_of_a_test_of_means(self, generator):
        ours, theirs = generator.random((2, IMAGES))
        bootstrap = Bootstrap(IMAGES, 4000)
        [difference] = compare(
            measured("a", [mean(ours)], bootstrap=bootstrap),
            [measured("b", [mean(theirs)], bootstrap=bootstrap)],
        )
        error = np.std(ours - theirs) / math.sqrt(IMAGES)
        assert difference.detectable == pytest.approx((1.9600 + 0.8416) * error, rel=0.05)

    def test_adjusts_for_three_encodings_at_each_point_alone(self, generator):
        runs = [measured(name, curve(generator)) for name in "abcd"]
        found = compare(runs[0], runs[1:], PLAN)
        points = {}
        for each in found:
            points.setdefault((each.row.axis, each.row.point, each.row.dy, each.row.dx), []).append(
                each
            )
        assert len(points) == len(PLAN.shifts) + 2
        for of_point in points.values():
            assert {each.other for each in of_point} == set("bcd")
            largest = 0.0
            for rank, each in enumerate(sorted(of_point, key=lambda each: each.p)):
                largest = max(largest, min(1, (3 - rank) * each.p))
                assert each.p_holm == pytest.approx(largest)
        assert any(each.p_holm > each.p for each in found)

    def test_tells_shifts_and_kinds_like_rows_do(self, generator):
        ours, theirs = (measured(name, curve(generator)) for name in "ab")
        shifts = [each.row for each in compare(ours, [theirs], PLAN) if each.row.axis == "shift"]
        assert [(row.dy, row.dx) for row in shifts] == list(PLAN.shifts)
        assert [row.kind for row in shifts] == [kind_of(shift, 16) for shift in PLAN.shifts]

    def test_is_of_what_both_measured(self, generator):
        values = generator.random(IMAGES)
        ours = measured("a", [mean(values), mean(values, part="mask")])
        theirs = measured("b", [mean(values, metric="sAP"), mean(values, part="mask")])
        [difference] = compare(ours, [theirs])
        assert (difference.row.metric, difference.row.part) == ("PC", "mask")
        both = measured("c", [mean(values), mean(values, part="mask")])
        found = [(each.row.part, each.other) for each in compare(ours, [theirs, both])]
        assert found == [("box", "c"), ("mask", "b"), ("mask", "c")]

    def test_is_of_several_training_runs(self):
        ours = measured("a", [mean([0.6] * IMAGES)], [mean([0.8] * IMAGES)])
        theirs = measured("b", [mean([0.5] * IMAGES)], [mean([0.5] * IMAGES)])
        [difference] = compare(ours, [theirs])
        assert difference.row.value == pytest.approx(0.2)
        assert (difference.row.low, difference.row.high) == pytest.approx((0.1, 0.3))
        assert difference.row.runs == 2


class TestRefusals:
    def refused(self, message, **other):
        ours = measured("ape", [mean([0.5] * IMAGES)])
        theirs = measured("rope", other.pop("measures", [mean([0.5] * IMAGES)]), **other)
        with pytest.raises(InputError, match=message):
            compare(ours, [theirs])
        with pytest.raises(InputError, match=message):
            noise(ours, [theirs])

    def test_other_images(self):
        images = list(PROTOCOL["images"])
        images[3:5] = ["000000000017", "000000000018"]
        self.refused(
            r"`ape` and `rope` cannot be compared: images\[3\] is '000000000003' of the first, but "
            "'000000000017' of the second",
            protocol={**PROTOCOL, "images": images},
        )

    def test_fewer_images(self):
        self.refused(
            r"images\[29\] is '000000000029' of the first, but absent",
            protocol={**PROTOCOL, "images": PROTOCOL["images"][:-1]},
        )

    def test_other_shifts_and_modes(self):
        self.refused(
            "mode is 'canvas' of the first, but 'window'", protocol={**PROTOCOL, "mode": "window"}
        )
        self.refused(
            "shifts is absent of the first",
            protocol={**PROTOCOL, "shifts": {"sub": [[0, 1]]}},
        )

    def test_another_seed(self):
        bootstrap = Bootstrap(IMAGES, BOOTSTRAP.count, seed=1)
        self.refused("bootstrap.seed is 0 of the first, but 1", bootstrap=bootstrap)

    def test_nothing_in_common(self):
        measures = [mean([0.5] * IMAGES, metric="sAP")]
        self.refused("`ape` and `rope` have no measure in common", measures=measures)

    def test_more_training_runs(self):
        measures = [mean([0.5] * IMAGES)]
        two = measured("rope", measures, measures)
        with pytest.raises(InputError, match="training runs is 1 of the first, but 2"):
            compare(measured("ape", measures), [two])

    def test_two_of_one_name(self):
        measures = [mean([0.5] * IMAGES)]
        others = [measured("rope", measures), measured("rope", measures)]
        with pytest.raises(InputError, match="two of one name: rope, rope"):
            compare(measured("ape", measures), others)


class TestNoise:
    def test_of_the_same_numbers_is_none(self, generator):
        values = generator.random(IMAGES)
        ours, again = (measured(name, [mean(values)]) for name in ("run", "run again"))
        [found] = noise(ours, [again])
        assert (found.cause, found.floor, found.row.value) == ("run again", 0, 0)

    def test_floor_of_a_constant_difference_is_its_size(self, generator):
        values = generator.random(IMAGES)
        again = measured("mixed precision", [mean(values + 0.01)])
        [found] = noise(measured("run", [mean(values)]), [again])
        assert found.floor == pytest.approx(0.01)
        assert found.row.value == pytest.approx(-0.01)

    def test_is_told_of_every_cause(self, generator):
        values = generator.random(IMAGES)
        names = ("run", "run again", "mixed precision")
        run, *again = (measured(name, [mean(values)]) for name in names)
        assert [each.cause for each in noise(run, again)] == ["run again", "mixed precision"]
