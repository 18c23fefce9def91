import csv
import io
from dataclasses import replace

import pytest
from report_results import NAMES, write_runs

from mmplugins.evaluation.results.files import read_results, write_results
from mmplugins.report.cards import card
from mmplugins.report.gathering import gather
from mmplugins.report.runs import baseline
from mmplugins.report.tables import as_csv, difference_table, markdown, score_table
from mmplugins.report.verdict import verdict


def scores(folder):
    models = gather([str(folder)])
    return card(models, baseline(models, None), "box")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return scores(write_runs(tmp_path_factory.mktemp("runs")))


def test_score_cards_end_in_costs(made):
    table = score_table(made)
    assert [line.label for line in table.lines] == list(NAMES)
    whole, own, training = table.lines[1].entries[-3:]
    assert (whole.text, own.text) == ("5.5 M", "3072")
    assert (training.text, training.small, training.order) == ("13 min", "1000 iterations", 754.0)


def test_costs_that_nobody_kept_are_missing(tmp_path):
    folder = write_runs(tmp_path, kinds=["shifts"], training=False)
    for path in folder.rglob("results.json"):
        results = read_results(path)
        old = {name: fact for name, fact in results.origin.items() if name != "model"}
        write_results(path, replace(results, origin={**old, "training": [None]}))
    for line in score_table(scores(folder)).lines:
        assert [entry.text for entry in line.entries[-3:]] == ["–"] * 3  # noqa: RUF001
        assert all(entry.says and entry.order is None for entry in line.entries[-3:])


def test_differences_are_the_others_less_the_baseline(made):
    table = difference_table(made)
    assert [line.label for line in table.lines] == ["ape", "rope"]
    consistency = table.lines[1].entries[2]
    assert (consistency.text, consistency.small) == ("+2.0", "[0.5, 3.5] p = 0.004")
    assert consistency.marks == [("▲", "better")]


def test_nothing_compared_makes_no_table(tmp_path):
    assert difference_table(scores(write_runs(tmp_path, names=["none"]))) is None


def test_markdown_holds_both_tables(made):
    text = markdown("A *title*", verdict(made), made)
    assert text.startswith("# A \\*title\\*\n")
    lines = text.splitlines()
    assert "| rope | 32.0 [30.5, 33.5] ▲ |" in next(line for line in lines if "| rope" in line)
    assert "## Less none" in lines
    widths = {line.count(" | ") for line in lines if line.startswith("| ")}
    assert widths == {10, 7}


def test_markdown_shows_names_as_they_are(tmp_path):
    evil = "a|b<img>*"
    text = markdown("t", *(lambda s: (verdict(s), s))(scores(write_runs(tmp_path, names=[evil]))))
    assert "| a\\|b&lt;img>\\* |" in text


def test_csv_holds_values_and_differences_in_full(made):
    lines = list(csv.DictReader(io.StringIO(as_csv(made))))
    values = [line for line in lines if not line["less"]]
    less = [line for line in lines if line["less"]]
    assert len(values) == 3 * 6  # seven measures, of which one is a difference itself
    assert len(less) == 2 * 7
    (one,) = (line for line in less if (line["model"], line["metric"]) == ("rope", "PC"))
    assert float(one["value"]) == pytest.approx(0.02)
    assert (one["less"], one["p_holm"], one["images"]) == ("none", "0.004", "30")
    assert all(line["p"] == "" for line in values)
