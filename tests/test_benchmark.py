"""The cost of whole steps, measured on a small picture."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmplugins.benchmark import pipelines
from mmplugins.benchmark.command import main

pytest.importorskip("mmseg")
CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="module")
def costs():
    pipeline = replace(pipelines.PIPELINES["upernet"], height=64, width=96)
    return pipelines.measure(pipeline, ["peg"], configs=CONFIGS, rounds=2)


def test_every_model_is_measured_in_every_round(costs):
    assert costs.keys() == {"nope", "peg"}
    assert all(kinds.keys() == {"train", "test"} for kinds in costs.values())
    for kinds in costs.values():
        for cost in kinds.values():
            assert len(cost.seconds) == 2
            assert min(cost.seconds) > 0
        assert kinds["train"].peak_bytes is None or kinds["train"].peak_bytes > 1e6


def test_the_table_holds_ratios_to_none(costs):
    rows = list(pipelines.to_rows("upernet", costs))
    assert [row["time_ratio"] for row in rows if row["encoding"] == "nope"] == [1, 1]
    lines = pipelines.to_markdown(rows).splitlines()
    assert lines[2].startswith("| upernet | nope | 1.00 |")
    assert len(lines) == 4


def test_the_command_writes_what_it_measured(tmp_path, capsys):
    options = "--pipelines upernet --encodings nope --rounds 1 --scale 0.125 --batch-size 2"
    main(CONFIGS, ["pipelines", *options.split(), "--out", str(tmp_path / "whole")])
    assert "| upernet | nope | 1.00 |" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"whole.json", "whole.md"}
    content = json.loads((tmp_path / "whole.json").read_text())
    assert {row["step"] for row in content["rows"]} == {"train", "test"}
    assert content["facts"]["options"]["scale"] == "0.125"


def test_a_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match="vit-s16-nape"):
        pipelines.measure(pipelines.PIPELINES["upernet"], ["nape"], configs=CONFIGS)


def test_configs_are_there_for_every_pipeline():
    for pipeline in pipelines.PIPELINES.values():
        assert os.path.exists(CONFIGS / pipeline.configs.format("nope"))
