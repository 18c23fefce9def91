"""Biases of displacements, Swin's table and SwinV2's network, beside loops and timm's modules."""

import math
from typing import get_args

import pytest
import torch
from timm.layers import RelPosBias, RelPosMlp

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import Dims, LogCPB, RelativePositionBias
from mmplugins.position_encodings.resize import Resize, resize_picture

HEADS, TRAIN = 2, (4, 5)
GRIDS = [(4, 5), (3, 7), (8, 10), (1, 1)]


def make(encoding, *, grid=TRAIN, prefix=0, **options):
    dims = Dims(embed_dims=8, num_heads=HEADS, depth=1, grid=grid, prefix=prefix)
    encoding = encoding(dims, **options).double()
    for parameter in encoding.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return encoding.requires_grad_(False)


def bias(encoding, height, width, prefix=0) -> torch.Tensor:
    """[h, N, N]."""
    grid = TokenGrid(height, width, prefix)
    q = torch.zeros(1, HEADS, grid.num_tokens, 4, dtype=torch.float64)
    return encoding.logit_bias(q, q, q, grid).dense()[0]


def loops(height, width, prefix, value, prefix_value) -> torch.Tensor:
    """value(dy, dx), or prefix_value, for each pair of tokens."""
    count = prefix + height * width
    out = torch.empty(HEADS, count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            if min(i, j) < prefix:
                out[:, i, j] = prefix_value
            else:
                (y, x), (y_key, x_key) = (divmod(t - prefix, width) for t in (i, j))
                out[:, i, j] = value(y - y_key, x - x_key)
    return out


@pytest.mark.parametrize("resize", [*get_args(Resize), "clamp"])
@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_table_is_read_at_the_displacement(resize, height, width, prefix):
    encoding = make(RelativePositionBias, prefix=prefix, resize=resize)
    table = encoding.table
    if resize != "clamp":
        sides = dict(height=2 * height - 1, width=2 * width - 1)
        table = resize_picture(table[None], **sides, mode=resize)[0]

    def value(dy, dx):
        if resize == "clamp":
            dy, dx = max(-3, min(dy, 3)), max(-4, min(dx, 4))
        return table[:, dy + table.shape[1] // 2, dx + table.shape[2] // 2]

    expected = loops(height, width, prefix, value, encoding.prefix_bias)
    torch.testing.assert_close(bias(encoding, height, width, prefix), expected)


def test_swins_table_is_timms():
    encoding, stock = make(RelativePositionBias), RelPosBias(TRAIN, HEADS).double()
    stock.relative_position_bias_table.data = encoding.table.flatten(1).T
    assert torch.equal(bias(encoding, *TRAIN), stock.get_bias()[0])


def spaced(displacement, side):
    sign = (displacement > 0) - (displacement < 0)
    return sign * math.log2(1 + abs(8 * displacement / max(side - 1, 1))) / math.log2(8)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("train", [TRAIN, (1, 3)])
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_network_is_asked_for_each_displacement(height, width, train, prefix):
    encoding = make(LogCPB, grid=train, prefix=prefix, hidden_dims=3)
    weights = {name: value.tolist() for name, value in encoding.state_dict().items()}

    def sigmoid(logits):
        return torch.tensor([16 / (1 + math.exp(-logit)) for logit in logits]).double()

    def value(dy, dx):
        u = spaced(dy, train[0]), spaced(dx, train[1])
        hidden = [
            max(0.0, to_y * u[0] + to_x * u[1] + b)
            for (to_y, to_x), b in zip(weights["fc1.weight"], weights["fc1.bias"], strict=True)
        ]
        return sigmoid(
            [sum(w * f for w, f in zip(row, hidden, strict=True)) for row in weights["fc2.weight"]]
        )

    prefix_value = sigmoid(weights["prefix_logit"]) if prefix else None
    expected = loops(height, width, prefix, value, prefix_value)
    out = bias(encoding, height, width, prefix)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("window", [(4, 5), (6, 3)])
def test_swin_v2s_network_is_timms(window):
    """At its own window, and at another than that of its training."""
    encoding = make(LogCPB, hidden_dims=7)
    stock = RelPosMlp(window, HEADS, hidden_dim=7, mode="swin", pretrained_window_size=TRAIN).eval()
    stock.mlp.load_state_dict(encoding.state_dict())
    out = bias(encoding, *window).float()
    torch.testing.assert_close(out, stock.get_bias()[0], rtol=0, atol=1e-5)


def test_a_network_gives_a_displacement_the_same_bias_on_any_grid():
    encoding = make(LogCPB, hidden_dims=7)
    small, large = (bias(encoding, *size) for size in [(3, 4), (9, 11)])
    rows = torch.arange(9 * 11).unflatten(0, (9, 11))[2:5, 6:10].flatten()  # 3 x 4 patches within
    torch.testing.assert_close(large[:, rows][:, :, rows], small, rtol=0, atol=1e-12)


def test_an_untrained_network_says_about_eight():
    """And exactly that to prefix tokens."""
    encoding = LogCPB(Dims(embed_dims=8, num_heads=HEADS, depth=1, grid=TRAIN, prefix=1)).double()
    out = bias(encoding, 4, 5, 1)
    assert (out[:, 0] == 8).all()
    assert (out[:, :, 0] == 8).all()
    assert (out - 8).abs().max() < 0.1


def test_half_precision_does_not_reach_the_bias():
    encoding, grid = make(LogCPB).float(), TokenGrid(4, 5)
    q = torch.zeros(1, HEADS, 20, 4)
    exact = encoding.logit_bias(q, q, q, grid).dense()
    with torch.autocast("cpu", torch.bfloat16):
        low = encoding.logit_bias(*3 * [q.bfloat16()], TokenGrid(4, 5)).dense()
    assert torch.equal(low, exact)


def test_a_network_without_features_is_refused():
    with pytest.raises(ValueError, match="hidden_dims must be positive, not 0"):
        make(LogCPB, hidden_dims=0)
