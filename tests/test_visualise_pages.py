"""The viewer of biases on hosts' models and pictures: its pages, choices and mistakes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from test_visualise import Spy
from tool_runs import DETECTION, ROOT, SEGMENTATION, Run, run_tool

from mmplugins.engine.inputs import InputError
from mmplugins.visualise.look import build_model, look
from mmplugins.visualise.maps import query_maps, valid_size
from mmplugins.visualise.page import save
from mmplugins.visualise.record import attention_modules
from mmplugins.visualise.show import Choice, show

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two tiny configs, a picture of 90 x 130 pixels, and something that is none."""
    folder = tmp_path_factory.mktemp("viewer")
    (folder / "mask_rcnn.py").write_text(DETECTION)
    (folder / "upernet.py").write_text(SEGMENTATION)
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    Image.fromarray(noise).save(folder / "photo.png")
    (folder / "text.png").write_text("no picture")
    (folder / "logs").mkdir()
    return folder


def config(folder: Path, name: str, **options) -> Config:
    path = folder / f"{name}.py" if name in ("mask_rcnn", "upernet") else ROOT / "configs" / name
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options)
    return cfg


def show_on(folder: Path, name: str, choice: Choice, **options):
    return show(config(folder, name, **options), str(folder / "photo.png"), choice)


DETR = "detr/detr_r18-sine-sape2_1xb8-8e_synthetic-160x224.py"


@pytest.mark.family
@pytest.mark.parametrize("name", [DETR, "upernet", "mask_rcnn"])
def test_looks_through_the_hosts_own_pipeline(name, folder):
    """The whole of it: pipeline, preprocessor, padding; against what attention really computed."""
    cfg = config(folder, name)
    if cfg.default_scope == "mmdet":
        cfg.model.data_preprocessor.pad_size_divisor = 96
    model = build_model(cfg)
    spy = attention_modules(model)[1].pos["spy"] = Spy()
    seen = look(model, cfg, str(folder / "photo.png"), [0, 1])
    layer = seen.layers[1]
    (maps,) = query_maps(layer, [(1, 2)])
    token = layer.canvas.width + 2
    expected = spy.probs[0, :, token].unflatten(1, maps.attention.shape[1:])
    torch.testing.assert_close(maps.attention.nan_to_num(), expected)
    # The picture is the resized photo, in the photo's colours.
    height, width = seen.content
    photo = Image.open(folder / "photo.png").resize((width, height), Image.Resampling.BILINEAR)
    shown, photo = (np.asarray(p)[:height, :width].astype(float) for p in (seen.picture, photo))
    correlation = [np.corrcoef(shown[..., c].flat, photo[..., c].flat)[0, 1] for c in range(3)]
    assert min(correlation) > 0.8
    if name == DETR:
        inner = valid_size(layer.canvas)
        assert inner == (math.ceil(height / 32), math.ceil(width / 32))
        assert inner != (layer.canvas.height, layer.canvas.width)
        assert maps.attention[:, inner[0] :].isnan().all()


@pytest.mark.parametrize(
    ("choice", "columns"),
    [
        (Choice(), 6),
        (Choice(layers=[1], heads=["1"], queries=["0,1", "3,2"], what="bias", invert=True), 1),
        (Choice(queries=["all"]), 2),
    ],
)
def test_pages_hold_a_panel_for_each_choice(choice, columns, folder, tmp_path):
    figure, words = show_on(folder, "upernet", choice)
    save(figure, tmp_path / "page.png")
    page = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert page.std() > 10
    blocks = {0: 3, 2: 2, 1: 1}[len(choice.queries)]
    layers = len(choice.layers) or 2
    legends = 1 if choice.what == "bias" else 2
    assert len(figure.axes) == legends + blocks * (1 + layers * columns)
    assert words[0] == "upernet, random weights"
    assert "SaPE2" in words[-1]
    _no_words_overlap(figure)


def _no_words_overlap(figure):
    boxes = [text.get_window_extent() for text in figure.texts]
    width, height = figure.bbox.size
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
        for other in boxes[:index]:
            assert not (box.shrunk(0.9, 0.7).overlaps(other.shrunk(0.9, 0.7)))


def test_large_grids_are_shown_in_strides(folder):
    cfg = {"model.backbone.patch_size": 4}
    figure, words = show_on(folder, "upernet", Choice(queries=["all"], layers=[0]), **cfg)
    (patches,) = (w for w in words if "patches" in w and "pixels" in w)
    assert patches.startswith("photo.png as the model sees it: ")
    (stride,) = (w for w in words if w.startswith("a map for one patch in "))
    count = int(next(t.get_text() for t in figure.texts if "queries" in t.get_text()).split()[0])
    height, width = map(int, patches.split(", ")[1].split(" patches")[0].split(" x "))
    step = int(stride.split(" in ")[1].split()[0])
    assert step == math.ceil(max(height, width) / 16) > 1
    assert count == math.ceil(height / step) * math.ceil(width / step)


def test_a_model_that_looks_at_crops_says_so(folder):
    cfg = {"model.test_cfg": dict(mode="slide", crop_size=(64, 64), stride=(32, 32))}
    _, words = show_on(folder, "upernet", Choice(layers=[0], queries=["0,0"]), **cfg)
    assert any(w.endswith("times, at parts: drawn is the first") for w in words)
    assert any("64 x 64 pixels, 4 x 4 patches" in w for w in words)


def test_layers_without_a_bias_show_their_attention(folder):
    encodings = {"model.backbone.position_encodings": [dict(type="PEG")]}
    figure, words = show_on(folder, "upernet", Choice(queries=["1,1"]), **encodings)
    assert "layer 0, 1: attention encodings none, no logit bias" in words
    assert not any(
        "bias" in text.get_text() for text in figure.texts if text.get_text() != words[2]
    )
    with pytest.raises(InputError, match="no encoding of layer 0, 1 has a logit bias"):
        show_on(folder, "upernet", Choice(what="bias"), **encodings)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(queries=["all", "1,1"]), "a query is `all` alone, or Y,X as in 3,10, not `all`"),
        (Choice(queries=["3"]), "not `3`"),
        (Choice(queries=["99,0"]), "query 99,0 lies outside of the"),
        (Choice(layers=[2]), "no layer 2: the model has 2"),
        (Choice(heads=["2"]), "no head `2`: there are 2, 0 to 1, `mean` and `all`"),
    ],
)
def test_choices_that_do_not_fit_are_named(choice, message, folder):
    with pytest.raises(InputError, match=message):
        show_on(folder, "upernet", choice)


@pytest.mark.parametrize(
    ("image", "message"),
    [("none.png", "image: no such file"), ("text.png", "is no picture that can be read")],
)
def test_pictures_that_are_none_are_named(image, message, folder):
    with pytest.raises(InputError, match=message):
        show(config(folder, "upernet"), str(folder / image), Choice())


@pytest.mark.family
def test_a_checkpoint_brings_its_weights(folder, tmp_path):
    cfg = config(folder, "upernet")
    model = build_model(cfg)
    file = str(tmp_path / "some.pth")
    with torch.no_grad():
        model.backbone.blocks[0].attn.qkv.weight.fill_(0.125)
    torch.save(dict(state_dict=model.state_dict(), meta={}), file)
    loaded = build_model(cfg, file)
    assert (loaded.backbone.blocks[0].attn.qkv.weight == 0.125).all()
    other = config(folder, "upernet", **{"model.backbone.position_encodings": [dict(type="PEG")]})
    with pytest.raises(InputError, match="is not a checkpoint of this config's model"):
        build_model(other, file)


@pytest.fixture(scope="module")
def environ(folder) -> dict[str, str]:
    return {"LOGS": str(folder / "logs"), "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}"}


def run_viewer(tool: str, folder: Path, environ: dict[str, str], *argv: object) -> tuple[Run, Path]:
    out = folder / f"{tool}.png"
    return run_tool(tool, *argv, "--out", out, environ=environ), out


def test_show_bias_draws(folder, environ):
    model = folder / "mask_rcnn.py", folder / "photo.png"
    windows = "model.backbone.window_size=3", "model.backbone.global_blocks=[1]"
    options = "--queries", "2,3", "--heads", "mean", "--cfg-options", *windows
    run, out = run_viewer("show_bias.py", folder, environ, *model, *options)
    assert run.code == 0, run.said
    assert f"{out}: mask_rcnn, random weights" in run.said
    assert "windows of 3 x 3 patches" in run.said
    assert Image.open(out).size[0] > 1000


def test_show_bias_ends_with_one_line(folder, environ):
    model = folder / "mask_rcnn.py", "none.pth", folder / "photo.png"
    run, _ = run_viewer("show_bias.py", folder, environ, *model)
    assert run.code == 1
    assert "Traceback" not in run.said
    assert run.said.splitlines()[-1] == "error: checkpoint: no such file `none.pth`"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (DETR, "coco_tiny/val2017/*.jpg"),
        ("upernet", "ade20k_sample/images/validation/*.jpg"),
    ],
)
def test_real_pictures(name, pattern, data_root, folder, tmp_path):
    image = min(data_root.glob(pattern))
    figure, words = show(config(folder, name), str(image), Choice(what="both", heads=["mean"]))
    save(figure, tmp_path / "page.png")
    assert np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).std() > 10
    assert words[1].startswith(f"{image.name} as the model sees it")
