"""Layers that are measured are the same function in all forms, and what is written is ratios."""

import json
import re
import statistics
from pathlib import Path

import pytest
import torch

from mmplugins.benchmark import cases, comparison, plot, results, straightforward
from mmplugins.benchmark.agreement import Disagreement, check
from mmplugins.benchmark.cases import PLAIN, STRAIGHTFORWARD, Row, Shape
from mmplugins.benchmark.command import main
from mmplugins.benchmark.comparison import Cell, Setting
from mmplugins.benchmark.layers import STEPS, Layer
from mmplugins.benchmark.memory import can_count
from mmplugins.position_encodings.irpe_buckets import piecewise_index
from mmplugins.registry import POSITION_ENCODINGS

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = Shape(4, 5, 2, 2, 8)  # up to 25 vectors torch measures distances without cancellation
FORMS = [
    name
    for name, cfgs in cases.ENCODINGS.items()
    if any(cfg["type"] in straightforward.FORMS for cfg in cfgs)
]
OUTSIDE = {"DetrSine", "LearnedAPE", "PEG", "QKPEG", "SinCos2D"}  # act on tokens and on inputs


def quick(rounds=1, **options):
    return Setting(rounds=rounds, least=0.0, **options)


# --- straightforward forms


@pytest.mark.parametrize("encoding", FORMS)
@pytest.mark.parametrize("shape", [SMALL, Shape(5, 4, 1, 2, 8, cases.DETR)], ids=["vit", "detr"])
def test_straightforward_forms_are_the_same_function(encoding, shape):
    ours, theirs = (
        Layer(shape, Row(encoding, form), dtype="float64").forward_backward()
        for form in ("eager", STRAIGHTFORWARD)
    )
    assert ours.keys() == theirs.keys() > {"output", "q", "k", "v"}
    for name, expected in ours.items():
        assert expected.norm() > 0, name
        torch.testing.assert_close(theirs[name], expected, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("ratio", [1.9, 2.0, 3.5])
def test_buckets_are_those_of_the_paper(ratio):
    x = torch.arange(-80, 81)
    torch.testing.assert_close(straightforward.piecewise(x, ratio), piecewise_index(x, ratio))


def test_positions_reach_the_clamp_and_tables_have_several_buckets():
    """Else the equality above would not see those parts of the formulas."""
    layer = Layer(Shape(2, 24, 1, 2, 8), Row("sape2", STRAIGHTFORWARD), dtype="float64")
    ours = Layer(Shape(2, 24, 1, 2, 8), Row("sape2", "eager"), dtype="float64")
    q, k = (layer.leaves[name].detach() for name in "qk")
    lines = (t.unflatten(2, (2, 24)) for t in (q, k))
    query, key = lines
    reach = torch.sigmoid(query @ key.mT * 8**-0.5).sum(-1).max()
    assert reach > layer.leaves["sape2.table_x"].shape[1]
    torch.testing.assert_close(layer.forward(), ours.forward(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        (dict(type="IRPE", mode="bias"), "mode='bias'"),
        (dict(type="IRPE", method="euclidean"), "buckets of euclidean"),
        (dict(type="SaPE2", normalize="rms"), "paper's options only"),
    ],
)
def test_forms_that_nobody_wrote_are_refused(cfg, says, monkeypatch):
    monkeypatch.setitem(cases.ENCODINGS, "mine", [cfg])
    with pytest.raises(ValueError, match=says):
        Layer(SMALL, Row("mine", STRAIGHTFORWARD))


def test_plain_is_attention_without_encoding():
    layer = Layer(SMALL, PLAIN, dtype="float64")
    q, k, v = (layer.leaves[name].detach() for name in "qkv")
    out = (q @ k.mT / 8**0.5).softmax(-1) @ v
    torch.testing.assert_close(layer.forward(), out.transpose(1, 2).reshape(2, 20, 16))


@pytest.mark.parametrize("encoding", list(cases.ENCODINGS)[1:])
def test_half_precision_runs_under_autocast_and_differs_by_rounding(encoding):
    """Parameters remain in single precision. Who knows where SaPE2's authors would be in half?"""
    forms = ["eager", "chunked", *[STRAIGHTFORWARD] * (encoding in FORMS and encoding != "sape2")]
    rows = [Row(encoding, form) for form in forms]
    eager, *others = (Layer(SMALL, row, dtype="bfloat16").forward_backward() for row in rows)
    for row, other in zip(rows[1:], others, strict=True):
        check(row, other, rows[0], eager, tolerance=2e-2)
        for name, result in other.items():
            assert (result.dtype == torch.float32) == ("." in name), name


# --- what is measured


def test_names_are_those_of_configs():
    found = {}
    for name in cases.ENCODINGS:
        for file in (CONFIGS / "upernet").glob(f"vit-s16-{name}_mln_*_ade20k-512x512.py"):
            text = re.search(r"position_encodings=(\[.*\])\)", file.read_text(), re.DOTALL)[1]
            found[name] = eval(text, {"dict": dict})
    assert len(found) > 5
    assert found == {name: cases.ENCODINGS[name] for name in found}


def test_rows_are_plain_attention_every_kernel_and_straightforward():
    rows = cases.rows(["irpe-k", "rpb", "nope", "RoPE"], ["auto", "eager"], SMALL)
    assert list(map(str, rows)) == [
        "nope (sdpa)",
        "irpe-k (auto)",
        "irpe-k (eager)",
        "irpe-k (straightforward)",
        "rpb (auto)",
        "rpb (eager)",
        "RoPE (auto)",
        "RoPE (eager)",
    ]


def test_shapes_bring_the_options_of_their_configs():
    assert cases.shape("detr").cfgs("irpe-qkv") == [dict(type="IRPE", on="qkv", ratio=2.0)]
    assert cases.shape("vit-224").cfgs("irpe-k") == [dict(type="IRPE")]
    assert cases.shape("3x4/2/5/8") == Shape(3, 4, 2, 5, 8)


@pytest.mark.parametrize("text", ["detr-dc6", "3x4", "0x4/2/5/8", "3x4/2/5/8/1"])
def test_an_unknown_shape_is_refused(text):
    with pytest.raises(ValueError, match=r"use detr, .* or HEIGHTxWIDTH/BATCH/HEADS/DIMS"):
        cases.shape(text)


@pytest.mark.parametrize("name", ["irpe", *sorted(OUTSIDE)])
def test_what_does_not_act_in_attention_is_refused(name):
    with pytest.raises(ValueError, match=f"no attention encoding `{name}`"):
        cases.rows([name], ["auto"], SMALL)


def test_every_encoding_that_acts_in_attention_can_be_measured_by_its_class():
    POSITION_ENCODINGS.import_from_location()
    for name in POSITION_ENCODINGS.module_dict.keys() - OUTSIDE:
        _, row = cases.rows([name], ["auto"], SMALL)[:2]
        assert Layer(SMALL, row).forward().shape == (2, 20, 16)


def test_every_cell_is_measured_or_says_why_not():
    """Kernel `sdpa` has no probabilities for the values; their straightforward form is large."""
    shape, said = Shape(10, 12, 1, 2, 16), []
    rows = cases.rows(["irpe-qkv"], ["auto", "sdpa"], shape)
    cells = comparison.compare(shape, rows, quick(rounds=2, memory=3_000_000), said.append)
    assert [(cell.row, cell.step) for cell in cells] == [(r, step) for r in rows for step in STEPS]
    notes = {(cell.row.form, cell.step): cell.note for cell in cells if cell.note}
    left_out = {form for form, _ in notes}
    assert left_out == {"sdpa", STRAIGHTFORWARD}
    assert "auto" in notes["sdpa", "forward"]
    assert re.fullmatch(r"would take .* GB of 0.003", notes[STRAIGHTFORWARD, "forward + backward"])
    for cell in cells:
        assert len(cell.seconds) == (0 if cell.note else 2)
        assert all(second > 0 for second in cell.seconds)
        assert (cell.peak_bytes is None) == (bool(cell.note) or not can_count("cpu"))
    assert [line for line in said if "left out" in line]


def test_what_cannot_run_here_is_left_out():
    """FlexAttention has no gradients on a CPU; RoPE turns pairs of pairs of channels."""
    rows = cases.rows(["irpe-k", "rope-axial"], ["auto", "flex"], Shape(3, 4, 1, 2, 6))
    cells = comparison.compare(Shape(3, 4, 1, 2, 6), rows, quick(rounds=1), print)
    notes = {(str(cell.row), cell.step): cell.note for cell in cells}
    assert "not support backward" in notes["irpe-k (flex)", "forward + backward"]
    assert "divisible by 4" in notes["rope-axial (auto)", "forward"]
    assert not notes["irpe-k (auto)", "forward + backward"]


def test_a_wrong_form_is_refused(monkeypatch):
    right = straightforward.FORMS["SaPE2"]

    def wrong(encoding, *, height, width):
        return right(encoding, height=width, width=height)

    monkeypatch.setitem(straightforward.FORMS, "SaPE2", wrong)
    with pytest.raises(
        Disagreement, match=r"sape2 \(straightforward\) is not .* as sape2 \(auto\)"
    ):
        comparison.compare(SMALL, cases.rows(["sape2"], ["auto"], SMALL), quick(), print)


def test_a_wrong_gradient_is_refused():
    expected = {"output": torch.ones(3), "q": torch.ones(3)}
    row = Row("rpb", "eager")
    assert check(row, expected, PLAIN, expected, tolerance=1e-3) == 0
    for wrong in (torch.tensor([1.0, 1.0, 1.1]), torch.tensor([1.0, 1.0, torch.nan])):
        with pytest.raises(Disagreement, match="gradient of q differs"):
            check(row, {**expected, "q": wrong}, PLAIN, expected, tolerance=1e-3)


# --- what is written


def hand_made(seconds):
    """Cells of one step from {row: seconds}."""
    return [
        Cell(row, step, times, 10**6 * i) if times else Cell(row, step, note="3 GB are too much")
        for i, (row, times) in enumerate(seconds.items(), 1)
        for step in STEPS
    ]


ROWS = hand_made(
    {
        PLAIN: [1.0, 2.0, 4.0],
        Row("irpe-k", "auto"): [3.0, 4.0, 16.0],
        Row("irpe-k", STRAIGHTFORWARD): [6.0, 16.0, 32.0],
        Row("irpe-qkv", "auto"): [5.0, 10.0, 20.0],
        Row("irpe-qkv", STRAIGHTFORWARD): [],
    }
)


def test_ratios_are_those_of_the_same_round():
    ratio = results.time_ratio([3.0, 4.0, 16.0], [1.0, 2.0, 4.0])
    assert ratio == dict(median=3.0, low=2.5, high=3.5)
    assert statistics.median([3.0, 4.0, 16.0]) / statistics.median([1.0, 2.0, 4.0]) == 2
    assert results.time_ratio([3.0], [2.0]) == dict(median=1.5, low=1.5, high=1.5)


def test_records_and_their_table():
    records = results.records("small", SMALL, ROWS)
    ours = next(r for r in records if (r["encoding"], r["form"]) == ("irpe-k", "auto"))
    assert ours["time_of_plain"]["median"] == 3
    assert ours["time_of_straightforward"] == dict(median=0.5, low=0.375, high=0.5)
    assert (ours["memory_of_plain"], ours["memory_of_straightforward"]) == (2, 2 / 3)
    lines = results.markdown(records).splitlines()
    assert lines[0] == "### small: 4 x 5 patches, B 2, h 2, d 8"
    assert "forward 2e+03 ms, 1 MB" in lines[2]
    assert lines[7] == (
        "| irpe-k | auto | 3.00 [2.50, 3.50] | 2.00 | 3.00 [2.50, 3.50] | 2.00 "
        "| 0.50 [0.38, 0.50] | 0.67 |"
    )
    assert lines[10] == "| irpe-qkv | straightforward |  |  |  |  |  |  |"
    assert lines[-1] == "- irpe-qkv (straightforward), forward + backward: 3 GB are too much"


def test_the_plot_shows_every_row():
    records = results.records("small", SMALL, ROWS)
    figure = plot.draw(records + results.records("tiny", Shape(2, 2, 1, 1, 8), ROWS))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"{step}: {what}" for step in STEPS for what in ("time", "memory")
    ]
    for axes in figure.axes[-2:]:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["tiny", "small"]
    first = [line.get_ydata() for line in figure.axes[0].containers[0].lines[:1]]
    assert list(first[0]) == [3, 3]  # at both shapes
    drawn = [container.lines[0].get_linestyle() for container in figure.axes[0].containers]
    assert drawn == ["-", ":", "-"]  # what was left out is not drawn


def test_the_command_writes_whole_files_and_resumes(tmp_path, capsys):
    out = tmp_path / "layers"
    options = ["--encodings", "rpb", "--rounds", "1", "--threads", "1", "--out"]
    shapes = ["--shapes", "3x4/1/1/8", "4x3/1/1/8"]
    main(CONFIGS, ["layers", *shapes[:2], *options, str(out)])
    before = json.loads(Path(f"{out}.json").read_text())
    assert {row["shape"] for row in before["rows"]} == {"3x4/1/1/8"}
    assert before["facts"]["options"]["dtype"] == "float32"
    assert Path(f"{out}.md").read_text() in capsys.readouterr().out

    main(CONFIGS, ["layers", "--resume", *shapes, *options, str(out)])
    after = json.loads(Path(f"{out}.json").read_text())
    assert after["rows"][: len(before["rows"])] == before["rows"]
    assert {row["shape"] for row in after["rows"]} == set(shapes[1:])
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".md", ".png"}

    Path(f"{out}.png").unlink()  # as if the run had ended before it
    main(CONFIGS, ["layers", "--resume", *shapes, *options, str(out)])
    assert Path(f"{out}.png").exists()

    with pytest.raises(SystemExit, match="measured otherwise"):
        main(CONFIGS, ["layers", "--resume", "--kernels", "eager", *shapes, *options, str(out)])
    Path(f"{out}.json").write_text("{}")
    with pytest.raises(SystemExit, match="is no result of this tool"):
        main(CONFIGS, ["layers", "--resume", *shapes, *options, str(out)])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("layers --shapes detr-dc6", "shape `detr-dc6`"),
        ("layers --encodings peg", "no attention encoding `peg`"),
        ("layers --rounds 0", "at least one"),
        ("layers --threads -1", "--threads -1: must be positive"),
        ("layers --memory 0", "--memory 0.0: must be positive"),
        ("pipelines --scale 0", "--scale 0.0: must be positive"),
        ("layers --kernels fastest", "invalid choice"),
        ("pipelines --out nowhere/at/all", "a folder that is there"),
        ("pipelines --encodings peg sepa2", "--encodings sepa2: there is no"),
        ("", "layers | pipelines"),
    ],
)
def test_wrong_options_end_with_one_line(options, says):
    with pytest.raises(SystemExit) as ended:
        main(CONFIGS, options.split())
    assert str(ended.value).startswith("error: ")
    assert says in str(ended.value)
