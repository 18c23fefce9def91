"""Figures: what is drawn where, files of the right size, and rows that make none."""

import math
from dataclasses import replace

import numpy as np
import pytest
from evaluation_results import BOOTSTRAP, PERIOD, PLAN, curve
from matplotlib.image import imread

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.results.figures import bars, curves, save
from mmplugins.evaluation.results.maps import place_map, shift_map
from mmplugins.evaluation.results.readings import reading
from mmplugins.evaluation.results.rows import estimate_all, rows


def drawn(measures):
    return rows(estimate_all([measures], BOOTSTRAP), PLAN)


def with_reference(measure, value):
    def statistic(weights):
        return np.pad(measure.statistic(weights), ((0, 0), (1, 0)), constant_values=value)

    return replace(measure, metric="AP", points=[(0, 0), *measure.points], statistic=statistic)


@pytest.fixture
def over_shifts(generator):
    return drawn([curve(generator, part=part)[0] for part in ("box", "mask")])


@pytest.fixture
def over_sets(generator):
    parts = ("backbone.0", "blocks.0", "blocks.1", "neck.0", "decode_head")
    return drawn([curve(generator, metric="FES", level="feature", part=p)[1] for p in parts])


class TestCurves:
    def test_have_a_panel_for_each_set_and_a_line_for_each_part(self, over_shifts):
        figure = curves(over_shifts, "a model", period=PERIOD)
        assert [axes.get_title() for axes in figure.axes] == ["pgrid: position", "sub: aliasing"]
        for axes, sizes in zip(figure.axes, ([16, 32, 64, 128], [1, 2, 4, 8, 15]), strict=True):
            lines = {line.get_label(): line for line in axes.lines}
            for part in ("box", "mask"):
                np.testing.assert_array_equal(lines[part].get_xdata(), sizes)
        assert "100 is exact" in figure.get_suptitle()

    def test_are_means_of_a_size_within_their_bands(self, over_shifts):
        axes = curves(over_shifts, "a model", period=PERIOD).axes[0]
        line = next(line for line in axes.lines if line.get_label() == "mask")
        own = [row for row in over_shifts if row.part == "mask" and "pgrid" in row.sets]
        largest = [row for row in own if max(abs(row.dy), abs(row.dx)) == 128]
        assert len(largest) == 6
        mean = 100 * sum(row.value for row in largest) / 6
        assert line.get_ydata()[-1] == pytest.approx(mean)
        area = axes.collections[1].get_paths()[0].vertices
        at_128 = area[area[:, 0] == 128, 1]
        assert at_128.min() == pytest.approx(100 * min(row.band_low for row in largest))
        assert at_128.max() == pytest.approx(100 * max(row.band_high for row in largest))

    def test_mark_the_multiples_of_the_period(self, over_shifts):
        def marks(axes):
            thin = [line for line in axes.lines if line.get_linewidth() < 1]
            return [line.get_xdata()[0] for line in thin if len(set(line.get_xdata())) == 1]

        position, aliasing = curves(over_shifts, "a model", period=PERIOD).axes
        marked = [at for at in marks(position) if at % PERIOD == 0]
        assert set(range(16, 129, 16)) <= set(marked)
        assert 16 in marks(aliasing)

    def test_show_the_reference(self, generator):
        found = drawn([with_reference(curve(generator)[0], 0.95)])
        figure = curves(found, "a model", period=PERIOD)
        for axes in figure.axes:
            dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
            assert [line.get_ydata()[0] for line in dashed] == [pytest.approx(95)]
        assert "dashed: unshifted" in figure.get_suptitle()

    def test_are_of_one_metric_over_shifts(self, over_shifts, over_sets):
        for found in (over_sets, [], [*over_shifts, replace(over_shifts[0], metric="sAP")]):
            with pytest.raises(ValueError, match="one metric over the axis shift"):
                curves(found, "a model", period=PERIOD)

    def test_are_no_more_than_can_be_told_apart(self, over_shifts):
        many = [replace(over_shifts[0], part=f"neck.{number}") for number in range(8)]
        with pytest.raises(ValueError, match=r"8 are too many for one figure: neck\.0"):
            curves(many, "a model", period=PERIOD)


class TestBars:
    def test_are_levels_in_order_blocks_apart(self, over_sets):
        modules, blocks = bars(over_sets, "a model").axes
        assert (modules.get_title(), blocks.get_title()) == ("modules", "blocks")
        names = [
            [label.get_text() for label in axes.get_xticklabels()] for axes in (modules, blocks)
        ]
        assert names == [["backbone.0", "neck.0", "decode_head"], ["0", "1"]]

    def test_have_the_height_of_their_values_and_the_ends_of_intervals(self, over_sets):
        blocks = bars(over_sets, "a model").axes[1]
        own = [row for row in over_sets if row.part.startswith("blocks")]
        for point, bars_of, lines in zip(
            ("pgrid", "sub"), blocks.containers, blocks.collections, strict=True
        ):
            expected = [row for row in own if row.point == point]
            assert [bar.get_height() for bar in bars_of] == [row.value for row in expected]
            ends = [segment[:, 1].tolist() for segment in lines.get_segments()]
            assert ends == [[row.low, row.high] for row in expected]


class TestMaps:
    def test_cells_are_where_shifts_go(self, over_shifts):
        own = [row for row in over_shifts if row.part == "box"]
        axes = shift_map(own, "a model").axes[0]
        cells = axes.images[0].get_array()
        sides = [-128, -64, -32, -16, 0, 16, 32, 64, 128]
        assert cells.shape == (9, 9)
        assert cells.count() == 24  # not masked
        for row in own:
            if "pgrid" in row.sets:
                at = sides.index(row.dy), sides.index(row.dx)
                assert cells[at] == pytest.approx(100 * row.value)

    def test_hold_the_reference_in_their_middle(self, generator):
        found = drawn([with_reference(curve(generator)[0], 0.95)])
        assert shift_map(found, "a model").axes[0].images[0].get_array()[4, 4] == 95

    def test_are_of_one_part(self, over_shifts):
        with pytest.raises(ValueError, match="of one part"):
            shift_map(over_shifts, "a model")

    def test_of_places_leave_blank_what_was_not_measured(self):
        values = np.array([[0.5, math.nan, 0.25], [0, 0, 1]])
        figure = place_map(values, "a model", "flips", replace(reading("FR"), says=""))
        cells = figure.axes[0].images[0].get_array()
        assert cells.mask.sum() == 1
        assert cells[1, 2] == 100


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_undefined_values_leave_gaps(over_shifts, over_sets, odd, tmp_path):
    """Warnings from our modules are errors here."""
    shifts = [row for row in over_shifts if row.part == "box"]
    some = [replace(row, value=odd) if row.dy == 16 else row for row in shifts]
    every = [replace(row, value=odd, band_low=math.nan, band_high=math.nan) for row in shifts]
    for found in (some, every):
        save(curves(found, "a model", period=PERIOD), tmp_path / "curves.png")
        save(shift_map(found, "a model"), tmp_path / "map.png")
    sets = [replace(row, value=odd, low=math.nan, high=math.nan) for row in over_sets]
    save(bars(sets, "a model"), tmp_path / "bars.png")
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "map.png", "bars.png"}


def test_pictures_are_1200_pixels_wide(over_sets, tmp_path):
    save(bars(over_sets, "a model"), tmp_path / "bars.png")
    assert imread(tmp_path / "bars.png").shape[1] == 1200


@pytest.mark.parametrize(
    ("metric", "value", "text", "arrow", "headline"),
    [
        ("AP50", 0.5, "50.0", "↑", True),
        ("AP", 0.4567, "45.7", "↑", True),
        ("AP rPS", 97.123, "97.1", "↑", True),
        ("AP50 rPS", 97.123, "97.1", "↑", False),
        ("AP std", 0.0123, "1.2", "↓", False),
        ("AP min/M(0)", 0.8, "80.0", "↑", True),
        ("zone AP variance", 12.345, "12.3", "↓", True),
        ("CD_px", 0.12345, "0.123", "↓", False),
        ("FES", 0.98765, "0.988", "↑", True),
        ("EQ-dB", math.inf, "inf", "↑", False),
        ("something new", 0.5, "0.5", "", True),
        ("PC", math.nan, "-", "↑", True),
    ],
)
def test_readings(metric, value, text, arrow, headline):
    read = reading(metric)
    assert (read.text(value), read.arrow, read.headline) == (text, arrow, headline)


def test_every_axis_of_a_measure_has_its_place():
    """Rows of all axes can be made; only shifts need a plan."""
    for axis in ("set", "border", "zone", "class", "distance", "block", "none"):
        measure = Measure("task", "AP", "box", axis, ["a"], lambda w: np.ones((len(w), 1)))
        [row] = rows(estimate_all([[measure]], BOOTSTRAP))
        assert (row.axis, row.point, row.value) == (axis, "a", 1)
