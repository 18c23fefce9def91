"""The cost of encodings, measured on a small picture."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmplugins import benchmark

pytest.importorskip("mmseg")
CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="module")
def costs():
    pipeline = replace(benchmark.PIPELINES["upernet"], height=64, width=96)
    return benchmark.measure(pipeline, ["peg"], configs=CONFIGS, rounds=2)


def test_every_model_is_measured_in_every_round(costs):
    assert costs.keys() == {"nope", "peg"}
    assert all(kinds.keys() == {"train", "test"} for kinds in costs.values())
    for kinds in costs.values():
        for cost in kinds.values():
            assert len(cost.seconds) == 2
            assert min(cost.seconds) > 0
        assert kinds["train"].peak_bytes is None or kinds["train"].peak_bytes > 1e6


def test_the_table_holds_ratios_to_none(costs):
    rows = list(benchmark.to_rows("upernet", costs))
    assert [row["time_ratio"] for row in rows if row["encoding"] == "nope"] == [1, 1]
    lines = benchmark.to_markdown(rows).splitlines()
    assert lines[2].startswith("| upernet | nope | 1.00 |")
    assert len(lines) == 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone counts the peak")
def test_peak_memory_of_a_known_step():
    def step():
        torch.ones(50_000_000 // 4).add(1)  # two tensors of 50 MB at once

    step()
    assert 95e6 < benchmark.peak_bytes(step, "cpu") < 115e6


def test_a_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match="vit-s16-nape"):
        benchmark.measure(benchmark.PIPELINES["upernet"], ["nape"], configs=CONFIGS)


def test_configs_are_there_for_every_pipeline():
    for pipeline in benchmark.PIPELINES.values():
        assert os.path.exists(CONFIGS / pipeline.configs.format("nope"))
