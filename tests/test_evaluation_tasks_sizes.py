"""Numbers of curves over sizes as measures, against the definitions."""

import numpy as np
import pytest

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.results.rows import estimate_all, rows
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.tasks.sizes import size_numbers

POINTS = ("0.5", "1", "2")
VALUES = {"resize": (0.2, 0.4, 0.3), "extent": (0.4, 0.8)}


def curve(mode, points, values, metric="AP", part="box"):
    """The values times the weight of the first image."""
    return Measure("task", metric, part, mode, points, lambda w: w[:, :1] * np.array(values))


CURVES = [curve("resize", POINTS, VALUES["resize"]), curve("extent", POINTS[1:], VALUES["extent"])]


def values(measures, weights=None):
    weights = np.ones((1, 3)) if weights is None else weights
    return {
        (one.metric, one.axis): dict(zip(one.points, one.statistic(weights).T, strict=True))
        for one in measures
    }


class TestSizeNumbers:
    def test_definitions(self):
        found = values(size_numbers(CURVES))
        assert found == {
            ("AP delta", "resize"): {"0.5": pytest.approx(-0.2), "2": pytest.approx(-0.1)},
            ("AP relative", "resize"): {"0.5": pytest.approx(0.5), "2": pytest.approx(0.75)},
            ("AP delta", "extent"): {"2": pytest.approx(0.4)},
            ("AP relative", "extent"): {"2": pytest.approx(2)},
            ("AP ResAUC down", "sizes"): {"resize": pytest.approx(0.75)},
            ("AP ResAUC up", "sizes"): {
                "resize": pytest.approx(0.875),
                "extent": pytest.approx(1.5),
            },
            ("AP peak", "sizes"): {"resize": 1, "extent": 2},
            ("AP peak/M(1)", "sizes"): {"resize": 1, "extent": pytest.approx(2)},
            ("AP RR90", "sizes"): {"resize": pytest.approx(2**0.4), "extent": 2},
        }

    def test_formed_within_each_resample(self):
        weights = np.array([[1.0, 1, 1], [2, 1, 0], [0, 3, 0]])
        found = values(size_numbers(CURVES), weights)
        assert found["AP delta", "resize"]["2"] == pytest.approx([-0.1, -0.2, 0])
        assert found["AP ResAUC down", "sizes"]["resize"] == pytest.approx(
            [0.75, 0.75, np.nan], nan_ok=True
        )

    def test_the_training_size_alone_has_no_numbers(self):
        assert size_numbers([curve("crop", ["1"], [0.5])]) == []
        joined = size_numbers([*CURVES, curve("crop", ["1"], [0.5])])
        assert [one.key for one in joined] == [one.key for one in size_numbers(CURVES)]

    def test_rows_have_an_interval_where_the_images_say_something(self):
        rng = np.random.default_rng(0)
        images = rng.random((20, 3)) * VALUES["resize"]

        def mean(weights):
            return weights @ images / weights.sum(1, keepdims=True)

        measure = Measure("task", "mIoU", "labels", "resize", POINTS, mean)
        found = rows(estimate_all([size_numbers([measure])], Bootstrap(20, count=200)))
        assert [row.metric for row in found if row.axis == "resize"] == [
            *("mIoU delta", "mIoU delta", "mIoU relative", "mIoU relative")
        ]
        (area,) = (row for row in found if row.metric == "mIoU ResAUC up")
        assert (area.axis, area.point) == ("sizes", "resize")
        assert area.low < area.value < area.high

    @pytest.mark.parametrize(
        ("curves", "message"),
        [
            ([], "one metric and part"),
            ([CURVES[0], curve("extent", POINTS, [1, 1, 1], part="mask")], "one metric and part"),
            ([CURVES[0], curve("extent", POINTS, [1, 1, 1], "AP50")], "one metric and part"),
            ([CURVES[0], CURVES[0]], "AP: two curves of one mode"),
            ([curve("resize", ["0.5", "2"], [1, 1])], "AP over resize: the training size"),
            ([curve("aspect", ["square"], [1])], "AP over aspect is no curve over sizes"),
            ([curve("crop", ["one", "1"], [1, 1])], "AP over crop: its points are no ratios"),
            ([curve("crop", [(0, 1), "1"], [1, 1])], "AP over crop: its points are no ratios"),
        ],
    )
    def test_what_is_no_curve_is_refused(self, curves, message):
        with pytest.raises(ValueError, match=message):
            size_numbers(curves)
