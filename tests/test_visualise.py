"""The viewers: their maps are what models compute, their pages are pictures."""

import math

import numpy as np
import pytest
import torch
from layers import CASES, HEIGHT, WIDTH, Model, case_id, tokens
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from mmplugins.bias import Context
from mmplugins.engine.inputs import InputError
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding
from mmplugins.visualise.maps import query_maps, valid_size
from mmplugins.visualise.page import patch_side, save
from mmplugins.visualise.paint import ATTENTION, BIAS, BLANK, DISTANCE, QUERY, mosaic
from mmplugins.visualise.record import attention_modules, record

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
EVERY = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)]


class Spy(AttentionEncoding):
    """Keeps the probabilities that the model itself attends with."""

    def context(self, grid):
        return SpiedValues(self)


class SpiedValues(Context):
    tensors = ()

    def __init__(self, spy):
        self.spy = spy

    def of(self, tensors):
        return self

    def rows(self, probs, start, stop):
        self.spy.probs = probs.detach()
        return torch.zeros(*probs.shape[:3], 1, dtype=probs.dtype)


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
