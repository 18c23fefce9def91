"""PEG and QKPEG beside slow loops, the equivariance they have, and the sizes in the papers."""

import math
from itertools import product

import pytest
import torch
from layers import HEIGHT, WIDTH, on_canvas, patches, tokens
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmplugins.attention import Attention
from mmplugins.grid import TokenGrid
from mmplugins.models.vit import ViT
from mmplugins.position_encodings import PEG, QKPEG, Dims

DIMS = Dims(embed_dims=8, num_heads=2, depth=12, grid=(14, 14))
CONVS = ["depthwise", "separable", "dense"]
CONTINUED = ["circular", "replicate", "reflect"]
PADDINGS = ["zeros", *CONTINUED, "valid"]


def make(seed=0, channels=8, **options) -> PEG:
    """In double precision and evaluation mode, nothing left at zero."""
    torch.manual_seed(seed)
    peg = PEG(Dims(embed_dims=channels, num_heads=2, depth=12, grid=(4, 5)), **options).double()
    for name, value in peg.state_dict().items():
        if value.is_floating_point():
            nn.init.normal_(value, std=0.5)
            if name.endswith("var"):
                value.square_()
    return peg.eval()


def rectangle(height, width, top, left, bottom, right, holes=()) -> torch.Tensor:
    valid = torch.zeros(1, height, width, dtype=torch.bool)
    valid[:, top:bottom, left:right] = True
    for y, x in holes:
        valid[:, y, x] = False
    return valid


LAYOUTS = {
    "whole": (4, 5, None),
    "rows": (5, 1, None),
    "canvas": (5, 7, rectangle(5, 7, 1, 2, 4, 6, holes=[(2, 3)])),
    "corner": (5, 5, rectangle(5, 5, 3, 3, 5, 5)),
    "nothing": (2, 3, rectangle(2, 3, 0, 0, 0, 0)),
}


def walk(place: int, first: int, last: int, padding: str) -> int | None:
    """From beyond the ends of a line to the place that stands there, step by step."""
    while not first <= place <= last:
        near = first if place < first else last
        if padding in ("zeros", "valid"):
            return None
        if padding == "circular":
            place += (last - first + 1) * (1 if place < first else -1)
        elif padding == "replicate" or first == last:
            place = near
        else:
            place = 2 * near - place
    return place


def slow_convolution(layer, picture: dict, size: int, padding: str) -> dict:
    """{(y, x): code} of the tokens `picture`, the valid ones."""
    if not picture:
        return {}
    ends = [(min(line), max(line)) for line in zip(*picture, strict=True)]
    weight = layer.conv.weight
    codes = {}
    for y, x in picture:
        code, sticks_out = torch.zeros(len(weight), dtype=weight.dtype), False
        for row, col in product(range(size), repeat=2):
            at = y + row - size // 2, x + col - size // 2
            at = tuple(walk(p, *end, padding) for p, end in zip(at, ends, strict=True))
            if at not in picture:
                sticks_out = True
            elif layer.conv.groups == 1:
                code = code + weight[:, :, row, col] @ picture[at]
            else:
                code = code + weight[:, 0, row, col] * picture[at]
        if padding == "valid" and sticks_out:
            continue
        if layer.pointwise is not None:
            code = layer.pointwise.weight @ code
        bias = (layer.pointwise or layer.conv).bias
        codes[y, x] = code if bias is None else code + bias
    return codes


def slow(peg: PEG, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """[H, W, C] in and out, by loops over the definition."""
    options = peg.layers.options
    codes = {(y, c): x[y, c] for y, c in valid.nonzero().tolist()}
    for layer in peg.layers:
        codes = slow_convolution(layer, codes, options.kernel_size, options.padding_mode)
        for at, code in codes.items():
            if layer.norm is not None:
                n = layer.norm
                code = n.weight * (code - n.running_mean) / (n.running_var + n.eps).sqrt() + n.bias
            if options.act == "gelu":
                code = code * 0.5 * (1 + torch.erf(code / math.sqrt(2)))
            elif options.act == "relu":
                code = code.clamp(min=0)
            codes[at] = code
    out = x.clone()
    for at, code in codes.items():
        out[at] += code
    return out


def check_slow(layout: str, **options) -> None:
    height, width, valid = LAYOUTS[layout]
    peg = make(**options)
    x = tokens(batch=1, height=height, width=width, embed_dims=8)
    out = peg(x, TokenGrid(height, width, valid=valid if valid is None else valid.flatten(1)))
    everywhere = rectangle(height, width, 0, 0, height, width)
    with torch.no_grad():
        expected = slow(
            peg, x[0].unflatten(0, (height, width)), (everywhere if valid is None else valid)[0]
        )
    torch.testing.assert_close(out[0], expected.flatten(0, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("conv", CONVS)
def test_peg_equals_loops_over_the_definition(conv, padding, layout):
    check_slow(layout, conv=conv, padding_mode=padding)


@pytest.mark.parametrize("layout", ["whole", "canvas", "corner"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    "options",
    [
        dict(num_layers=2, act="gelu"),
        dict(num_layers=2, norm="batch", act="relu", conv="separable"),
        dict(kernel_size=7, bias=False),
    ],
    ids=str,
)
def test_stacks_norms_and_wide_kernels_equal_the_loops(options, padding, layout):
    check_slow(layout, padding_mode=padding, **options)


def test_prefix_tokens_pass_by():
    x = torch.randn(2, 22, 8)
    assert torch.equal(PEG(DIMS)(x, TokenGrid(4, 5, 2))[:, :2], x[:, :2])


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("padding", ["zeros", *CONTINUED])
@pytest.mark.parametrize("conv", ["depthwise", "dense"])
def test_folding_changes_nothing(conv, padding, padded):
    peg = make(channels=16, conv=conv, padding_mode=padding)
    folded = make(seed=1, channels=16, conv=conv, padding_mode=padding).fold()
    folded.load_state_dict(peg.state_dict())
    x, grid = tokens(), TokenGrid(HEIGHT, WIDTH)
    if padded:
        x, grid = on_canvas(x, canvas=(6, 8), offset=(1, 2))
    out, same = peg(x, grid), folded(x, grid)
    torch.testing.assert_close(same, out, rtol=0, atol=1e-12)
    for result in (out, same):
        result.square().sum().backward()
    grads, same_grads = ([p.grad for p in e.parameters()] for e in (peg, folded))
    torch.testing.assert_close(same_grads, grads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(conv="separable"), "conv depthwise or dense, not separable"),
        (dict(num_layers=2), "num_layers 1, not 2"),
        (
            dict(padding_mode="valid"),
            "padding_mode zeros or circular or replicate or reflect, not valid",
        ),
        (dict(norm="batch"), "norm none, not batch"),
        (dict(act="gelu"), "act none, not gelu"),
    ],
)
def test_what_cannot_be_folded_says_so(options, message):
    with pytest.raises(ValueError, match=rf"^PEG: fold\(\) needs {message}$"):
        make(**options).fold()


# Initialisation and training.


@pytest.mark.parametrize(
    ("options", "fan_outs"),
    [
        ({}, {"conv": 9}),
        (dict(kernel_size=5, conv="separable"), {"conv": 25, "pointwise": 512}),
        (dict(conv="dense"), {"conv": 9 * 512}),
    ],
    ids=str,
)
def test_fan_out_is_that_of_twins(options, fan_outs):
    dims = Dims(embed_dims=512, num_heads=1, depth=1, grid=(4, 5))
    (layer,) = PEG(dims, **options).layers
    for name, fan_out in fan_outs.items():
        weight = getattr(layer, name).weight
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert not (layer.pointwise or layer.conv).bias.any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(conv="separable", act="gelu"),
        dict(conv="dense", num_layers=2, act="gelu"),
        dict(num_layers=2, norm="batch"),
    ],
    ids=str,
)
def test_from_zero_it_starts_as_nothing_and_learns_everything(options):
    torch.manual_seed(0)
    peg = PEG(DIMS, init="zero", **options).double()
    x, grid, aim = tokens(embed_dims=8), TokenGrid(4, 5), tokens(embed_dims=8, seed=2)
    assert torch.equal(peg(x, grid), x)
    optimizer = torch.optim.SGD(peg.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        (peg(x, grid) - aim).square().sum().backward()
        optimizer.step()
    assert [name for name, p in peg.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize("constructor", ["Default", "LayerDecay"])
def test_frozen_stays_random(constructor):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = ViT(
                dict(embed_dims=8, depth=1, num_heads=2),
                out_indices=(0,),
                position_encodings=[dict(type="PEG", frozen=True), dict(type="QKPEG", frozen=True)],
            )

    model = Model()
    rule = dict(norm_decay_mult=0.0) if constructor == "Default" else dict(layer_decay_rate=0.5)
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.1),
            constructor=f"{constructor}OptimWrapperConstructor",
            paramwise_cfg=rule,
        ),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapper.update_params(model.backbone(torch.randn(2, 3, 32, 48))[0].square().mean())
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {name for name in before if "peg." not in name}


@pytest.mark.parametrize("padding", PADDINGS)
def test_batch_norm_sees_valid_tokens_alone(padding):
    """In training too, an image's tokens and the statistics do not depend on padding."""
    options = dict(channels=16, padding_mode=padding, norm="batch", act="relu")
    alone, padded = make(**options).train(), make(**options).train()
    x, (canvas, grid) = tokens(), on_canvas(tokens(), canvas=(6, 8), offset=(1, 2))
    expected = alone(x, TokenGrid(HEIGHT, WIDTH, valid=torch.ones(2, 20, dtype=torch.bool)))
    torch.testing.assert_close(patches(padded(canvas, grid), grid), expected)
    torch.testing.assert_close(padded.state_dict(), alone.state_dict())
    if padding != "valid":
        unmasked = make(**options).train()
        torch.testing.assert_close(unmasked(x, TokenGrid(HEIGHT, WIDTH)), expected)
        torch.testing.assert_close(unmasked.state_dict(), alone.state_dict())


def test_batch_norm_of_images_of_two_sizes():
    peg, bare = make(norm="batch").train(), make(bias=False)
    bare.layers[0].conv.load_state_dict(peg.layers[0].conv.state_dict())
    before = peg.layers[0].norm.running_mean.clone()
    x = tokens(height=5, width=6, embed_dims=8)
    valid = torch.cat([rectangle(5, 6, 0, 0, 4, 5), rectangle(5, 6, 2, 1, 5, 3)]).flatten(1)
    grid = TokenGrid(5, 6, valid=valid)
    peg(x, grid)
    codes = (bare(x, grid) - x)[valid]
    assert codes.shape == (20 + 6, 8)
    expected = 0.9 * before + 0.1 * codes.mean(0)
    torch.testing.assert_close(peg.layers[0].norm.running_mean, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(kernel_size=4), "kernel_size must be odd, not 4"),
        (dict(kernel_size=-1), "kernel_size must be odd, not -1"),
        (dict(num_layers=0), "num_layers must be positive, not 0"),
        (dict(init="zero", act="relu"), "init='zero' never learns behind act='relu'"),
        (dict(init="zero", frozen=True), "init='zero' and frozen=True would encode nothing"),
    ],
)
@pytest.mark.parametrize("encoding", [PEG, QKPEG])
def test_options_that_do_not_fit(encoding, options, message):
    with pytest.raises(ValueError, match=f"^PEG: {message}"):
        encoding(DIMS, **options)


# On queries and keys.


def test_qkpeg_moves_queries_and_keys_alone():
    """Against attention written out, with PEG's own code."""
    dims = Dims(embed_dims=16, num_heads=2, depth=1, grid=(HEIGHT, WIDTH), prefix=1)
    attention = Attention(dims, nn.ModuleDict({"qkpeg": QKPEG(dims)})).double()
    peg = make(channels=16)
    attention.pos["qkpeg"].load_state_dict(peg.state_dict())
    x, grid = tokens(prefix=1), TokenGrid(HEIGHT, WIDTH, 1)
    weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
    q, k, v = (
        (of @ w.T + b).unflatten(-1, (2, 8)).transpose(1, 2)
        for of, w, b in zip((peg(x, grid), peg(x, grid), x), weights, biases, strict=True)
    )
    probs = (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(-1)
    expected = attention.proj((probs @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, grid), expected, rtol=0, atol=1e-12)
