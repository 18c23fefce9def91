"""Encodings of the residual stream: LearnedAPE, SinCos2D, and DetrSine beside mmdet's."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import DetrSine, Dims, LearnedAPE, SinCos2D
from mmplugins.position_encodings.resize import Resize, resize_picture

pytestmark = pytest.mark.family
DIMS = Dims(embed_dims=8, num_heads=2, depth=2, grid=(4, 5))


@pytest.mark.parametrize("resize", get_args(Resize))
def test_learned_table_is_resized_as_a_picture(resize):
    ape, x = LearnedAPE(DIMS, resize=resize), torch.zeros(1, 7 * 9, 8)
    picture = ape.table.permute(0, 3, 1, 2)
    expected = resize_picture(picture, height=7, width=9, mode=resize)
    torch.testing.assert_close(ape(x, TokenGrid(7, 9)), expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize(("height", "width"), [(4, 5), (7, 3), (2, 9)])
def test_learned_table_is_read_at_the_index(height, width):
    """Row y of the table for row y; beyond the last, the last. Prefix tokens have their own."""
    ape = LearnedAPE(replace(DIMS, prefix=2), coords="index")
    out = ape(torch.zeros(1, 2 + height * width, 8), TokenGrid(height, width, 2))[0]
    assert torch.equal(out[:2], ape.prefix_table[0])
    for y in range(height):
        for x in range(width):
            assert torch.equal(out[2 + y * width + x], ape.table[0, min(y, 3), min(x, 4)])


def test_a_table_says_what_its_options_do():
    tables = LearnedAPE(DIMS, resize="bilinear"), LearnedAPE(DIMS, coords="index")
    assert [t.other_grid for t in tables] == ["bilinear resize", "last row or column"]
    assert [t.padding_free for t in tables] == [False, True]


def waves(y, x, temperature=10000.0):
    """[sin, cos] of y, then of x, at the two frequencies of eight channels."""
    return torch.tensor(
        [f(p * w) for p in (y, x) for f in (math.sin, math.cos) for w in (1.0, temperature**-0.5)]
    )


def test_sincos_places():
    code = SinCos2D(DIMS)(torch.zeros(1, 20, 8), TokenGrid(4, 5))[0]
    for y in range(4):
        for x in range(5):
            torch.testing.assert_close(code[y * 5 + x], waves(y, x))


def test_sincos_stretches_the_valid_region_to_the_training_grid():
    """Here 8 x 3 patches in the middle of 9 x 6; the one prefix token stays as it is."""
    valid = torch.zeros(1, 9, 6, dtype=torch.bool)
    valid[:, 1:, 2:5] = True
    sincos = SinCos2D(replace(DIMS, prefix=1), coords="normalized", temperature=100.0)
    code = sincos(torch.zeros(1, 55, 8), TokenGrid(9, 6, 1, valid=valid.flatten(1)))[0]
    assert not code[0].any()
    for y in range(8):
        for x in range(3):
            expected = waves((y + 0.5) * 4 / 8 - 0.5, (x + 0.5) * 5 / 3 - 0.5, 100.0)
            torch.testing.assert_close(code[1 + (y + 1) * 6 + x + 2], expected)


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
