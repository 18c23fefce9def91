"""Studies: recipes against one another, several training runs, a DETR told of its padding."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import save_checkpoint

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_commands import QUICK, Workplace, value
from mmdet.registry import MODELS
from strided_backbone import Patches
from tool_runs import ROOT

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results.files import read_results
from mmplugins.evaluation.shifting.protocol import ShiftProtocol, make_plan
from mmplugins.evaluation.study import Recipe
from mmplugins.visualise.look import build_model

SHORT = (*QUICK, "--shifts", "pgrid", "--max-shift", 16, "--levels", "feat,pred")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `measure`")
        place = Workplace(tmp_path_factory.mktemp("study"))
        place.measure("upernet", "none", "none", *SHORT)
        yield place


def times(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_differences_from_another_recipe_are_paired(workplace):
    none = read_results(workplace.folder / "none/results.json")
    table = workplace.measure(
        "upernet", "table", "table", *SHORT, "--against", workplace.folder / "none"
    )
    assert {found.other for found in table.differences} == {"upernet_none"}
    (found,) = (
        each
        for each in table.differences
        if (each.row.metric, each.row.part, each.row.point) == ("FES", "blocks.1", "pgrid")
    )
    less = value(table, "FES", "blocks.1") - value(none, "FES", "blocks.1")
    assert found.row.value == pytest.approx(less, abs=1e-12)
    assert found.row.value < 0
    assert found.row.low <= found.row.value <= found.row.high < 0
    assert 0 < found.p == found.p_holm < 0.05
    assert 0 < found.detectable < abs(less)
    with (workplace.folder / "table/differences.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(table.differences)
    assert {"name", "other", "p", "p_holm", "detectable"} <= lines[0].keys()
    text = (workplace.folder / "table/summary.md").read_text()
    assert "| upernet_none |" in text


def test_a_recipe_does_not_differ_from_itself_whatever_is_drawn(workplace):
    before = times(workplace.folder / "none")
    again = workplace.measure(
        *("upernet", "none", "itself", *SHORT, "--boot", 30, "--seed", 0, "--score", 0.1),
        *("--against", workplace.folder / "none"),
    )
    numbers = {found.row.value for found in again.differences}
    assert {number for number in numbers if number == number} == {0.0}
    assert {found.p for found in again.differences if found.p == found.p} == {1.0}
    assert times(workplace.folder / "none") == before


def test_rivals_of_fewer_levels_are_compared_at_those(workplace):
    less = "upernet", "table", "less", *SHORT, "--levels", "pred"
    workplace.measure(*less)
    before = times(workplace.folder / "less")
    both = workplace.measure(
        "upernet", "none", "more", *SHORT, "--against", workplace.folder / "less"
    )
    assert {found.row.level for found in both.differences} == {"prediction"}
    assert times(workplace.folder / "less") == before


def test_fewer_levels_are_read_from_records_of_more(workplace):
    before = times(workplace.folder / "none/records")
    pred = workplace.measure("upernet", "none", "none", *SHORT, "--levels", "pred")
    assert {row.level for row in pred.rows} == {"prediction"}
    workplace.measure("upernet", "none", "none", *SHORT)
    assert times(workplace.folder / "none/records") == before
    more = *SHORT, "--levels", "feat,affinity"
    said = workplace.refused("upernet", "none", "none", *more)
    assert 'records of another observed: observed was ["feat"] and is ["feat", "affinity"]' in said


def test_several_checkpoints_are_training_runs(workplace):
    both = workplace.measure("upernet", "table", "runs", *SHORT, seeds=(0, 1))
    each = [
        workplace.measure("upernet", "table", f"run{seed}", *SHORT, seeds=(seed,))
        for seed in (0, 1)
    ]
    assert {row.runs for row in both.rows} == {2}
    mean = np.mean([value(one, "FEE", "blocks.0") for one in each])
    assert value(both, "FEE", "blocks.0") == pytest.approx(mean, rel=1e-12)
    assert len({made["sha256"] for made in both.origin["checkpoints"]}) == 2
    text = (workplace.folder / "runs/summary.md").read_text()
    assert "interval covers test images and 2 training runs" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--subset", 3], "images[0] is '"),
        (["--subset", 2, "--seed", 3], "images[0] is '"),
        (["--shifts", "sub"], "shifts.sub is absent there, but [[1, 0], [0, 1]"),
        (["--mode", "roll"], "mode is 'canvas' there, but 'roll' here"),
        (["--edge", 3], "edge is 0 there, but 3 here"),
    ],
    ids=lambda each: " ".join(map(str, each)) if isinstance(each, list) else "",
)
def test_rivals_of_other_images_or_views_are_refused_before_the_first_look(
    options, said, workplace
):
    against = "--against", workplace.folder / "none"
    message = workplace.refused("upernet", "table", "refused", *SHORT, *options, *against)
    assert f"{workplace.folder / 'none'} cannot be compared with: {said}" in message
    assert not (workplace.folder / "refused").exists()


def test_rivals_that_are_not_there_or_not_alike_are_refused(workplace, tmp_path):
    none, call = workplace.folder / "none", ("upernet", "table", "refused", *SHORT, "--against")
    said = workplace.refused(*call, none, seeds=(0, 1))
    assert f"--against {none}: of 1 checkpoints, but here are 2" in said
    assert "two of one name (upernet_none, upernet_none)" in workplace.refused(*call, none, none)
    (tmp_path / "results.json").write_bytes((none / "results.json").read_bytes())
    assert "holds no records: there is no key.json" in workplace.refused(*call, tmp_path)
    workplace.measure("upernet", "none", "lost", *SHORT)
    next((workplace.folder / "lost").glob("records/*/images/*")).unlink()
    said = workplace.refused(*call, workplace.folder / "lost")
    assert "has no record of image" in said
    assert not (workplace.folder / "refused").exists()


def test_a_detr_on_a_masked_canvas(workplace, tmp_path):
    """The sine of valid pixels is exact there, where all of the canvas counts it is not."""
    MODELS.register_module("Patches", force=True, module=Patches)
    base = ROOT / "configs/detr/detr_r18-sine_1xb8-8e_synthetic-160x224.py"
    file = tmp_path / "detr.py"
    parts = 'backbone=dict(_delete_=True, type="Patches"), encoder=dict(num_layers=1)'
    file.write_text(f'_base_ = "{base}"\nmodel = dict({parts}, decoder=dict(num_layers=1))')
    model = build_model(Config.fromfile(file))
    for parameter in [*model.encoder.parameters(), *model.bbox_head.parameters()]:
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    save_checkpoint({"state_dict": model.state_dict(), "meta": {}}, str(tmp_path / "detr.pth"))
    errors = {}
    for mode in ("masked_canvas", "canvas"):
        out = tmp_path / mode
        shifts = "--shifts", "pgrid", "--max-shift", 32, "--period", 32, "--levels", "feat,pred"
        argv = file, tmp_path / "detr.pth", "--mode", mode, *shifts, *QUICK, "--subset", 1
        workplace.command(*argv, "--score", 0, "--out", out)
        results = read_results(out / "results.json")
        errors[mode] = value(results, "FEE", "encoder.0"), value(results, "PC", "box")
    assert errors["masked_canvas"][0] < 1e-5 < 0.01 < errors["canvas"][0]
    assert errors["canvas"][1] < errors["masked_canvas"][1]
    assert errors["masked_canvas"][1] > 0.99


def test_plans_follow_from_model_and_protocol(workplace):
    cfg = Config.fromfile(workplace.config("upernet", "none"))
    model, pictures = build_model(cfg), Pictures(cfg)
    plan = make_plan(ShiftProtocol(max_shift=40), model, pictures)
    assert (plan.period, plan.divisor, plan.edge) == (16, 32, 0)
    whole, parts = (group.shifts for group in plan.sets)
    assert whole == tuple(
        (y * n, x * n)
        for n in (16, 32)
        for y, x in [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1)]
    )
    assert {max(shift) for shift in parts} == {1, 2, 4, 8, 15}
    window = make_plan(ShiftProtocol(mode="window", max_shift=16), model, pictures)
    assert (window.edge, window.frame.margin) == (16, 16)
    wide = make_plan(ShiftProtocol(period=48, levels=("pred",), max_shift=48), model, pictures)
    assert (wide.period, wide.divisor) == (48, 96)
    drawn = ShiftProtocol(shifts=("zhang",), count=5, seed=3)
    assert make_plan(drawn, model, pictures) == make_plan(drawn, model, pictures)
    assert len(make_plan(drawn, model, pictures).shifts) == 5


def test_the_period_of_a_pyramid_as_of_retinanet_is_its_last_stride(workplace):
    """Its last maps round up: a wrong side of the picture makes them look like other strides."""
    pictures = Pictures(Config.fromfile(workplace.config("mask_rcnn", "none")))
    strides = [8, 16, 32, 64, 128]
    anchors = dict(type="AnchorGenerator", scales=[4], ratios=[1.0], strides=strides)
    head = dict(type="RetinaHead", num_classes=1, in_channels=8, feat_channels=8, stacked_convs=1)
    neck = dict(type="FPN", in_channels=[512], out_channels=8, add_extra_convs="on_output")
    model = MODELS.build(
        ConfigDict(
            type="RetinaNet",
            data_preprocessor=dict(type="DetDataPreprocessor"),
            backbone=dict(type=Patches),
            neck=dict(**neck, num_outs=5),
            bbox_head=dict(**head, anchor_generator=anchors),
            test_cfg=dict(
                nms_pre=1, score_thr=0.9, max_per_img=1, nms=dict(type="nms", iou_threshold=0.5)
            ),
        )
    )
    assert make_plan(ShiftProtocol(), model.eval(), pictures).period == 128


def test_detectors_that_are_rolled_are_refused(workplace, tmp_path):
    cfg = Config.fromfile(workplace.config("mask_rcnn", "none"))
    rolled = ShiftProtocol(mode="roll")
    with pytest.raises(InputError, match="--levels feat there, or in --mode canvas or window"):
        Recipe(cfg, Pictures(cfg), rolled, tmp_path, Bars(quiet=True))
    features = replace(rolled, levels=("feat", "affinity"))
    recipe = Recipe(cfg, Pictures(cfg), features, tmp_path, Bars(quiet=True))
    assert recipe.ids(recipe.indices) == recipe.pictures.ids
