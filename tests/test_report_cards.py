import math
from dataclasses import replace

import pytest
from report_results import STEP, WIDE, write_runs

from mmplugins.evaluation.results.files import read_results, write_results
from mmplugins.report.cards import between, card, certain, sign
from mmplugins.report.gathering import gather
from mmplugins.report.names import names
from mmplugins.report.runs import baseline, key
from mmplugins.report.verdict import verdict

TITLES = ["AP", "FES", "PC", "M_min/M(0)", "ResAUC down", "ResAUC up", "DiD 1.5x"]


def scores(folder, *, metric="box", base=None):
    models = gather([str(folder)])
    return card(models, baseline(models, base), metric)


def cell(scores, name, title):
    (model,) = (model for model in scores.models if model.name == name)
    (column,) = (column for column in scores.columns if column.title == title)
    return scores.cell(model, column)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return scores(write_runs(tmp_path_factory.mktemp("runs")))


def test_values_are_those_of_the_results(made):
    assert [column.title for column in made.columns] == TITLES
    values = [cell(made, "rope", title).row.value for title in TITLES]
    assert values[:-1] == pytest.approx([0.32, 0.72, 0.92, 0.82, 0.82, 0.82])
    assert values[-1] == pytest.approx(2 * STEP * math.log2(1.5))  # the baseline loses 0.08 more


def test_segmenters_have_other_columns(tmp_path):
    made = scores(write_runs(tmp_path, part="labels"))
    assert [column.title for column in made.columns] == ["mIoU", "FES", "mASSC", *TITLES[3:]]
    assert all(cell(made, "ape", column.title).row for column in made.columns)


def test_accuracy_is_of_whole_pictures_where_these_were_measured(made, tmp_path):
    assert made.columns[0].key == ("AP", "box", "resize", "1")
    shifts = scores(write_runs(tmp_path, kinds=["shifts"]))
    assert shifts.columns[0].key == ("AP", "box", "shift", "reference")


def test_what_is_missing_says_what_makes_it(tmp_path, made):
    shifts = scores(write_runs(tmp_path / "shifts", kinds=["shifts"]))
    sizes = scores(write_runs(tmp_path / "sizes", kinds=["sizes"]))
    assert cell(shifts, "ape", "ResAUC up").missing.startswith("not measured: tools/resolution.py")
    assert cell(sizes, "ape", "PC").missing.startswith("not measured: tools/equivariance.py")
    assert "--against" in cell(shifts, "ape", "DiD 1.5x").missing
    assert cell(made, "none", "DiD 1.5x").missing == "the baseline itself: 0 by definition"


def test_what_came_to_no_number_is_not_compared(tmp_path):
    folder = write_runs(tmp_path, kinds=["shifts"])
    for path in folder.rglob("results.json"):
        results = read_results(path)
        gone = lambda row: replace(row, value=math.nan) if "min/" in row.metric else row  # noqa: E731
        differences = [replace(each, row=gone(each.row)) for each in results.differences]
        new = replace(results, rows=[*map(gone, results.rows)], differences=differences)
        write_results(path, new)
    made = scores(folder)
    assert cell(made, "ape", "M_min/M(0)").missing.startswith("measured, but undefined")
    assert cell(made, "ape", "M_min/M(0)").beside is None
    assert "worst shift" not in verdict(made).text


def test_differences_are_read_either_way(made):
    none, ape, rope = made.models
    for row in none.rows:
        forth, back = between(rope, none, key(row)), between(none, rope, key(row))
        assert (back.other, forth.other) == ("rope", "none")
        assert back.row.value == -forth.row.value
        assert (back.row.low, back.row.high) == (-forth.row.high, -forth.row.low)
        assert (back.row.band_low, back.row.band_high) == (
            -forth.row.band_high,
            -forth.row.band_low,
        )
        assert (back.p, back.p_holm, back.detectable) == (forth.p, forth.p_holm, forth.detectable)
    assert between(ape, rope, ("nothing", "box", "set", "pgrid")) is None


def test_a_difference_shows_where_its_interval_leaves_out_zero(made):
    assert 2 * STEP > WIDE > STEP  # what the made-up results are made for
    ape, rope = (cell(made, name, "PC").beside for name in ("ape", "rope"))
    assert (sign(ape), certain(ape)) == ("same", False)
    assert (sign(rope), certain(rope)) == ("better", True)
    leaning = replace(rope, p_holm=0.06)
    assert (sign(leaning), certain(leaning)) == ("better", False)
    undefined = replace(rope, row=replace(rope.row, low=math.nan, high=math.nan))
    assert (sign(undefined), certain(undefined)) == ("same", False)


def test_less_of_an_error_is_better(made):
    none, _, rope = made.models
    (error,) = (row for row in none.rows if (row.metric, row.part) == ("FEE", "blocks.0"))
    found = between(rope, none, key(error))
    assert found.row.value < 0
    assert sign(found) == "better"


def test_best_is_better_than_every_other(tmp_path, made):
    assert not any(cell(made, name, "PC").best for name in ("none", "ape", "rope"))  # ape is near
    folder = write_runs(tmp_path, names=("none", "rope"), kinds=["shifts"])
    path = folder / "shifts-1" / "results.json"
    results = read_results(path)
    far = [
        replace(each, p=0.01, row=replace(each.row, value=0.1, low=0.05, high=0.15))
        for each in results.differences
    ]
    write_results(path, replace(results, differences=far))
    assert cell(scores(folder), "rope", "PC").best
    leaning = [replace(each, p=0.1) for each in far]
    for unknown in (leaning, []):
        write_results(path, replace(results, differences=unknown))
        assert not cell(scores(folder), "rope", "PC").best


def test_a_verdict_tells_what_is_certain_first(made):
    found = verdict(made)
    assert found.lead.startswith("Beside none, rope is better in accuracy (AP)")
    assert "ape" not in found.text
    assert found.text.endswith(
        "Measured on 30 test images; one training run: interval covers test images only."
    )


def test_a_verdict_of_few_differences_has_their_numbers(tmp_path):
    lead = verdict(scores(write_runs(tmp_path, kinds=["shifts"]))).lead
    assert lead.startswith(
        "Beside none, rope is better in accuracy (AP +2.0 [0.5, 3.5], p = 0.004)"
    )


def change_differences(folder, **changes):
    for path in folder.rglob("results.json"):
        results = read_results(path)
        new = [replace(each, **changes) for each in results.differences]
        write_results(path, replace(results, differences=new))


@pytest.mark.parametrize(
    ("p", "why"),
    [(0.03, "once all models are counted"), (0.2, "though the interval leaves out 0")],
)
def test_a_verdict_never_takes_a_leaning_for_certain(tmp_path, p, why):
    """Whatever the results say of p: each may have been compared with one other model alone."""
    folder = write_runs(tmp_path, kinds=["shifts"])
    change_differences(folder, p=p, p_holm=0.001)
    found = verdict(scores(folder))
    assert found.lead == "No model differs from none with certainty."
    assert found.rest[0] == f"Not certain, since p ≥ 0.05 {why}: rope is better in all 4 measures."


def test_pairs_are_adjusted_together_and_alike_both_ways(tmp_path):
    folder = write_runs(tmp_path, kinds=["shifts"])
    change_differences(folder, p=0.02, p_holm=0.001)
    card = scores(folder)
    pairs = card.pairs(card.columns[0].key)
    assert len(pairs) == 6
    assert {round(each.p_holm, 12) for each in pairs.values()} == {0.06}  # three pairs
    for (a, b), each in pairs.items():
        assert pairs[b, a].row.value == -each.row.value
        assert pairs[b, a].other == a
    beside = [card.beside(model, card.columns[0]) for model in card.others]
    assert {round(each.p_holm, 12) for each in beside} == {0.04}  # two models


def test_a_verdict_tells_what_could_hide(tmp_path):
    found = verdict(scores(write_runs(tmp_path, names=("none", "ape"), kinds=["shifts"])))
    assert found.lead == "No model differs from none with certainty."
    assert "steadiness of predictions (PC; less than 3.0 could hide)" in found.rest[0]


def test_verdicts_without_comparisons(tmp_path):
    folder = write_runs(tmp_path)
    alone = scores(folder / "shifts-0")
    assert verdict(alone).lead == "One model alone: there is nothing to compare it with."
    others = card(gather([str(folder / "shifts-1"), str(folder / "shifts-2")]), None, "box")
    assert "nothing is compared" in verdict(others).lead
    for path in folder.rglob("results.json"):
        write_results(path, replace(read_results(path), differences=[]))
    found = verdict(scores(folder))
    assert found.lead.startswith("Nothing is known of differences from none")
    assert "--against" in found.text


def test_long_names_are_told_without_what_all_share(tmp_path):
    full = [f"mask-rcnn_vit-t16-{name}_sfpn_1x_nuclei" for name in ("nope", "ape", "sape2-ape")]
    models = gather([str(write_runs(tmp_path, names=full, kinds=["shifts"]))])
    assert list(names(models).values()) == ["nope", "ape", "sape2-ape"]
    assert list(names(models[:1]).values()) == full[:1]


def test_what_rounding_does_is_no_difference(made):
    """Features of equal models differ by 1e-15, alike on every image: certain, and nothing."""
    none, _, rope = made.models
    (column,) = (each for each in made.columns if each.title == "PC")
    found = between(rope, none, column.key)
    for size, told in ((1e-15, "same"), (4e-4, "same"), (6e-4, "better")):
        row = replace(found.row, value=size, low=size / 2, high=2 * size)
        tiny = replace(found, p=0.001, p_holm=0.001, row=row)
        assert (sign(tiny), certain(tiny)) == (told, told == "better")
