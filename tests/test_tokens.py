"""Encodings of the residual stream: LearnedAPE, SinCos2D, and DetrSine beside mmdet's."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import DetrSine, Dims, LearnedAPE, SinCos2D

pytestmark = pytest.mark.family
DIMS = Dims(embed_dims=8, num_heads=2, depth=2, grid=(4, 5))


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
