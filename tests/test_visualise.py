"""The viewers: their maps are what models compute, their pages are pictures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from layers import CASES, HEIGHT, WIDTH, Model, case_id, tokens
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from mmengine.config import Config
from PIL import Image
from tool_runs import DETECTION, ROOT, SEGMENTATION, Run, run_tool

from mmplugins.engine.inputs import InputError
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding
from mmplugins.position_encodings.irpe import SideOptions
from mmplugins.visualise.buckets import bucket_tables, describe, draw_buckets
from mmplugins.visualise.look import build_model, look
from mmplugins.visualise.maps import query_maps, valid_size
from mmplugins.visualise.page import patch_side, save
from mmplugins.visualise.paint import ATTENTION, BIAS, BLANK, DISTANCE, QUERY, mosaic
from mmplugins.visualise.record import attention_modules, record
from mmplugins.visualise.show import Choice, show

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
EVERY = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)]


class Spy(AttentionEncoding):
    """Keeps the probabilities that the model itself attends with."""

    uses_probs = True

    def context(self, probs, grid):
        self.probs = probs.detach()
        return torch.zeros((), dtype=probs.dtype)


def layer_and_probs(model: Model, x, grid):
    """What the second layer was given, and the probabilities that it computed."""
    spy = model.blocks[1].attn.pos["spy"] = Spy()
    (layer,) = record(model, lambda: model(x, grid), [1])
    return layer, spy.probs


def raw_logits(layer):
    """Scale * q k^T, written out from the weights of encodings that rotate nothing."""
    attn, x = layer.module, layer.x
    dims = x.shape[-1]
    q, k = (
        (x @ attn.qkv.weight[part].T + attn.qkv.bias[part]).unflatten(-1, (2, -1))
        for part in (slice(dims), slice(dims, 2 * dims))
    )
    return torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(dims / 2)


@pytest.mark.parametrize("prefix", [0, 2])
def test_maps_are_what_the_layer_computes(prefix, float64):
    cfgs = [dict(type="SaPE2"), dict(type="IRPE", on="qkv")]
    model, x = Model(cfgs, prefix=prefix), tokens(prefix=prefix)
    layer, probs = layer_and_probs(model, x, TokenGrid(HEIGHT, WIDTH, prefix))
    raw = raw_logits(layer)
    for image in range(2):
        for maps in query_maps(layer, EVERY, image=image):
            i = prefix + maps.query[0] * WIDTH + maps.query[1]
            expected = probs[image, :, i, prefix:].unflatten(1, (HEIGHT, WIDTH))
            torch.testing.assert_close(maps.attention, expected)
            # Whatever is left of the logits beside q and k is the bias, up to softmax's constant.
            rest = expected.log() - raw[image, :, i, prefix:].unflatten(1, (HEIGHT, WIDTH))
            constant = (rest - maps.bias).mean((1, 2), keepdim=True)
            torch.testing.assert_close(rest, maps.bias + constant)
            assert maps.bias.std() > 1e-3


@pytest.mark.parametrize("cfg", CASES, ids=case_id)
def test_every_encoding_can_be_looked_at(cfg, float64):
    layer, probs = layer_and_probs(Model([cfg]), tokens(), TokenGrid(HEIGHT, WIDTH))
    for maps in query_maps(layer, [(0, 0), (2, 3)], image=1):
        expected = probs[1, :, maps.query[0] * WIDTH + maps.query[1]]
        torch.testing.assert_close(maps.attention.flatten(1), expected)
        assert maps.bias is None or maps.bias.shape == maps.attention.shape


@pytest.mark.parametrize("window", [(3, 2), (2, 4), (7, 9)])
def test_windows_lie_at_their_place(window, float64):
    model, x = Model([dict(type="SaPE2")], grid=window, window=window), tokens()
    layer, probs = layer_and_probs(model, x, TokenGrid(HEIGHT, WIDTH))
    (rows, cols), across = window, -(-WIDTH // window[1])
    windows = len(probs) // 2
    for maps in query_maps(layer, EVERY, image=1):
        y, x = maps.query
        number = windows + y // rows * across + x // cols
        for key_y, key_x in EVERY:
            value = maps.attention[:, key_y, key_x]
            if (y // rows, x // cols) == (key_y // rows, key_x // cols):
                i, j = (a % rows * cols + b % cols for a, b in ((y, x), (key_y, key_x)))
                torch.testing.assert_close(value, probs[number, :, i, j])
            else:
                assert value.isnan().all()
        assert torch.equal(maps.bias.isnan(), maps.attention.isnan())
        torch.testing.assert_close(maps.attention.nansum((1, 2)), torch.ones(2))


def test_what_cannot_be_read_is_blank(float64):
    valid = torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    valid[1, 3:] = valid[1, :, 2:] = False
    mask = torch.rand(1, 1, 20, 20) < 0.8
    mask |= torch.eye(20, dtype=torch.bool)
    grid = TokenGrid(HEIGHT, WIDTH, valid=valid.flatten(1), mask=mask)
    layer, probs = layer_and_probs(Model([dict(type="IRPE")]), tokens(), grid)
    (maps,) = query_maps(layer, [(2, 1)], image=1)
    blank = ~(valid[1] & mask[0, 0, 11].unflatten(0, (HEIGHT, WIDTH)))
    for values in (maps.attention, maps.bias):
        assert torch.equal(values.isnan(), blank.expand_as(values))
    expected = probs[1, :, 11].unflatten(1, (HEIGHT, WIDTH))
    torch.testing.assert_close(maps.attention.nan_to_num(), expected)
    assert valid_size(grid, 0) == (4, 5)
    assert valid_size(grid, 1) == (3, 2)
    with pytest.raises(InputError, match=r"query 3,0 lies in padding: of 4 x 5 patches .* has 3 x"):
        next(query_maps(layer, [(3, 0)], image=1))


@pytest.mark.parametrize("query", [(4, 0), (0, 5), (-1, 0)])
def test_a_query_outside_of_the_grid_is_refused(query):
    model = Model([])
    (layer,) = record(model, lambda: model(tokens().float(), TokenGrid(HEIGHT, WIDTH)), [0])
    with pytest.raises(InputError, match="outside of the 4 x 5 patches: y is 0 to 3, x is 0 to 4"):
        next(query_maps(layer, [query]))


def test_without_a_bias_there_is_no_map_of_it():
    model = Model([dict(type="PEG")])
    (layer,) = record(model, lambda: model(tokens().float(), TokenGrid(HEIGHT, WIDTH)), [1])
    assert next(query_maps(layer, [(0, 0)])).bias is None


def test_recording_leaves_no_hooks_and_names_what_is_missing():
    model = Model([])
    with pytest.raises(InputError, match="no layer 2: the model has 2 attention layers, 0 to 1"):
        record(model, lambda: None, [2])
    with pytest.raises(InputError, match="layer 1 did not run"):
        record(model, lambda: None, [1])
    with pytest.raises(ZeroDivisionError):
        record(model, lambda: 1 / 0, [1])
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(InputError, match="Linear has no attention of mmplugins"):
        attention_modules(torch.nn.Linear(1, 1))


def test_the_first_of_several_passes_is_kept():
    model, grid = Model([]), TokenGrid(HEIGHT, WIDTH)
    batches = [tokens(seed=seed).float() for seed in (1, 2)]
    (layer,) = record(model, lambda: [model(x, grid) for x in batches], [0])
    assert torch.equal(layer.x, model.blocks[0].norm1(batches[0]))


def test_maps_are_scaled_to_their_own_range():
    values = np.array([[-2.0, 0.0], [2.0, np.nan]])
    colours = BIAS.paint(values)
    inverted = DISTANCE.paint(values)
    assert np.allclose(inverted[0, 0, :3], 1)
    assert np.allclose(inverted[1, 0, :3], 0)
    assert np.allclose(colours[1, 1], to_rgba(BLANK))
    assert np.allclose(BIAS.paint(10 * values + 3), colours)
    assert np.allclose(BIAS.paint(0 * values)[0, 0], BIAS.paint(0 * values)[1, 0])
    assert BIAS.range(values) == "-2 … 2"
    assert BIAS.range(0 * values) == "0 everywhere"
    assert ATTENTION.range(np.array([1.2e-6, 0.25])) == "1e-4 … 25 %"


def test_a_mosaic_lays_maps_out_as_their_queries():
    queries = [(y, x) for y in (1, 4) for x in (0, 2, 5)]
    maps = {query: np.random.rand(6, 7) for query in queries}  # noqa: NPY002  seeded for all tests
    pixels = mosaic(maps, ATTENTION)
    assert pixels.shape == (2 * 6 + 1, 3 * 7 + 2, 4)
    for (y, x), values in maps.items():
        top, left = 7 * (1, 4).index(y), 8 * (0, 2, 5).index(x)
        tile, expected = pixels[top : top + 6, left : left + 7], ATTENTION.paint(values)
        expected[y, x] = to_rgba(QUERY)
        assert np.allclose(tile, expected)
    assert (pixels[6] == 1).all()


@pytest.mark.parametrize(
    ("pixels", "patches", "side"),
    [
        ((800, 1066), (25, 34), 32),
        ((224, 224), (16, 16), 14),
        ((100, 90), (7, 6), 16),
        ((10, 1000), (1, 1), 1024),
    ],
)
def test_patch_side(pixels, patches, side):
    expected = side if side < 1000 else 1000  # a single patch may be any larger
    assert patch_side(pixels, patches) == expected


def test_a_failed_page_leaves_the_old_one(tmp_path):
    out = tmp_path / "deep" / "page.png"
    save(Figure(figsize=(1, 1)), out)
    before = out.read_bytes()
    broken = Figure(figsize=(1, 1))
    broken.text(0, 0, r"$\nonsense$", parse_math=True)
    with pytest.raises(ValueError, match="nonsense"):
        save(broken, out)
    assert out.read_bytes() == before
    assert [file.name for file in out.parent.iterdir()] == ["page.png"]


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


@pytest.mark.parametrize(
    ("method", "ratio", "used", "allocated"),
    [  # https://github.com/microsoft/Cream: the names of its models count used buckets
        ("product", 1.9, [50], [50]),
        ("euclidean", 20.0, [20], [42]),
        ("quantisation", 33.0, [51], [68]),
        ("cross", 20.0, [28, 28], [82, 82]),
    ],
)
def test_published_numbers_of_buckets(method, ratio, used, allocated):
    tables = bucket_tables(TokenGrid(14, 14, 1), SideOptions(method=method, ratio=ratio))
    assert [table.used for table in tables] == used
    assert [table.allocated for table in tables] == allocated


@pytest.mark.parametrize(
    ("ratio", "index", "firsts"),
    [
        (1.9, "piecewise", [0, 1, 2, 4]),
        (3.5, "piecewise", [0, 1, 2, 3, 4, 7, 12, 21]),
        (2.0, "clip", [0, 1, 2, 3, 4]),
    ],
)
def test_where_buckets_begin(ratio, index, firsts):
    (table,) = bucket_tables(TokenGrid(3, 4), SideOptions(ratio=ratio, index=index))
    assert table.firsts() == dict(enumerate(firsts))
    assert describe(table).splitlines()[2].split()[-len(firsts) :] == [str(n) for n in firsts]


def test_borders_lie_between_buckets():
    """Clip with B = 1 on rows and columns: two lines each, at displacements of half a patch."""
    grid = TokenGrid(3, 4)
    tables = bucket_tables(grid, SideOptions(ratio=0.5, index="clip"))
    (axes,) = draw_buckets([tables], grid).axes
    segments = [line.get_data() for line in axes.lines if len(line.get_xdata()) == 2]
    ends = {tuple(zip(*segment, strict=True)) for segment in segments}
    horizontal = {((x - 0.5, y), (x + 0.5, y)) for y in (-0.5, 0.5) for x in range(-3, 4)}
    vertical = {((x, y - 0.5), (x, y + 0.5)) for x in (-0.5, 0.5) for y in range(-2, 3)}
    assert ends == horizontal | vertical
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places["4"] == (0, 0)
    assert places["0"] == (2, 1.5)  # the published id of a query at the top left, a key below right
    assert places["8"] == (-2, -1.5)


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


def test_show_buckets_draws(folder, environ):
    options = "--method", "cross", "--ratio", "1.9", "2", "--grid", "5x9"
    run, out = run_viewer("show_buckets.py", folder, environ, *options)
    assert run.code == 0, run.said
    assert "cols, ratio 2, piecewise: B = 4, 10 buckets, 8 used" in run.said
    assert np.asarray(Image.open(out).convert("RGB")).std() > 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--grid", "14"), "a grid is HEIGHTxWIDTH, as in 14x14, not `14`"),
        (("--ratio", "-1"), "error: IRPE: ratio must be positive, not -1.0"),
        (("--prefix", "-1"), "error: no grid has 14 x 14 + -1 tokens"),
        (("--method", "swin"), "invalid choice: 'swin'"),
    ],
)
def test_show_buckets_names_what_is_wrong(options, said, folder, environ):
    run, _ = run_viewer("show_buckets.py", folder, environ, *options)
    assert run.code != 0
    assert "Traceback" not in run.said
    assert said in run.said


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
