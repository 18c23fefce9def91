"""Scores read back from a run's folder."""

import json

import pytest

from mmplugins.engine.scores import read_scores


def write(folder, *records):
    path = folder / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_last_evaluation_of_the_newest_run(tmp_path):
    write(tmp_path / "20260101_000000", {"coco/bbox_mAP": 0.1, "step": 1})
    write(
        tmp_path / "20260102_000000",
        {"loss": 2.0, "step": 9},
        {"coco/bbox_mAP": 0.2, "step": 1},
        {"coco/bbox_mAP": 0.3, "step": 2, "note": "text"},
        {"loss": 1.0, "step": 10},
    )
    write(tmp_path / "20260103_000000", {"loss": 2.0, "step": 1})
    assert read_scores(tmp_path) == {"coco/bbox_mAP": 0.3, "step": 2}


def test_a_run_without_evaluation_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no evaluation under {tmp_path}"):
        read_scores(tmp_path)
