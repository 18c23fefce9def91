"""What tools/equivariance.py refuses: in one line, before it looks, and without a trace."""

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_commands import Workplace

SLIDE = ("model.test_cfg.mode=slide", "model.test_cfg.crop_size=[64,64]")
SLIDE = ("--cfg-options", *SLIDE, "model.test_cfg.stride=[32,32]")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `measure`")
        place = Workplace(tmp_path_factory.mktemp("refusals"))
        patch.chdir(place.folder)
        (place.folder / "empty.txt").write_text("\n \n")
        (place.folder / "others.txt").write_text("ADE_val_00000001.jpg\nADE_val_7.jpg\n")
        (place.folder / "some.json").write_text('{"images": []}')
        yield place


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--levels", "feat,all"], "--levels: no `all`; there are feat, pred, task, affinity, lie"),
        (["--levels", ""], "--levels: name one at least"),
        (["--levels", "lie"], "--levels lie is of features: name feat, too"),
        (["--shifts", "pgrid,all"], "--shifts: unknown set of shifts `all`: use pgrid, sub, frac"),
        (["--shifts", ","], "--shifts: name one at least"),
        (["--shifts", "frac"], "--shifts frac: fractions of a pixel need --mode roll"),
        (["--max-shift", "8"], "the period is 16 pixels, and no shift is within --max-shift 8"),
        (["--period", "256"], "the period is 256 pixels, and no shift is within --max-shift 128"),
        (["--period", "0"], "argument --period: `0` is no whole number of 1 or more"),
        (["--boot", "0"], "argument --boot: `0` is no whole number of 1 or more"),
        (["--boot", "many"], "argument --boot: `many` is no whole number of 1 or more"),
        (["--seed", "-1"], "argument --seed: `-1` is no whole number of 0 or more"),
        (["--noise-floor", "-1"], "argument --noise-floor: `-1` is no whole number of 0"),
        (["--mode", "warp"], "argument --mode: invalid choice: 'warp' (choose from"),
        (["--speed"], "unrecognized arguments: --speed"),
        (["--subset", "9"], "a subset of 9 images: the dataset has 3"),
        (["--subset", "0"], "a subset of 0 images: the dataset has 3"),
        (["--subset", "none.txt"], "--subset: no such file `none.txt`"),
        (["--subset", "empty.txt"], "--subset: no ids in empty.txt"),
        (["--subset", "others.txt"], "no image ADE_val_7.jpg in the test dataset (1 of 2 ids are"),
        (["--subset", "some.json"], "`some.json` holds no results"),
        (["--mode", "window"], "image ADE_val_00000001.jpg: a picture of 160 x 224 pixels is"),
        (["--edge", "80"], "image ADE_val_00000001.jpg: no pixel of 160 x 224 is 80 off the edge"),
        (["--mode", "window", "--fill", "reflect"], "mode window has no canvas to fill with"),
        (["--against", "nothing"], "no such file `nothing/results.json`"),
        (["--mode", "masked_canvas"], "EncoderDecoder is none: use --mode canvas or window"),
        (["--launcher", "slurm"], "--launcher slurm needs GPUs"),
        (SLIDE, "EncoderDecoder looks at a picture in several crops, of which no one has"),
        ([*SLIDE, "--levels", "pred"], "is not known: name a --period in pixels"),
    ],
    ids=lambda options: " ".join(options[:2]) if isinstance(options, list | tuple) else "",
)
def test_wrong_options(options, said, workplace):
    if "slurm" in options and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    message = workplace.refused("upernet", "none", "nothing", *options)
    assert said in message
    assert "\n" not in message
    assert not (workplace.folder / "nothing").exists()


def test_detectors_are_not_rolled_but_at_the_level_of_features(workplace):
    said = workplace.refused("mask_rcnn", "none", "nothing", "--mode", "roll")
    assert "--mode roll cuts objects in two at the border" in said
    said = workplace.refused("mask_rcnn", "none", "nothing", "--mode", "masked_canvas")
    assert "MaskRCNN is none: use --mode canvas or window" in said
    assert not (workplace.folder / "nothing").exists()


def test_wrong_files(workplace, tmp_path):
    config, file = workplace.config("upernet", "none"), workplace.checkpoint("upernet", "none")
    table = workplace.checkpoint("upernet", "table")
    text = tmp_path / "text.pth"
    text.write_text("no checkpoint")
    out = "--out", tmp_path / "nothing"
    cases = [
        ([config, "none.pth"], "checkpoint: no such file `none.pth`"),
        (["none.py", file], "config: no such file `none.py`"),
        ([config, file, file], "two checkpoints hold the same, and are no two training runs"),
        ([config, "https://example.org/some.pth"], "checkpoint: download https://example.org"),
        ([config, text], f"{text} is damaged or holds more than weights"),
        ([config, file, "--out", text], f"--out {text}: nothing can be written to `{text}`"),
        ([config, file, "--out", text / "in"], f"nothing can be written to `{text}`"),
        ([config, table], f"{table} is not a checkpoint of this config's model"),
    ]
    for argv, said in cases:
        message = workplace.command_refused(*out, *argv)
        assert said in message
        assert "Traceback" not in message
    assert "unexpected key in source state_dict: backbone.pos" in message
    assert not (tmp_path / "nothing").exists()


def test_records_of_another_protocol_or_config_are_left_as_they_are(workplace):
    call = "upernet", "none", "kept", "--boot", 10, "--noise-floor", 0, "--levels", "pred"
    shifts = "--subset", 1, "--shifts", "pgrid", "--max-shift", 16
    workplace.measure(*call, *shifts)
    folder = workplace.folder / "kept/records"
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    for options, said in [
        (["--max-shift", 32], "holds records of another plan.sets"),
        (["--edge", 8], "holds records of another plan.edge: plan.edge was 0 and is 8"),
        (["--amp"], "holds records of another amp: amp was false and is true"),
        (["--mode", "roll"], "holds records of another plan.mode"),
        (["--cfg-options", "model.decode_head.align_corners=True"], "records of another model"),
        (["--cfg-options", "test_dataloader.dataset.indices=3"], "records of another data"),
    ]:
        message = workplace.refused(*call, *shifts, *options)
        assert said in message
        assert "Name another --out, or delete that folder" in message
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    # Another checkpoint's records lie beside them.
    workplace.measure(*call, *shifts, seeds=(1,))
    assert len(list(folder.iterdir())) == 2
    assert before.items() <= {f: f.stat().st_mtime_ns for f in folder.rglob("*")}.items()
