"""What figures hold, before a browser draws it."""

import pytest
from report_results import PERIOD, STEP, write_runs

from mmplugins.report import across, over_shifts, over_sizes
from mmplugins.report.cards import card
from mmplugins.report.gathering import gather
from mmplugins.report.page import PLOTS
from mmplugins.report.runs import baseline


def scores(folder):
    models = gather([str(folder)])
    return card(models, baseline(models, None), "box")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return scores(write_runs(tmp_path_factory.mktemp("runs")))


def lines(figure):
    """Traces that are models' by their names."""
    return {
        trace.name: trace for trace in figure.data if trace.name and trace.showlegend is not False
    }


def figures(plot, label):
    (choice,) = (choice for choice in plot.choices if choice.label == label)
    return [panel.figure for panel in choice.panels]


def test_the_patch_lattice_is_marked(made):
    (figure,) = figures(over_shifts.by_distance(made), "PC")
    assert [shape.x0 for shape in figure.layout.shapes] == [PERIOD, 2 * PERIOD]
    first = lines(figure)["none"]
    assert list(first.x) == sorted(first.x)


def test_unshifted_values_stand_beside_the_curve(made):
    (figure,) = figures(over_shifts.by_distance(made), "AP")
    unmoved = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.y[0] for trace in unmoved] == pytest.approx([30, 31, 32])
    assert all(trace.x[0] == 0.5 for trace in unmoved)
    assert figure.layout.xaxis.ticktext[0] == "none"


def test_cells_are_at_their_shifts(made):
    none, *_ = figures(over_shifts.directions(made), "PC, whole patches")
    cells = none.data[0]
    at = {(y, x): cells.z[i][j] for i, y in enumerate(cells.y) for j, x in enumerate(cells.x)}
    assert at["0", "0"] is None
    assert at["16", "0"] == at["0", "-16"] > at["32", "0"] == at["-32", "-32"]


def test_curves_over_sizes_go_through_the_training_size(made):
    resize, extent = figures(over_sizes.by_size(made), "AP relative")
    for figure, sizes in ((resize, (0.5, 0.75, 1, 1.25, 1.5, 2)), (extent, (1, 1.5, 2))):
        for trace in lines(figure).values():
            assert tuple(trace.x) == sizes
            assert trace.y[sizes.index(1)] == 100
        assert [shape.x0 for shape in figure.layout.shapes] == [1]
        assert 1 in figure.layout.xaxis.tickvals


def test_did_is_less_the_baseline(made):
    resize, _, aspect = figures(over_sizes.did(made), "AP delta")
    assert set(lines(resize)) == {"ape", "rope"}
    rope = lines(resize)["rope"]
    assert rope.y[0] == rope.y[-1] == pytest.approx(200 * STEP)  # an octave from the training size
    assert rope.y[2] == 0
    assert resize.layout.yaxis.title.text.startswith("AP DiD")
    assert tuple(aspect.layout.xaxis.ticktext) == ("portrait", "square", "landscape")


def test_the_front_is_of_models_that_none_beats():
    points = [(0.3, 0.9), (0.4, 0.8), (0.2, 0.95), (0.3, 0.8), (0.1, 0.1)]
    assert across._front(points) == [(0.2, 0.95), (0.3, 0.9), (0.4, 0.8)]


def test_the_matrix_is_antisymmetric(made):
    (figure,) = figures(across.significance(made), "PC")
    cells = figure.data[0]
    assert [line[number] for number, line in enumerate(cells.z)] == [None] * 3
    assert [list(line) for line in cells.z] == [
        list(column) for column in zip(*cells.z, strict=True)
    ]
    assert cells.z[0][2] == 2  # p < 0.01
    assert cells.z[0][1] == 0
    assert "none less rope: −2.0" in cells.customdata[0][2]  # noqa: RUF001


def test_plots_without_data_say_what_makes_them(tmp_path):
    runs = write_runs(tmp_path, kinds=["sizes"], names=["none"], training=False)
    plots = {plot.name: plot for plot in (draw(scores(runs)) for draw in PLOTS)}
    assert [name for name, plot in plots.items() if plot.choices] == ["sizes"]
    assert all("tools/" in plot.missing for plot in plots.values())
