"""tools/resolution.py from a config and a checkpoint to files; what it refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_commands import Workplace

from mmplugins.evaluation.commands import equivariance
from mmplugins.evaluation.commands.resolution import main, parser
from mmplugins.evaluation.results.files import read_results
from mmplugins.evaluation.sizes import SHAPES

FEW = ("--subset", 2, "--boot", 20, "--noise-floor", 0)
DETECTOR = (*FEW, "--subset", 1, "--sizes", "0.5,1,1.2", "--mode", "resize,extent,crop,aspect")
SEGMENTER = (*FEW, "--sizes", "0.5,1,1.5", "--mode", "resize,extent,slide")
POINTS = {
    "resize": ["0.5", "1", "1.2"],
    "extent": ["1", "1.2"],
    "crop": ["0.5", "1"],
    "aspect": [*SHAPES],
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `measure`")
        place = Workplace(tmp_path_factory.mktemp("resolution"), main)
        patch.chdir(place.folder)
        yield place


@pytest.fixture(scope="module")
def detector(workplace):
    return workplace.measure("mask_rcnn", "none", "detector", *DETECTOR)


@pytest.fixture(scope="module")
def baseline(workplace):
    """Of a segmenter without encodings."""
    return workplace.measure("upernet", "none", "baseline", *SEGMENTER)


@pytest.fixture(scope="module")
def table(workplace, baseline):
    call = "upernet", "table", "table", *SEGMENTER, "--against", workplace.folder / "baseline"
    return workplace.measure(*call)


def values(rows):
    """By metric, part, axis and point."""
    found = {(row.metric, row.part, row.axis, row.point): row.value for row in rows}
    assert len(found) == len(rows)
    return found


def files(folder: Path) -> dict[Path, int]:
    """When each was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_a_detector_at_every_size(workplace, detector):
    assert detector.protocol["sizes"] == POINTS
    assert (detector.protocol["divisor"], detector.protocol["fill"]) == (16, "reflect")
    assert len(detector.protocol["images"]) == 1
    assert (detector.protocol["seed"], detector.protocol["boot"]) == (0, 20)
    found = values(detector.rows)
    for part in ("box", "mask"):
        for mode, points in POINTS.items():
            for metric in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"):
                assert [p for m, q, a, p in found if (m, q, a) == (metric, part, mode)] == points
        # Modes whose core is all are of the same view and objects at the training size.
        assert found["AP", part, "resize", "1"] == found["AP", part, "extent", "1"]
        for metric in ("AP_S", "AP_M", "AP_L"):
            same = found[metric, part, "resize", "1"], found[f"{metric} input", part, "resize", "1"]
            np.testing.assert_equal(*same)  # the pipeline leaves the size as it is
        assert (f"{metric} input delta", part, "resize", "0.5") not in found
        assert ("AP ResAUC up", part, "sizes", "extent") in found
        assert ("AP delta", part, "aspect", "portrait") in found
    assert any(found["AP", "box", "resize", point] > 0 for point in POINTS["resize"])
    assert {row.level for row in detector.rows} == {"task"}
    assert {row.images for row in detector.rows} == {1}
    folder = workplace.folder / "detector"
    assert {file.name for file in folder.iterdir()} == {
        *("figures", "records", "results.csv", "results.json", "summary.md")
    }
    assert {file.name for file in (folder / "figures").iterdir()} == {"AP-sizes.png"}


def test_a_segmenter_at_every_size_and_what_a_larger_grid_does(workplace, baseline):
    found = values(baseline.rows)
    assert baseline.protocol["sizes"]["slide"] == ["1.5"]
    for mode, points in baseline.protocol["sizes"].items():
        for point in points:
            assert 0 < found["mIoU", "labels", mode, point] < 1
    gap = found["mIoU", "labels", "resize", "1.5"] - found["mIoU", "labels", "slide", "1.5"]
    assert found["slide-gap", "labels", "slide", "1.5"] == pytest.approx(gap, abs=1e-12)
    assert gap != 0  # attention, and pooling, see the whole or a crop
    drawn = {file.name for file in (workplace.folder / "baseline/figures").iterdir()}
    assert drawn == {"mIoU-sizes.png", "slide-gap-sizes.png"}


def test_results_say_where_they_come_from(workplace, baseline, table):
    assert table.origin["tool"] == "tools/resolution.py"
    assert table.origin["pixels"]["resize"] == {
        "0.5": [80, 112],
        "1": [160, 224],
        "1.5": [240, 336],
    }
    (encodings,) = {row.encodings for row in table.rows}
    assert encodings.startswith("LearnedAPE(resize=bicubic")
    assert {row.encodings for row in baseline.rows} == {"none"}
    with (workplace.folder / "table/results.csv").open() as file:
        assert {line["encodings"] for line in csv.DictReader(file)} == {encodings}


def test_differences_in_differences_are_paired(baseline, table):
    ours, theirs = values(table.rows), values(baseline.rows)
    assert {found.other for found in table.differences} == {"upernet_none"}
    found = {(d.row.metric, d.row.axis, d.row.point): d for d in table.differences}
    for mode, points in (("resize", ("0.5", "1.5")), ("extent", ("1.5",))):
        for point in points:
            one = found["mIoU delta", mode, point]
            at = "mIoU", "labels", mode
            did = (ours[(*at, point)] - theirs[(*at, point)]) - (
                ours[(*at, "1")] - theirs[(*at, "1")]
            )
            assert one.row.value == pytest.approx(did, abs=1e-12)
            assert one.row.value == one.row.value != 0
            assert 0 < one.p <= one.p_holm <= 1
    assert len(table.differences) == len(table.rows)


def test_a_second_call_looks_at_nothing_and_more_images_at_these_alone(workplace):
    call = "upernet", "none", "again", *FEW, "--sizes", "0.5,1", "--mode", "resize"
    first, folder = workplace.measure(*call, "--subset", 1), workplace.folder / "again"
    before = files(folder / "records")
    second = workplace.measure(*call, "--subset", 1)
    assert files(folder / "records") == before
    assert second.origin["seconds"]["model"] == 0 < first.origin["seconds"]["model"]
    np.testing.assert_equal(values(second.rows), values(first.rows))
    workplace.measure(*call, "--subset", 2)
    after = files(folder / "records")
    assert before.items() < after.items()
    assert len(after) == len(before) + 1


def test_what_is_the_same_checkpoint_again(workplace):
    quick = "--sizes", "1,1.2", "--mode", "extent", "--subset", 1, "--boot", 5
    results = workplace.measure("upernet", "none", "noise", *quick, "--noise-floor", 1)
    repeated = [n.row.value for n in results.noise if n.cause == "repeat"]
    assert {number for number in repeated if number == number} == {0.0}
    assert {n.cause for n in results.noise} == {"repeat", "amp"}


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        (
            "upernet",
            ["--sizes", "0.04,1,2"],
            "0.04 times 160 x 224 pixels is less than one cell of",
        ),
        ("upernet", ["--sizes", "1,1.01"], "1 and 1.01 times 160 x 224 pixels are both 160 x 224"),
        ("upernet", ["--sizes", "0.5,2"], "--sizes 0.5,2: the training size, 1, is missing"),
        ("upernet", ["--sizes", "80,160"], "the test pipeline names no size in pixels: give ratio"),
        ("upernet", ["--sizes", "1,some"], "`1,some` is neither like 0.5:2 nor like 0.5,1,2"),
        ("upernet", ["--sizes", "0.5,1"], "--mode extent needs a size above the training size"),
        ("upernet", ["--mode", "resize,warp"], "--mode: no `warp`; there are resize, extent, crop"),
        ("upernet", ["--mode", ","], "--mode: name one at least"),
        ("upernet", ["--mode", "slide"], "--mode slide is told against resize: name that, too"),
        ("upernet", ["--divisor", "0"], "argument --divisor: `0` is no whole number of 1 or more"),
        ("mask_rcnn", ["--mode", "resize,slide"], "--mode slide is how segmenters look at crops"),
        ("upernet", ["--subset", "9"], "a subset of 9 images: the dataset has 3"),
        ("upernet", ["--against", "none"], "no such file `none/results.json`"),
    ],
    ids=lambda option: " ".join(option) if isinstance(option, list) else "",
)
def test_wrong_options(host, options, said, workplace):
    message = workplace.refused(host, "none", "nothing", *FEW, *options)
    assert said in message
    assert "\n" not in message
    assert not (workplace.folder / "nothing").exists()


def test_pixels_without_the_training_size(workplace):
    """Where the test pipeline names its size."""
    file = workplace.folder / "sized.py"
    steps = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(224, 160), keep_ratio=True),
        dict(type="LoadAnnotations", reduce_zero_label=True),
        dict(type="PackSegInputs"),
    ]
    text = f"test_dataloader = dict(dataset=dict(pipeline={steps}))"
    file.write_text(f'_base_ = "upernet_none.py"\n{text}\n')
    call = file, workplace.checkpoint("upernet", "none"), *FEW, "--mode", "resize"
    said = workplace.command_refused(*call, "--out", "nothing", "--sizes", "80,320")
    assert "the training size, a short side of 160 pixels, is missing" in said
    assert not (workplace.folder / "nothing").exists()
    workplace.command(*call, "--out", "sized", "--sizes", "80,160")
    results = read_results(workplace.folder / "sized/results.json")
    assert results.protocol["sizes"] == {"resize": ["0.5", "1"]}
    assert results.origin["pixels"] == {"resize": {"0.5": [80, 112], "1": [160, 224]}}


class TestOthers:
    def test_of_other_images_or_sizes_are_not_compared_with(self, workplace, baseline):
        for options, said in [
            (["--sizes", "0.5,1,2"], "sizes.resize[2] is '1.5' there, but '2' here"),
            (["--mode", "resize,extent"], "sizes.slide is ['1.5'] there, but absent here"),
            (["--subset", 1], "images[0] is "),
            (["--fill", "mean"], "fill is 'reflect' there, but 'mean' here"),
        ]:
            against = "--against", workplace.folder / "baseline"
            message = workplace.refused(
                "upernet", "table", "nothing", *SEGMENTER, *options, *against
            )
            assert "cannot be compared with" in message
            assert said in message
            assert not (workplace.folder / "nothing").exists()

    def test_of_shifts_are_not_compared_with(self, workplace, baseline):
        """Nor results of sizes with those of shifts."""
        shifts = "--shifts", "ddac", "--max-shift", 1, "--levels", "pred", "--samples", 0
        files = workplace.config("upernet", "none"), workplace.checkpoint("upernet", "none")
        argv = [str(part) for part in (*files, *FEW, *shifts)]
        equivariance.main([*argv, "--out", "shifts"])
        said = workplace.refused("upernet", "none", "nothing", *SEGMENTER, "--against", "shifts")
        assert "shifts cannot be compared with: sizes is absent there, but {'resize': " in said
        with pytest.raises(SystemExit) as ended:
            equivariance.main([*argv, "--out", "nothing", "--against", "baseline"])
        assert "baseline cannot be compared with: mode is absent there" in str(ended.value)
        assert not (workplace.folder / "nothing").exists()
        # Their records are no records of sizes either.
        said = workplace.refused("upernet", "none", "shifts", *SEGMENTER)
        assert "holds records of another" in said
        assert "Name another --out, or delete that folder" in said

    def test_records_of_another_plan_are_left_as_they_are(self, workplace, baseline):
        folder = workplace.folder / "baseline"
        before = files(folder)
        for options, said in [
            (["--sizes", "0.5,1,2"], "holds records of another plan.sets"),
            (["--divisor", 32], "another plan.divisor: plan.divisor was 16 and is 32"),
            (["--divisor", 8], "--divisor 8: tokens cover pictures in multiples of 16 pixels"),
        ]:
            assert said in workplace.refused("upernet", "none", "baseline", *SEGMENTER, *options)
        assert files(folder) == before


def test_help_tells_every_option(capsys):
    for action in parser()._actions:
        assert action.help, action.dest
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("extent", "aspect", "slide", "0.625", "DiD(R)", "--against", "torchrun"):
        assert word in text


def test_results_are_plain_json(workplace, table):
    plain = json.loads((workplace.folder / "table/results.json").read_text())
    assert {"sizes", "divisor", "fill", "images", "seed", "boot", "truth"} == plain[
        "protocol"
    ].keys()
    deltas = [d for d in plain["differences"] if d["metric"] == "mIoU delta"]
    assert {(d["axis"], d["point"]) for d in deltas} == {
        ("resize", "0.5"), ("resize", "1.5"), ("extent", "1.5")
    }  # fmt: skip
    assert {"other", "value", "low", "high", "p", "p_holm", "detectable"} <= deltas[0].keys()
