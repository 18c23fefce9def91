"""mIoU by zone: of models that err in known places."""

from dataclasses import replace

import numpy as np
import pytest
from segmentation_records import pieces, plan_of, record_of, values


def test_where_it_lies_is_what_a_model_of_places_gets_wrong():
    plan, labels = (
        plan_of("canvas", [(8, 0), (-8, 0), (0, 8), (0, -8)]),
        pieces(height=64, width=80),
    )

    def model(view):
        said = view.copy()
        said[: view.shape[0] // 10] = 4  # the upper part of zone 0, whatever it shows
        return said

    found = values([record_of(plan, labels, model, truth=labels)], plan)
    unmoved, placed = found["unmoved zone mIoU"], found["placed zone mIoU"]
    np.testing.assert_array_equal(unmoved, 1)  # unshifted, the content begins below
    np.testing.assert_array_equal(placed[1:], 1)
    assert placed[0] < 0.9
    np.testing.assert_array_equal(found["zone effect"], placed - unmoved)
    np.testing.assert_array_equal(found["zone mIoU"], 1)
    assert found["mIoU"][2] < 1  # moved up
    np.testing.assert_array_equal(found["mIoU"][[0, 1, 3, 4]], 1)


def test_zones_are_annuli_of_the_content():
    plan, labels = plan_of("canvas"), pieces(height=80, width=80)
    record = record_of(plan, labels, truth=labels)
    for zone in range(5):
        wrong, views = np.zeros((80, 80), bool), record.views.copy()
        inset = 8 * zone
        wrong[inset : 80 - inset, inset : 80 - inset] = True
        wrong[inset + 8 : 72 - inset, inset + 8 : 72 - inset] = False
        top, left, bottom, right = record.scene.content
        views[0, top:bottom, left:right][wrong] = 4
        found = values([replace(record, views=views)], plan)
        expected = np.where(np.arange(5) == zone, 0.0, 1.0)
        np.testing.assert_array_equal(found["zone mIoU"], expected)
        assert found["zone mIoU variance"] == pytest.approx(np.var(100 * expected))


def test_zones_of_a_window_reach_its_border_though_the_core_does_not():
    plan, labels = plan_of("window"), pieces()
    record = record_of(plan, labels, truth=labels)
    views = record.views.copy()
    views[0, :2] = 4
    assert record.scene.core[0] > 2
    found = values([replace(record, views=views)], plan)
    assert found["zone mIoU"][0] < 1
    np.testing.assert_array_equal(found["mIoU"], 1)


def test_a_zone_without_pixels_is_unknown():
    plan, labels = plan_of("canvas"), pieces(height=80, width=80)
    truth = np.full_like(labels, 255)
    truth[8:72, 8:72] = labels[8:72, 8:72]
    found = values([record_of(plan, labels, truth=truth)], plan)
    np.testing.assert_array_equal(found["zone mIoU"], [np.nan, 1, 1, 1, 1])
    np.testing.assert_array_equal(found["zone mIoU variance"], np.nan)
