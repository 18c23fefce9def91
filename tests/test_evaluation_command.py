"""tools/equivariance.py from a config and a checkpoint to files: what they say, and what again."""

import csv
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_commands import QUICK, Workplace, value
from tool_runs import ROOT, run_tool

from mmplugins.evaluation.commands.equivariance import parser
from mmplugins.evaluation.results.files import read_results
from mmplugins.evaluation.results.provenance import config_hash

DETECTOR = (*QUICK, "--period", 32, "--max-shift", 32, "--shifts", "pgrid", "--score", 0)
# Random boxes reach to the border of the canvas, which no shift moves: those do not count.
DETECTOR += "--subset", 1, "--edge", 1
SEGMENTER = ("--max-shift", 16, *QUICK)
MAPS = {f"{m}{kind}.png" for m in ("mASSC", "self-mIoU", "mIoU") for kind in ("", "-directions")}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `measure`")
        yield Workplace(tmp_path_factory.mktemp("command"))


@pytest.fixture(scope="module")
def exact(workplace):
    """Of a detector without encodings."""
    return workplace.measure("mask_rcnn", "none", "exact", *DETECTOR)


def images_of(folder: Path) -> dict[Path, int]:
    """When each record was written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("records/*/images/*.npz")}


def test_a_detector_without_encodings_is_equivariant_and_one_with_a_table_is_not(workplace, exact):
    less = "--levels", "feat,pred"
    table = workplace.measure("mask_rcnn", "table", "table", *DETECTOR, *less)
    for level in ("blocks.0", "blocks.1", "backbone.0"):
        assert value(exact, "FES", level) == pytest.approx(1, abs=1e-6)
        assert value(table, "FES", level) < 0.9999
    for part in ("box", "mask"):
        # Which of all are the hundred best differs with what is found beyond the content.
        assert value(exact, "PC", part) > max(0.9, value(table, "PC", part) + 0.05)
        assert value(exact, "mIoU_match", part) == pytest.approx(1, abs=1e-4)
        assert value(exact, "CD_px", part) < 0.001 < 0.01 < value(table, "CD_px", part)
        assert 0 <= value(exact, "AP", part, "reference") <= 1
    assert {row.level for row in exact.rows} == {"feature", "prediction", "task"}
    assert {row.runs for row in exact.rows} == {1}
    assert {row.images for row in exact.rows} == {1}


def test_files_hold_all_that_was_found(workplace, exact):
    folder = workplace.folder / "exact"
    with (folder / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["name"] for line in lines} == {"mask_rcnn_none"}
    assert [line["value"] or "nan" for line in lines] == [str(row.value) for row in exact.rows]
    assert {file.suffix for file in folder.iterdir()} == {"", ".csv", ".json", ".md"}
    assert len(list(folder.glob("*.csv"))) == 1  # no other recipe, and no noise was asked for
    text = (folder / "summary.md").read_text()
    assert text.startswith("# mask_rcnn_none\n\n1 images;")
    assert "| blocks.0 | 1 |" in text
    kinds = ("", "-directions")
    curves = {f"{metric}{kind}.png" for metric in ("PC", "sAP", "AP") for kind in kinds}
    bars = {"FES.png", "FEE.png", "FEE_resampled.png"}
    figures = {file.name: file.stat().st_size for file in (folder / "figures").iterdir()}
    assert set(figures) == curves | bars
    assert min(figures.values()) > 5000


def test_results_say_where_they_come_from(workplace):
    results = workplace.measure("upernet", "table", "origin", *SEGMENTER, "--shifts", "pgrid")
    checkpoint = workplace.checkpoint("upernet", "table")
    (made,) = results.origin["checkpoints"]
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert made == {"name": checkpoint.name, "sha256": digest}
    cfg = Config.fromfile(workplace.config("upernet", "table"))
    assert results.origin["config"]["sha256"] == config_hash(cfg)
    (encodings,) = results.origin["position_encodings"].values()
    assert encodings == [{"type": "LearnedAPE"}]
    assert {"python", "torch", "mmplugins", "numpy"} <= results.origin["versions"].keys()
    assert results.origin["options"]["max_shift"] == 16
    seconds = results.origin["seconds"]
    assert 0 < seconds["model"] < seconds["all"] < 100
    protocol = results.protocol
    assert (protocol["mode"], protocol["seed"], protocol["boot"]) == ("canvas", 0, 50)
    assert protocol["period"] == 16
    assert protocol["shifts"]["pgrid"][:2] == [[0, 16], [0, -16]]
    assert len(protocol["images"]) == 2
    assert {row.images for row in results.rows} == {2}
    assert (workplace.folder / "origin/records" / digest[:12] / "key.json").is_file()


def test_a_segmenter_at_all_levels(workplace):
    levels = "feat,pred,task,affinity"
    results = workplace.measure(
        "upernet", "none", "levels", *SEGMENTER, "--shifts", "pgrid", "--levels", levels
    )
    assert {row.level for row in results.rows} == {"feature", "prediction", "task", "affinity"}
    assert value(results, "FES", "blocks.1") == pytest.approx(1, abs=1e-6)
    assert value(results, "FES", "decode_head") < 0.999  # pools over regions of the view
    assert 0.8 < value(results, "mASSC", "labels") < 1
    areas = [row for row in results.rows if row.level == "affinity"]
    assert {row.part for row in areas} >= {"blocks.0/cosine", "blocks.1/attention"}
    assert all(0 <= row.value <= 1 for row in areas)
    figures = {file.name for file in (workplace.folder / "levels/figures").iterdir()}
    assert figures == MAPS | {"FES.png", "FEE.png", "flips.png"}


def test_a_noise_floor_is_of_the_same_checkpoint_again(workplace):
    """Of one image: the same once more, and in mixed precision."""
    call = "upernet", "none", "noise", *SEGMENTER, "--shifts", "pgrid", "--noise-floor", 1
    results = workplace.measure(*call)
    with (workplace.folder / "noise/noise.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(results.noise)
    for line, found in zip(lines, results.noise, strict=True):
        assert (line["cause"], line["value"] or "nan") == (found.cause, str(found.row.value))
    repeated = [n.row.value for n in results.noise if n.cause == "repeat"]
    assert {number for number in repeated if number == number} == {0.0}
    assert any(abs(n.row.value) > 1e-5 for n in results.noise if n.cause == "amp")
    assert {found.row.images for found in results.noise} == {1}
    assert len(list((workplace.folder / "noise/records").glob("*-amp/images/*.npz"))) == 1
    mixed = workplace.measure("upernet", "none", "mixed", *call[3:], "--amp")
    assert any(abs(n.row.value) > 1e-5 for n in mixed.noise if n.cause == "amp")


def test_a_second_call_looks_at_nothing_and_a_lost_record_is_made_again(workplace):
    call = "upernet", "table", "again", *SEGMENTER, "--shifts", "pgrid"
    first, folder = workplace.measure(*call), workplace.folder / "again"
    before = images_of(folder)
    assert len(before) == 2
    second = workplace.measure(*call)
    assert images_of(folder) == before
    assert second.origin["seconds"]["model"] == 0
    np.testing.assert_equal([vars(r) for r in second.rows], [vars(r) for r in first.rows])
    lost, kept = before
    lost.unlink()
    third = workplace.measure(*call)
    after = images_of(folder)
    assert after[kept] == before[kept]
    assert after[lost] > before[lost]
    np.testing.assert_equal([vars(r) for r in third.rows], [vars(r) for r in first.rows])
    kept.write_bytes(kept.read_bytes()[:-100])
    said = workplace.refused(*call)
    assert f"{kept} is damaged" in said
    assert "delete it and run again" in said


def test_more_images_resamples_and_scores_need_no_second_look(workplace):
    call = "mask_rcnn", "none", "more", "--levels", "pred", "--shifts", "ddac", "--max-shift", 1
    few = workplace.measure(*call, *QUICK, "--subset", 1, "--score", 0)
    before = images_of(workplace.folder / "more")
    other = workplace.measure(*call, *QUICK, "--subset", 1, "--score", 0.99, "--boot", 20)
    assert value(other, "PC", "box", "ddac") == 1  # of nothing
    assert value(few, "PC", "box", "ddac") < 1
    assert images_of(workplace.folder / "more") == before
    workplace.measure(*call, *QUICK)
    after = images_of(workplace.folder / "more")
    assert len(after) == 2
    assert before.items() <= after.items()


def test_the_tool_rolls_by_fractions_that_features_alone_are_compared_under(workplace):
    logs = workplace.folder / "logs"
    logs.mkdir()
    environ = {
        "MMPLUGINS_SYNTHETIC": str(workplace.folder / "data"),
        "LOGS": str(logs),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    argv = workplace.config("upernet", "none"), workplace.checkpoint("upernet", "none")
    out = workplace.folder / "roll"
    sets = "--shifts", "pgrid,frac", "--levels", "feat,pred,task,lie"
    run = run_tool(
        "equivariance.py", *argv, "--mode", "roll", *sets, *SEGMENTER, "--out", out, environ=environ
    )
    assert run.code == 0, run.said
    assert "# upernet_none" in run.said
    assert f"all of it: {out / 'results.json'}" in run.said
    results = read_results(out / "results.json")
    assert value(results, "FES", "blocks.1") == pytest.approx(1, abs=1e-6)
    assert 0 < value(results, "FEE_resampled", "blocks.1", "frac") < 1
    assert value(results, "LEE", "blocks.1", "all") > 0
    fractions = [row for row in results.rows if row.sets == ("frac",) or row.point == "frac"]
    assert {row.level for row in fractions if row.value == row.value} == {"feature"}


def test_windows_show_real_pixels(workplace):
    options = "--mode", "window", "--shifts", "pgrid", "--edge", 4
    results = workplace.measure("upernet", "none", "window", *options, *SEGMENTER)
    assert results.protocol["margin"] == 16
    assert results.protocol["edge"] == 4
    assert 0.2 < value(results, "FES", "blocks.0") < 1  # other content comes in
    assert 0 < value(results, "mASSC", "labels") < 1


def test_help_tells_every_option(capsys):
    for action in parser()._actions:
        assert action.help, action.dest
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("masked_canvas", "pgrid", "zhang", "affinity", "--against", "torchrun"):
        assert word in text
