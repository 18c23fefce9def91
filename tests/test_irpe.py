"""iRPE against the published buckets and loops over the paper's equations."""

import math

import pytest
import torch

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import IRPE, Dims
from mmplugins.position_encodings.irpe_buckets import piecewise_index


@pytest.mark.parametrize(
    ("ratio", "first"),
    [  # the first distance of each bucket, read off the authors' tables
        (1.9, [0, 1, 2, 4]),
        (2.0, [0, 1, 2, 4, 10]),
        (2.5, [0, 1, 2, 3, 6, 14]),
        (3.0, [0, 1, 2, 3, 5, 9, 17]),
        (3.5, [0, 1, 2, 3, 4, 7, 12, 21]),
    ],
)
def test_thresholds(ratio, first):
    x = torch.arange(-400, 401)
    index = piecewise_index(x, ratio)
    expected = sum((x.abs() >= start).long() for start in first[1:]) * x.sign()
    assert torch.equal(index, expected)
    assert torch.equal(index, -piecewise_index(-x, ratio))


def build(prefix=0, ratio=1.9):
    torch.manual_seed(0)
    irpe = IRPE(
        Dims(embed_dims=6, num_heads=2, depth=1, grid=(14, 14), prefix=prefix), ratio=ratio
    ).double()
    torch.nn.init.normal_(irpe.sides["k"].tables["product"])
    return irpe


def bucket(dy, dx, ratio):
    """The paper's b(i, j), one pair at a time, with Python's round (half to even)."""

    def g(x):
        if abs(x) <= ratio:
            return round(x)
        far = round(ratio + math.log(abs(x) / ratio) / math.log(8) * ratio)
        return int(math.copysign(int(min(2 * ratio, far)), x))

    beta = int(2 * ratio)
    return (g(dy) + beta) * (2 * beta + 1) + g(dx) + beta


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("ratio", [1.9, 2.0])
def test_equals_loops_over_the_equations(prefix, ratio):
    height, width = 3, 7
    irpe, grid = build(prefix, ratio), TokenGrid(height, width, prefix)
    q, k = torch.randn(2, 1, 2, prefix + height * width, 3, dtype=torch.float64)
    bias = irpe.logit_bias(q, k, k, grid).dense()
    for i in range(grid.num_tokens):
        for j in range(grid.num_tokens):
            if min(i, j) < prefix:
                column = irpe.sides["k"].tables["product"].shape[-1] - 1
            else:
                (yi, xi), (yj, xj) = (divmod(t - prefix, width) for t in (i, j))
                column = bucket(yi - yj, xi - xj, ratio)
            expected = q[0, :, i] @ irpe.sides["k"].tables["product"][0, :, column] / math.sqrt(3)
            torch.testing.assert_close(bias[0, :, i, j], expected, rtol=0, atol=1e-12)


def used(height, width):
    """Bucket of each pair, read through the public hook: with one-hot content."""
    irpe = build(prefix=1)
    irpe.sides["k"].tables["product"].data = torch.arange(50.0, dtype=torch.float64).expand_as(
        irpe.sides["k"].tables["product"]
    )
    q = torch.ones(1, 2, 1 + height * width, 3, dtype=torch.float64) / math.sqrt(3)
    return irpe.logit_bias(q, q, q, TokenGrid(height, width, 1)).dense()[0, 0].round().long()


def test_published_buckets():
    ids = used(14, 14)
    assert len(ids.unique()) == 50
    assert ids[0, 0] == ids[5, 0] == ids[0, 7] == 49  # pairs with the class token
    assert (ids.diagonal()[1:] == 24).all()
    assert (ids[1, -1], ids[-1, 1]) == (0, 48)


def test_reversed_pairs_mirror_their_bucket():
    ids = used(5, 9)[1:, 1:]
    assert torch.equal(ids.T, 48 - ids)


def test_parameter_count_of_deit_small():
    dims = Dims(embed_dims=384, num_heads=6, depth=12, grid=(14, 14), prefix=1)
    assert sum(p.numel() for p in IRPE(dims).parameters()) == 64 * 50


def test_starts_as_the_model_without_it():
    irpe, grid = IRPE(Dims(embed_dims=6, num_heads=2, depth=1, grid=(3, 4))), TokenGrid(3, 4)
    q, k = torch.randn(2, 1, 2, 12, 3)
    assert not irpe.logit_bias(q, k, k, grid).dense().any()
