"""Encodings of the residual stream: PEG, LearnedAPE, SinCos2D, and DetrSine beside mmdet's."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import PEG, DetrSine, Dims, LearnedAPE, SinCos2D

pytestmark = pytest.mark.family
DIMS = Dims(embed_dims=8, num_heads=2, depth=2, grid=(4, 5))


def test_peg_equals_loops_over_the_definition():
    torch.manual_seed(0)
    height, width = 3, 4
    peg, x = PEG(DIMS).double(), torch.randn(1, height * width, 8, dtype=torch.float64)
    torch.nn.init.normal_(peg.conv.bias)
    out = peg(x, TokenGrid(height, width))
    for y in range(height):
        for x_ in range(width):
            expected = x[0, y * width + x_] + peg.conv.bias
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < height and 0 <= x_ + dx < width:
                        neighbour = x[0, (y + dy) * width + x_ + dx]
                        expected = expected + peg.conv.weight[:, 0, dy + 1, dx + 1] * neighbour
            torch.testing.assert_close(out[0, y * width + x_], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_peg_writes_k_squared_codes_on_a_constant_image(kernel_size):
    """The zeros beyond the border are what tells one place from another."""
    peg = PEG(DIMS, kernel_size=kernel_size).double()
    out = peg(torch.ones(1, 11 * 12, 8, dtype=torch.float64), TokenGrid(11, 12))
    assert len(out[0].round(decimals=9).unique(dim=0)) == kernel_size**2


def test_peg_passes_prefix_tokens_by():
    dims = Dims(embed_dims=8, num_heads=2, depth=2, grid=(4, 5), prefix=2)
    x = torch.randn(2, 22, 8)
    assert torch.equal(PEG(dims)(x, TokenGrid(4, 5, 2))[:, :2], x[:, :2])


def test_peg_rejects_an_even_kernel():
    with pytest.raises(ValueError, match="kernel_size must be odd, not 4"):
        PEG(DIMS, kernel_size=4)


def test_learned_table_is_resized_as_a_picture():
    ape, x = LearnedAPE(DIMS), torch.zeros(1, 7 * 9, 8)
    expected = F.interpolate(ape.table.permute(0, 3, 1, 2), (7, 9), mode="bicubic")
    torch.testing.assert_close(ape(x, TokenGrid(7, 9)), expected.flatten(2).transpose(1, 2))


def test_learned_table_is_resized_when_loaded():
    """A checkpoint of another training grid, square or not, becomes one of this."""
    other = LearnedAPE(Dims(embed_dims=8, num_heads=2, depth=2, grid=(6, 3)))
    ape, grid = LearnedAPE(DIMS), TokenGrid(4, 5)
    ape.load_state_dict(other.state_dict())
    x = torch.zeros(1, 20, 8)
    torch.testing.assert_close(ape(x, grid), other(x, grid))


def test_sincos_places():
    code = SinCos2D(DIMS)(torch.zeros(1, 20, 8), TokenGrid(4, 5))[0]
    y, x = 3, 2
    expected = [f(p * w) for p in (y, x) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
    torch.testing.assert_close(code[y * 5 + x], torch.tensor(expected))


def test_sine_encodings_name_the_dimension_they_need():
    with pytest.raises(ValueError, match="divisible by 4, not 6"):
        SinCos2D(Dims(embed_dims=6, num_heads=2, depth=1, grid=(4, 5)))


@pytest.mark.parametrize("padded", [False, True])
def test_detr_sine_is_mmdets(padded):
    layers = pytest.importorskip("mmdet.models.layers")
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    if padded:
        valid[0, 3:], valid[0, :, 2:] = False, False
    stock = layers.SinePositionalEncoding(num_feats=4, normalize=True)(~valid)
    grid = TokenGrid(4, 5, valid=valid.flatten(1) if padded else None)
    ours = DetrSine(DIMS).inputs(torch.zeros(2, 20, 8), grid)
    torch.testing.assert_close(ours, stock.flatten(2).transpose(1, 2), rtol=0, atol=1e-6)
