"""Zones against their definition, zone AP by hand, and detectors that know where they look."""

from dataclasses import replace

import numpy as np
import pytest
from detection_scenes import detections
from hypothesis import given
from hypothesis import strategies as st
from task_records import noisy, plan_of, records_of, truthful

from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.record import Objects, Record
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.tasks.average_precision import average_precision, match_views
from mmplugins.evaluation.tasks.zones import (
    ZONE_NAMES,
    counterfactual_zone_precision,
    zone_of,
    zone_precision,
)

PLAN = plan_of((0, 40), (40, 0), (-40, -40), (0, -40), mode="masked_canvas")


def values(measures, images=6, weights=None):
    weights = np.ones((1, images)) if weights is None else weights
    return {one.metric: one.statistic(weights) for one in measures}


class TestZoneOf:
    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.data())
    def test_nested_rectangles(self, height, width, n, data):
        y, x = (data.draw(st.integers(-4, 4 * side + 4)) / 4 for side in (height, width))
        # R_i is what is at least i / 2n of the frame from every border.
        held = [
            min(2 * n * y, 2 * n * (height - y)) >= i * height
            and min(2 * n * x, 2 * n * (width - x)) >= i * width
            for i in range(n)
        ]
        near = [
            2 * n * min(y, height - y) / height,
            2 * n * min(x, width - x) / width,
        ]
        if min(abs(part - round(part)) for part in near) > 1e-9:  # not on a line
            assert zone_of(np.array(y), np.array(x), height, width, n) == sum(held) - 1

    def test_whole_frame(self):
        y, x = np.arange(100)[:, None] + 0.5, np.arange(200) + 0.5
        zones = zone_of(y, x, 100, 200)
        assert zones.shape == (100, 200)
        for zone in range(5):
            outer, inner = 1 - zone / 5, 1 - (zone + 1) / 5
            assert (zones == zone).mean() == pytest.approx(outer**2 - inner**2)
        np.testing.assert_array_equal(zones, zones[::-1, ::-1])


class TestZonePrecision:
    def placed(self):
        """One object a zone of a content of 200 x 200 pixels, found up to the third zone."""
        plan = plan_of((0, 8))
        scene = plan.scene(200, 200)
        top, left = scene.content[:2]
        centre = np.array([10, 30, 50, 70, 95]) + left
        boxes = np.stack([centre - 8, centre - 8, centre + 8, centre + 8], axis=1)
        assert top == left
        truth = Objects(detections(boxes), np.zeros(5, bool), np.full(5, 256.0))
        view = detections(boxes[:3], [0.9, 0.8, 0.7])
        return plan, Record("0", scene, (1.0, 1.0), [view, view.shifted(0, 8)], truth)

    def test_by_hand(self):
        plan, record = self.placed()
        found = values(zone_precision([record], plan, "box"), 1)
        assert found["zone AP"][0] == pytest.approx([1, 1, 1, 0, 0])
        assert found["zone AP variance"][0] == pytest.approx([2400])

    def test_false_detections_count_in_their_zone_only(self):
        plan, record = self.placed()
        centre = record.truth.found.boxes[1] + 40 * np.array([1, 0, 1, 0])  # in the second zone too
        boxes = np.concatenate([centre[None], record.views[0].boxes])
        view = detections(boxes, [1.0, 0.9, 0.8, 0.7])
        record = replace(record, views=[view, view])
        found = values(zone_precision([record], plan, "box"), 1)["zone AP"][0]
        assert found == pytest.approx([1, 0.5, 1, 0, 0])

    def test_zone_without_objects_is_undefined(self):
        plan, record = self.placed()
        kept = np.arange(5) != 2
        truth = Objects(record.truth.found[kept], np.zeros(4, bool), np.full(4, 256.0))
        found = values(zone_precision([replace(record, truth=truth)], plan, "box"), 1)
        assert np.isnan(found["zone AP"][0]).tolist() == [False, False, True, False, False]
        assert np.isnan(found["zone AP variance"]).all()

    def test_zones_of_a_window_are_of_what_it_shows(self):
        """The same picture, and more of it beyond the window on all sides."""
        plan, record = self.placed()
        top, left, bottom, right = record.scene.content
        size = bottom - top, right - left
        found = record.truth.found.shifted(-top, -left)
        window = Record(
            "0",
            Scene(size, (-64, -64, size[0] + 64, size[1] + 64), (0, 0, *size)),
            (1.0, 1.0),
            [view.shifted(-top, -left) for view in record.views],
            Objects(found, np.zeros(5, bool), np.full(5, 256.0)),
        )
        found = values(zone_precision([window], plan, "box"), 1)["zone AP"]
        assert found[0] == pytest.approx([1, 1, 1, 0, 0])

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_truth_is_right_everywhere(self, kind):
        records = records_of(PLAN, truthful, count=20)
        found = values(zone_precision(records, PLAN, kind))
        assert found["zone AP"][0] == pytest.approx(np.ones(5))
        assert found["zone AP variance"][0] == pytest.approx([0], abs=1e-9)

    def test_resampled(self):
        records = records_of(PLAN, noisy, count=20)
        weights = np.array([[0.0, 3, 1, 0, 2, 0]])
        weighted = values(zone_precision(records, PLAN, "box"), weights=weights)
        repeated = values(zone_precision([records[n] for n in (1, 1, 1, 2, 4, 4)], PLAN, "box"))
        for name, value in repeated.items():
            np.testing.assert_allclose(weighted[name], value, rtol=1e-12)


def blind_at_the_border(truth, shift, scene, generator):
    """Finds nothing in the outermost zone of the view."""
    found = truth.found.shifted(*shift)
    y, x = (found.boxes[:, [1, 0]] + found.boxes[:, [3, 2]]).T / 2
    return found[zone_of(y, x, *scene.view) > 0]


class TestCounterfactual:
    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_equivariant_detector_has_no_effect(self, kind):
        records = records_of(PLAN, noisy, count=20)
        moved = [
            replace(r, views=[r.views[0], *(r.views[0].shifted(*s) for s in PLAN.shifts)])
            for r in records
        ]
        measures = counterfactual_zone_precision(moved, PLAN, kind)
        assert [one.axis for one in measures] == ["zone"] * 3
        found = values(measures)
        assert 0.1 < np.nanmean(found["placed zone AP"]) < 0.9
        np.testing.assert_array_equal(found["placed zone AP"], found["unmoved zone AP"])
        draws = Bootstrap(6, count=20).estimate(measures[2].statistic).draws
        np.testing.assert_array_equal(draws, 0)

    def test_blindness_at_the_border_is_seen_there_and_nowhere_else(self):
        records = records_of(PLAN, blind_at_the_border, count=20)
        measures = counterfactual_zone_precision(records, PLAN, "box")
        assert {tuple(one.points) for one in measures} == {ZONE_NAMES}
        found = values(measures)
        assert found["placed zone AP"][0] == pytest.approx([0, 1, 1, 1, 1])
        # In the reference, the content is away from the border, and nearly all is found.
        assert found["unmoved zone AP"][0, 0] > 0.8
        assert found["zone effect"][0, 0] < -0.8
        assert (found["zone effect"][0, 1:] >= 0).all()

    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_pooled_views_are_as_images_of_their_own(self, kind):
        records = records_of(PLAN, noisy, count=20)
        frame = (0, 0, *records[0].scene.view)
        whole = replace(records[0].scene, content=frame)
        alone = [
            Record(
                f"{record.image}/{view}",
                whole,
                record.scale,
                [record.views[view]],
                replace(record.truth, found=record.truth.found.shifted(*shift)),
            )
            for view, shift in enumerate(PLAN.shifts, 1)
            for record in records
        ]
        expected = values(zone_precision(alone, PLAN, kind), len(alone))["zone AP"]
        found = values(counterfactual_zone_precision(records, PLAN, kind))["placed zone AP"]
        assert 0.1 < expected.min() < expected.max() < 0.9
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_weights_are_of_real_images(self):
        records = records_of(PLAN, noisy, count=20)
        weights = np.array([[0.0, 3, 1, 0, 2, 0]])
        weighted = values(counterfactual_zone_precision(records, PLAN, "box"), weights=weights)
        some = [records[n] for n in (1, 1, 1, 2, 4, 4)]
        repeated = values(counterfactual_zone_precision(some, PLAN, "box"))
        for name, value in repeated.items():
            np.testing.assert_allclose(weighted[name], value, rtol=1e-12, atol=1e-12)

    def test_only_canvases(self):
        plan = plan_of((0, 8), mode="window")
        with pytest.raises(ValueError, match="mode window"):
            counterfactual_zone_precision(records_of(plan, truthful), plan, "box")


class TestAgreement:
    def test_one_zone_of_all_is_ap(self):
        """Centred objects make the innermost zone all there is."""
        plan = plan_of((0, 8))
        scene = plan.scene(200, 200)
        generator = np.random.default_rng(0)
        records = []
        for image in range(6):
            offsets = generator.integers(-8, 9, (4, 2)) + (scene.view[1] - 32) // 2
            boxes = np.concatenate([offsets, offsets + 32], axis=1)
            truth = Objects(detections(boxes), np.zeros(4, bool), np.full(4, 1024.0))
            seen = detections(boxes + generator.integers(-2, 3, (4, 4)), generator.random(4))
            records.append(Record(str(image), scene, (1.0, 1.0), [seen, seen], truth))
        ap = average_precision(match_views(records, plan), plan, "box")[0]
        found = values(zone_precision(records, plan, "box"))["zone AP"][0]
        assert np.isnan(found[:4]).all()
        assert found[4] == pytest.approx(ap.statistic(np.ones((1, 6)))[0, 0], rel=1e-12)
        assert 0.1 < found[4] < 0.9
