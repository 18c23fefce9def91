"""Lists of encodings: each acts as it does alone, padded and in windows too."""

import pytest
import torch
from layers import HEIGHT, WIDTH, Model, on_canvas, patches, tokens

from mmplugins.attention import project
from mmplugins.grid import TokenGrid

LISTS = [
    [dict(type="SaPE2"), dict(type="LearnedAPE")],
    [dict(type="RoPE"), dict(type="LearnedAPE", coords="index")],
    [dict(type="RoPE", variant="mixed"), dict(type="SinCos2D", coords="normalized")],
    [dict(type="PEG", after=(-1, 0)), dict(type="LearnedAPE")],
    [dict(type="IRPE", on="qkv"), dict(type="DetrSine")],
    [dict(type="RelativePositionBias"), dict(type="DetrSine")],
    [dict(type="RelativePositionBias", resize="clamp"), dict(type="RoPE", coords="normalized")],
    [dict(type="LogCPB", hidden_dims=8), dict(type="IRPE"), dict(type="SaPE2"), dict(type="RoPE")],
]
each_list = pytest.mark.parametrize(
    "cfgs", LISTS, ids=lambda cfgs: "+".join(cfg["type"] for cfg in cfgs)
)


def close(a, b):
    return torch.allclose(a, b, rtol=1e-11, atol=1e-11)


def encodings(model):
    """All of one block and of the residual stream."""
    return [
        *model.blocks[0].attn.pos.values(),
        *(encoding for place in model.pos.values() for encoding in place.values()),
    ]


@each_list
def test_a_list_promises_what_all_of_it_promise(cfgs):
    """Of shifts on a canvas, and of padding, whose content never shows."""
    model, x = Model(cfgs).double(), tokens()
    corner, grid = on_canvas(x, canvas=(6, 8), offset=(0, 0))
    out = patches(model(corner, grid), grid)
    noisy = torch.where(grid.valid[..., None], corner, 1e3 * corner.cos())
    assert close(patches(model(noisy, grid), grid), out)
    alone = model(x, TokenGrid(HEIGHT, WIDTH))
    assert close(alone, out) == all(e.padding_free for e in encodings(model))
    shifted = on_canvas(x, canvas=(6, 8), offset=(1, 2))
    moved = patches(model(*shifted), shifted[1])
    assert close(moved, out) == all("canvas" in e.equivariant for e in encodings(model))


@each_list
def test_a_list_in_windows(cfgs):
    """One full window is global attention, and no window sees another."""
    whole, windowed = Model(cfgs).double(), Model(cfgs, window=(HEIGHT, WIDTH)).double()
    x = tokens()
    assert close(whole(x, TokenGrid(HEIGHT, WIDTH)), windowed(x, TokenGrid(HEIGHT, WIDTH)))

    small = Model(cfgs, grid=(2, 3), window=(2, 3)).double()
    changed = x.unflatten(1, (HEIGHT, WIDTH)).clone()
    changed[:, 2:, 3:] = changed[:, :2, :2]  # the last window; a constant, norms would remove
    out, other = (
        small(t, TokenGrid(HEIGHT, WIDTH)).unflatten(1, (HEIGHT, WIDTH))
        for t in (x, changed.flatten(1, 2))
    )
    same = torch.isclose(out, other, rtol=1e-11, atol=1e-11).all(-1).all(0)
    mixes = any(cfg["type"] == "PEG" for cfg in cfgs)  # tokens, outside of attention
    assert not same[2:, 3:].any()
    assert (same[:2].all() and same[:, :3].all()) == (not mixes)


@each_list
def test_biases_add_and_see_nothing_of_rotations(cfgs):
    """Each reads the q and k that it would read alone, with what is added to their input."""
    model, x, grid = Model(cfgs).double(), tokens(), TokenGrid(HEIGHT, WIDTH)
    attn, pos = model.blocks[0].attn, list(model.blocks[0].attn.pos.values())
    inputs = [e for e in pos if e.inputs(x, grid) is not None]
    others = [e for e in pos if e not in inputs]

    def terms(encodings):
        return project(x, grid, attn.qkv.weight, attn.qkv.bias, encodings, num_heads=2)

    plain, together, alone = terms(inputs), terms(pos), [terms([*inputs, e]) for e in others]
    biases = [t.bias.dense() for t in alone if t.bias is not None]
    assert (together.bias is None) == (not biases)
    if biases:
        assert close(together.bias.dense(), sum(biases))
    turned = [t.q for t in alone if not torch.equal(t.q, plain.q)]
    assert len(turned) == sum(cfg["type"] == "RoPE" for cfg in cfgs)
    assert torch.equal(together.q, *(turned or [plain.q]))
