"""What every registered encoding must do, whatever it is."""

import inspect
import itertools
import re
from typing import Literal, get_origin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import (
    CASES,
    HEIGHT,
    WIDTH,
    Model,
    case_id,
    on_canvas,
    patches,
    roll,
    tokens,
)
from tool_runs import run_tool
from torch.func import functional_call

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import AttentionEncoding, Dims
from mmplugins.registry import POSITION_ENCODINGS

each_case = pytest.mark.parametrize("cfg", CASES, ids=case_id)
each_prefix = pytest.mark.parametrize("prefix", [0, 1, 2])


def build(cfg, prefix=0):
    dims = Dims(embed_dims=16, num_heads=2, depth=2, grid=(HEIGHT, WIDTH), prefix=prefix)
    return POSITION_ENCODINGS.build(dict(cfg), default_args=dict(dims=dims))


IN_ATTENTION = [cfg for cfg in CASES if isinstance(build(cfg), AttentionEncoding)]


def close(a, b, tolerance=1e-12):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@each_case
@each_prefix
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_keeps_shape_and_dtype(cfg, prefix, dtype):
    x = tokens(prefix=prefix, dtype=dtype)
    out = Model([cfg], prefix=prefix).to(dtype)(x, TokenGrid(HEIGHT, WIDTH, prefix))
    assert out.shape == x.shape
    assert out.dtype == dtype
    assert out.isfinite().all()


@each_case
def test_bfloat16_is_near_double(cfg):
    model, grid = Model([cfg]).double(), TokenGrid(HEIGHT, WIDTH)
    exact = model(tokens(), grid)
    with torch.autocast("cpu", torch.bfloat16):
        out = model.float()(tokens(dtype=torch.float32), TokenGrid(HEIGHT, WIDTH))
    assert (out - exact).norm() < 0.05 * exact.norm()


@each_case
@each_prefix
def test_every_parameter_learns(cfg, prefix):
    model = Model([cfg], prefix=prefix).double()
    model(tokens(prefix=prefix), TokenGrid(HEIGHT, WIDTH, prefix)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert "frozen" in cfg
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@each_case
def test_gradients_are_right(cfg):
    grid = 2, 3
    model = Model([cfg], prefix=1, grid=grid, embed_dims=8).double()
    x = tokens(batch=1, height=2, width=3, prefix=1, embed_dims=8)
    learned = {n: p.detach().clone() for n, p in model.named_parameters() if ".pos." in f".{n}"}
    values = [x, *learned.values()]

    def run(x, *parameters):
        replaced = dict(zip(learned, parameters, strict=True))
        return functional_call(model, replaced, (x, TokenGrid(*grid, 1))).sin().sum()

    inputs = [value.requires_grad_() for value in values]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@each_case
@each_prefix
@pytest.mark.parametrize("masked", [False, True])
def test_kernels_agree(cfg, prefix, masked):
    """With the specification, in what comes out and in all gradients."""
    valid = torch.ones(2, HEIGHT * WIDTH, dtype=torch.bool)
    valid[1, 7:] = not masked
    model, x = Model([cfg], prefix=prefix).double(), tokens(prefix=prefix)

    def run(kernel):
        out = model.set_kernel(kernel)(x, TokenGrid(HEIGHT, WIDTH, prefix, valid))
        learned = [p for p in model.parameters() if p.requires_grad]
        return [out, *torch.autograd.grad(out.sin().sum(), learned)]

    exact = run("eager")
    rows = {"name": "chunked", "limit_mib": 7 * 2 * 20 / 2**18}  # a few, of one head
    kernels = ["auto", "chunked", rows, "sdpa"]
    if any(e.context(TokenGrid(1, 1, prefix)) for e in model.blocks[0].attn.pos.values()):
        with pytest.raises(ValueError, match="acts on the values, which kernel sdpa cannot"):
            run(kernels.pop())
    for kernel in kernels:
        assert all(map(close, run(kernel), exact)), kernel


@each_case
@pytest.mark.parametrize("shift", [(1, 2), (0, 1)])
def test_holds_what_it_claims_of_equivariance(cfg, shift):
    model, x = Model([cfg]).double(), tokens()
    first, second = (on_canvas(x, canvas=(6, 8), offset=offset) for offset in [(0, 0), shift])
    canvas = close(*(patches(model(x, grid), grid) for x, grid in (first, second)))
    rolled = close(
        roll(model(x, TokenGrid(HEIGHT, WIDTH)), shift),
        model(roll(x, shift), TokenGrid(HEIGHT, WIDTH)),
    )
    claims = build(cfg).equivariant
    assert (canvas, rolled) == ("canvas" in claims, "roll" in claims)


def test_the_empty_list_is_equivariant():
    model, x = Model([]).double(), tokens()
    out = model(x, TokenGrid(HEIGHT, WIDTH))
    assert close(roll(out, (1, 2)), model(roll(x, (1, 2)), TokenGrid(HEIGHT, WIDTH)))
    shifted, grid = on_canvas(x, canvas=(6, 8), offset=(2, 1))
    assert close(patches(model(shifted, grid), grid), out)


@each_case
def test_padding_stays_out(cfg):
    """An image's tokens do not depend on padded content, nor on being padded."""
    model, x = Model([cfg]).double(), tokens()
    padded, grid = on_canvas(x, canvas=(6, 8), offset=(0, 0))
    noisy = torch.where(grid.valid[..., None], padded, 1e3 * padded.cos())
    assert close(*(patches(model(x, grid), grid) for x in (padded, noisy)))
    alone = model(x, TokenGrid(HEIGHT, WIDTH))
    assert close(patches(model(padded, grid), grid), alone) == build(cfg).padding_free


@each_case
@pytest.mark.parametrize(("height", "width"), [(1, 6), (6, 1), (1, 1), (7, 3)])
def test_other_grids(cfg, height, width):
    model = Model([cfg], prefix=1).double()
    out = model(tokens(height=height, width=width, prefix=1), TokenGrid(height, width, 1))
    assert out.isfinite().all()


@pytest.mark.parametrize(
    "pair",
    [
        pair
        for pair in itertools.combinations(IN_ATTENTION, 2)
        if pair[0]["type"] < pair[1]["type"]  # two of a type are told apart by their place
    ],
    ids=lambda pair: "+".join(map(case_id, pair)),
)
def test_lists_commute(pair):
    one, other = Model(pair).double(), Model(pair[::-1]).double()
    other.load_state_dict(one.state_dict())
    out, swapped = (model(tokens(), TokenGrid(HEIGHT, WIDTH)) for model in (one, other))
    assert close(out, swapped)


@each_case
def test_one_full_window_is_global(cfg):
    whole, windowed = Model([cfg]).double(), Model([cfg], window=(HEIGHT, WIDTH)).double()
    x = tokens()
    assert close(whole(x, TokenGrid(HEIGHT, WIDTH)), windowed(x, TokenGrid(HEIGHT, WIDTH)))


@pytest.mark.parametrize("cfg", IN_ATTENTION, ids=case_id)
def test_windows_do_not_see_each_other_nor_their_filling(cfg):
    model, x = Model([cfg], grid=(2, 3), window=(2, 3)).double(), tokens()
    out = model(x, TokenGrid(HEIGHT, WIDTH)).unflatten(1, (HEIGHT, WIDTH))
    corner = x.unflatten(1, (HEIGHT, WIDTH))[:, 2:, 3:]  # 2 x 2 patches, filled up to 2 x 3
    alone = model(corner.flatten(1, 2), TokenGrid(2, 2, window=True))
    assert close(out[:, 2:, 3:].flatten(1, 2), alone)


@each_case
def test_state_dict_holds_what_is_learned(cfg):
    model, copy = Model([cfg], prefix=1), Model([cfg], prefix=1, seed=5)
    running = {n for n, _ in model.named_buffers() if "norm." in n}  # batch norm learns them too
    assert model.state_dict().keys() == dict(model.named_parameters()).keys() | running
    copy.load_state_dict(model.state_dict())
    x = tokens(prefix=1, dtype=torch.float32)
    out, again = (m(x, TokenGrid(HEIGHT, WIDTH, 1)) for m in (model, copy))
    assert torch.equal(out, again)


@each_case
def test_initialises_itself_after_a_hostile_host(cfg):
    encoding = build(cfg, prefix=1)
    torch.manual_seed(0)
    encoding.init_weights()
    fresh = {name: value.clone() for name, value in encoding.state_dict().items()}
    for parameter in encoding.parameters():
        torch.nn.init.constant_(parameter, 7.0)
    torch.manual_seed(0)
    encoding.init_weights()
    for name, value in encoding.state_dict().items():
        assert torch.equal(value, fresh[name]), name
        assert not (value == 7).any(), name


@each_case
def test_geometry_is_shared_and_small(cfg):
    """Nothing as large as a pair of tokens outlives the layer that made it."""
    grid = TokenGrid(height=12, width=13)
    Model([cfg])(tokens(height=12, width=13, dtype=torch.float32), grid)
    kept = torch.utils._pytree.tree_leaves(list(grid._shared.values()))
    kept = [getattr(value, "table", value) for value in kept]  # of Buckets; pairs: test_irpe
    assert all(t.numel() < grid.num_tokens**2 / 4 for t in kept if isinstance(t, torch.Tensor))


@each_case
def test_recomputing_blocks_changes_nothing(cfg):
    model, x = Model([cfg], prefix=1).double(), tokens(prefix=1)
    learned = [p for p in model.parameters() if p.requires_grad]
    plain, again = (
        torch.autograd.grad(
            model(x, TokenGrid(HEIGHT, WIDTH, 1), with_cp=with_cp).sin().sum(), learned
        )
        for with_cp in (False, True)
    )
    assert all(close(a, b) for a, b in zip(plain, again, strict=True))


@each_case
def test_meta_construction(cfg):
    with torch.device("meta"):
        model = Model([cfg])
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("half", [0, 1])
def test_traces(half, tmp_path):
    """Without graph breaks, and with torch.export; apart, since dynamo cannot trace jaxtyping."""
    run = run_tool("../tests/trace_cases.py", half, environ={"LOGS": str(tmp_path)})
    assert run.code == 0, run.said[-3000:]
    assert re.findall("^traced (.*)$", run.said, re.M) == [case_id(c) for c in CASES[half::2]]


def regions(height, width, prefix, row, col):
    """The mask of windows shifted by `row` and `col`: within one of four regions, or a prefix."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    region = torch.nn.functional.pad((2 * (y < row) + (x < col)).flatten(), (prefix, 0), value=-1)
    same = region[:, None] == region
    return (same | (region == -1) | (region[:, None] == -1))[None, None]


@pytest.mark.parametrize("cfg", IN_ATTENTION, ids=case_id)
@each_prefix
def test_regions_of_a_mask_do_not_see_each_other(cfg, prefix):
    model, x = Model([cfg], prefix=prefix).double(), tokens(prefix=prefix)
    top = torch.nn.functional.pad(torch.arange(HEIGHT * WIDTH) < 2 * WIDTH, (prefix, 0))
    # The prefix is a region of its own: it would carry the news from one to the other.
    region = torch.where(top, 1, torch.arange(prefix + HEIGHT * WIDTH).ge(prefix) * 2)
    grid = TokenGrid(HEIGHT, WIDTH, prefix, mask=(region[:, None] == region)[None, None])
    if cfg["type"] == "QKPEG":
        with pytest.raises(ValueError, match="QKPEG: a convolution cannot keep the regions"):
            model(x, grid)
        return
    changed = torch.where((region == 2)[:, None], tokens(prefix=prefix, seed=9), x)
    out, other = model(x, grid), model(changed, grid)
    assert close(out[:, region != 2], other[:, region != 2])
    assert not close(out[:, region == 2], other[:, region == 2])


@settings(max_examples=60)
@given(
    cfg=st.sampled_from(CASES),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    prefix=st.integers(0, 2),
    num_heads=st.sampled_from([1, 2, 3]),
    precision=st.sampled_from([(torch.float64, 1e-9), (torch.float32, 1e-3)]),
    data=st.data(),
)
def test_any_grid_and_any_padding(cfg, height, width, prefix, num_heads, precision, data):
    """No NaN, no dependence on padded content, on the batch, or on a row that reads nothing."""
    size, (dtype, tolerance) = height * width, precision
    rows = st.lists(st.booleans(), min_size=size, max_size=size)
    valid = torch.tensor([data.draw(rows), data.draw(rows)])
    row, col = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    masked = data.draw(st.booleans()) and cfg["type"] != "QKPEG"  # which refuses masks
    mask = regions(height, width, prefix, row, col) if masked else None
    embed_dims = 8 * num_heads
    model = Model([cfg], prefix=prefix, embed_dims=embed_dims, num_heads=num_heads).to(dtype)
    x = tokens(height=height, width=width, prefix=prefix, embed_dims=embed_dims, dtype=dtype)
    real = torch.nn.functional.pad(valid, (prefix, 0), value=True)
    out = model(x, TokenGrid(height, width, prefix, valid, mask))
    assert out.isfinite().all()
    noisy = torch.where(real[..., None], x, -50 * x)
    again = model(noisy, TokenGrid(height, width, prefix, valid, mask))
    assert close(again[real], out[real], tolerance)
    alone = model(x[:1], TokenGrid(height, width, prefix, valid[:1], mask))
    assert close(alone[real[:1]], out[:1][real[:1]], tolerance)


def closed_options():
    """(encoding, option) of every option that is one of a few words."""
    for name, encoding in sorted(POSITION_ENCODINGS.module_dict.items()):
        for option, parameter in inspect.signature(encoding).parameters.items():
            if get_origin(parameter.annotation) is Literal:
                yield name, option


@pytest.mark.parametrize(("name", "option"), closed_options())
def test_a_value_that_is_no_choice_is_refused(name, option):
    with pytest.raises(ValueError, match=f"{name}: {option} is one of .*, not 'nonsense'"):
        build({"type": name, option: "nonsense"})
