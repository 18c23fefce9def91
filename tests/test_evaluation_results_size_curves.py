"""Curves over sizes: a panel for each way to a size, and rows that make none."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.results.figures import save
from mmplugins.evaluation.results.rows import estimate_all, rows
from mmplugins.evaluation.results.size_curves import OCTAVES, size_curves
from mmplugins.evaluation.sizes import SHAPES
from mmplugins.evaluation.sizing.protocol import RATIOS
from mmplugins.evaluation.statistics.resampling import Bootstrap, ratio_of_sums

IMAGES = 20
MODES = {
    "resize": tuple(f"{ratio:g}" for ratio in RATIOS),
    "extent": ("1", "1.5", "2"),
    "slide": ("1.5", "2"),
    "aspect": tuple(SHAPES),
}


def drawn(generator, *, parts=("box", "mask"), metric="AP", modes=MODES):
    """Rows of curves that differ by part and mode, with bands."""
    measures = []
    for mode, points in modes.items():
        for part in parts:
            values = generator.random((len(points), IMAGES))
            statistic = ratio_of_sums(values, np.ones_like(values))
            measures.append(Measure("task", metric, part, mode, points, statistic))
    return rows(estimate_all([measures], Bootstrap(IMAGES, 50)))


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines}


def test_a_panel_for_each_mode_and_a_line_for_each_part(generator):
    found = drawn(generator)
    figure = size_curves(found, "some model")
    assert [axes.get_title() for axes in figure.axes] == [*MODES]
    assert "some model" in figure.get_suptitle()
    assert figure.axes[0].get_ylabel() == "AP [%] ↑"
    for axes, (mode, points) in zip(figure.axes, MODES.items(), strict=True):
        for number, part in enumerate(("box", "mask")):
            own = [row for row in found if (row.axis, row.part) == (mode, part)]
            line = lines_of(axes)[part]
            places = range(3) if mode == "aspect" else map(float, points)
            assert line.get_xdata().tolist() == [*places]
            values = [100 * row.value for row in own]
            np.testing.assert_allclose(line.get_ydata(), values, rtol=1e-12)
            area = axes.collections[number].get_paths()[0].vertices[:, 1]
            assert area.min() == pytest.approx(100 * min(row.band_low for row in own))
            assert area.max() == pytest.approx(100 * max(row.band_high for row in own))


def test_sizes_are_labelled_as_far_as_there_is_room(generator):
    figure = size_curves(drawn(generator), "some model")
    figure.canvas.draw()
    for axes in figure.axes[:3]:
        ticks = axes.get_xticks().tolist()
        assert 1 in ticks  # the training size, whether it was measured or not
        logs = np.sort(np.log2(ticks))
        assert np.diff(logs).min() > OCTAVES
        assert axes.get_xscale() == "log"
        assert axes.get_xlabel() == "test size / training size"
        assert any([*line.get_xdata()] == [1, 1] for line in axes.lines)  # a mark at it
    resize = figure.axes[0]
    assert {0.5, 1, 2} <= set(resize.get_xticks())
    texts = [label.get_text() for label in resize.get_xticklabels()]
    assert [float(text) for text in texts] == resize.get_xticks().tolist()
    shapes = figure.axes[3]
    assert [label.get_text() for label in shapes.get_xticklabels()] == [*SHAPES]
    assert shapes.get_xscale() == "linear"


def test_one_mode_and_one_part_have_no_legend(generator):
    few = {"crop": ("0.5", "1")}
    figure = size_curves(drawn(generator, parts=("labels",), metric="mIoU", modes=few), "one")
    assert [axes.get_title() for axes in figure.axes] == ["crop"]
    assert not figure.legends
    assert len(size_curves(drawn(generator, modes=few), "two").legends) == 1


def test_files_are_of_a_page_width(generator, tmp_path):
    file = tmp_path / "curves.png"
    save(size_curves(drawn(generator), "some model"), file)
    assert imread(file).shape[1] == 1200
    assert imread(file).std() > 0.01


def test_rows_that_make_no_figure(generator):
    found = drawn(generator)
    with pytest.raises(ValueError, match=r"of one metric, not of \['AP', 'AP50'\]"):
        size_curves([*found, replace(found[0], metric="AP50")], "some model")
    with pytest.raises(ValueError, match="of one metric, not of"):
        size_curves([], "some model")
    many = [replace(found[0], part=f"part {number}") for number in range(8)]
    with pytest.raises(ValueError, match="8 are too many for one figure"):
        size_curves(many, "some model")


def test_undefined_values_leave_gaps(generator):
    found = drawn(generator, modes={"resize": ("0.5", "1", "2")}, parts=("box",))
    nothing = dict.fromkeys(("value", "low", "high", "band_low", "band_high"), float("nan"))
    figure = size_curves([replace(found[0], **nothing), *found[1:]], "some model")
    values = lines_of(figure.axes[0])["box"].get_ydata()
    assert np.isnan(values).tolist() == [True, False, False]
