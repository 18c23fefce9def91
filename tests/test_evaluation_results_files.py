"""Files of results: round trips, kills halfway, and files of others."""

import csv
import json
import math
import os
from pathlib import Path

import pytest
from evaluation_results import IMAGES, PLAN, PROTOCOL, curve, mean, measured, same

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.comparison import compare, noise
from mmplugins.evaluation.results.files import (
    Results,
    read_results,
    write_csv,
    write_results,
)
from mmplugins.evaluation.results.rows import rows
from mmplugins.evaluation.results.tables import summary


@pytest.fixture
def results(generator):
    names = ("a", "b", "run again")
    ours, theirs, again = (
        measured(name, [*curve(generator), mean(generator.random(IMAGES), part="mask")])
        for name in names
    )
    return Results(
        "sine",
        PROTOCOL,
        {"tool": "equivariance"},
        rows(ours.findings, PLAN),
        compare(ours, [theirs], PLAN),
        noise(ours, [again], PLAN),
    )


class TestJson:
    def test_comes_back_as_it_was(self, results, tmp_path):
        file = tmp_path / "results.json"
        write_results(file, results)
        assert repr(read_results(file)) == repr(results)
        assert json.loads(file.read_text())["schema"] == "mmplugins.evaluation/1"

    def test_is_strict(self, results, tmp_path):
        file = tmp_path / "results.json"
        assert any(math.isnan(row.band_low) for row in results.rows)
        write_results(file, results)

        def refuse(constant):
            raise AssertionError(f"{constant} is no JSON")

        json.loads(file.read_text(), parse_constant=refuse)

    @pytest.mark.parametrize("before", [None, "what was there before"])
    @pytest.mark.parametrize("fault", ["dumps", "replace", "fsync"])
    def test_is_whole_or_not_there(self, results, tmp_path, monkeypatch, before, fault):
        def fail(*args, **kwargs):
            raise KeyboardInterrupt

        file = tmp_path / "results.json"
        if before:
            file.write_text(before)
        place = {"dumps": json, "replace": Path, "fsync": os}[fault]
        monkeypatch.setattr(place, fault, fail)
        with pytest.raises(KeyboardInterrupt):
            write_results(file, results)
        assert [path.name for path in tmp_path.iterdir()] == (["results.json"] if before else [])
        assert not before or file.read_text() == before

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is no JSON"),
            ("[]", "holds no results"),
            ('{"images": []}', "holds no results: `schema` is not mmplugins.evaluation/1"),
            ('{"schema": "coco/1"}', "holds no results"),
            ('{"schema": "mmplugins.evaluation"}', "holds no results"),
            ('{"schema": "mmplugins.evaluation/2"}', "version 2, and this .* reads version 1"),
            ('{"schema": "mmplugins.evaluation/1"}', "is damaged .KeyError: 'rows'"),
            ('{"schema": "mmplugins.evaluation/1", "rows": [{}]}', "damaged .KeyError: 'level'"),
            ('{"schema": "mmplugins.evaluation/1", "rows": 3}', "is damaged .TypeError"),
        ],
    )
    def test_refuses_what_it_did_not_write(self, tmp_path, content, message):
        file = tmp_path / "other.json"
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            read_results(file)

    def test_refuses_what_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            read_results(tmp_path / "results.json")


class TestCsv:
    def test_is_parsed_back(self, results, tmp_path):
        file = tmp_path / "results.csv"
        write_csv(file, [(results.name, row) for row in results.rows])
        with file.open(newline="") as lines:
            found = list(csv.DictReader(lines))
        assert len(found) == len(results.rows)
        for line, row in zip(found, results.rows, strict=True):
            assert line["name"] == "sine"
            assert (line["metric"], line["part"], line["axis"]) == (row.metric, row.part, row.axis)
            assert line["sets"].split() == list(row.sets)
            assert line["dy"] == ("" if row.dy is None else str(row.dy))
            for number in ("value", "low", "high", "band_low", "half_width"):
                assert same(float(line[number] or "nan"), getattr(row, number))

    def test_differences_and_noise_have_columns_of_their_own(self, results, tmp_path):
        for things, own in ((results.differences, "p_holm"), (results.noise, "floor")):
            file = tmp_path / f"{own}.csv"
            write_csv(file, [(results.name, each) for each in things])
            with file.open(newline="") as lines:
                found = [float(line[own]) for line in csv.DictReader(lines)]
            assert found == [getattr(each, own) for each in things]

    def test_of_nothing_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="nothing to write"):
            write_csv(tmp_path / "results.csv", [])


class TestMarkdown:
    def table(self, *measures, others=(), again=()):
        ours = measured("sine", list(measures))
        results = Results(
            "sine", {}, {}, rows(ours.findings, PLAN), compare(ours, others), noise(ours, again)
        )
        return summary(results).splitlines()

    def test_holds_values_in_the_unit_of_papers(self):
        lines = self.table(
            mean([0.982] * IMAGES),
            mean([0.25] * IMAGES, metric="CD", point="sub"),
        )
        assert "| metric | part | pgrid | sub |" in lines
        assert "| PC ↑ % | box | 98.2 [98.2, 98.2] |  |" in lines
        assert "| CD ↓ | box |  | 0.25 [0.25, 0.25] |" in lines
        assert f"{IMAGES} images; 95% intervals in brackets (one training run: " in lines[2]

    def test_tells_of_differences_and_noise(self):
        values = [0.5, 0.7] * (IMAGES // 2)
        other = measured("rope", [mean([value - 0.1 for value in values])])
        again = measured("run again", [mean([value + 0.01 for value in values])])
        lines = self.table(mean(values), others=[other], again=[again])
        text = "| PC ↑ % | box | pgrid | rope | 10.0 [10.0, 10.0] | 0.005 | 0.005 | 0.0 |"
        assert text in lines
        assert "| PC ↑ % | box | pgrid | run again | -1.0 [-1.0, -1.0] | 1.0 |" in lines

    def test_leaves_curves_and_side_numbers_to_the_csv(self, generator):
        lines = self.table(
            *curve(generator), *curve(generator, metric="FEE", level="feature", part="blocks.0")
        )
        assert len([line for line in lines if line.startswith("| PC")]) == 1
        assert not [line for line in lines if "FEE" in line]

    def test_has_a_column_for_the_reference(self):
        values = mean([0.4] * IMAGES).then(
            "AP", "shift", [(0, 0), (0, 16)], lambda found: found * [1, 0.5]
        )
        rest = values.then("AP rPS", "set", ["pgrid"], lambda found: 100 * found[:, 1:] / 0.4)
        lines = self.table(values, rest)
        assert "| metric | part | reference | pgrid |" in lines
        assert "| AP ↑ % | box | 40.0 [40.0, 40.0] |  |" in lines
        assert "| AP rPS ↑ | box |  | 50 [50, 50] |" in lines

    def test_leaves_out_what_is_undefined(self):
        nothing = mean([0.5] * IMAGES).then("PC", "set", ["pgrid"], lambda found: found * math.nan)
        assert "| PC ↑ % | box | - |" in self.table(nothing)
