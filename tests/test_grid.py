"""TokenGrid and LogitBias: what they promise, and their chunks of rows."""

import doctest

import pytest
import torch
from layers import CASES, HEIGHT, WIDTH, case_id

from mmplugins import grid as grid_module
from mmplugins.bias import LogitBias
from mmplugins.buckets import Buckets
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import AttentionEncoding, Dims, irpe_buckets
from mmplugins.registry import POSITION_ENCODINGS


@pytest.mark.parametrize("module", [grid_module, irpe_buckets])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_both_vocabularies():
    grid = TokenGrid(height=2, width=3)
    assert grid.coords.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert grid.displacements[..., 0].tolist() == [[-1] * 5, [0] * 5, [1] * 5]
    assert grid.displacements[..., 1].tolist() == [[-2, -1, 0, 1, 2]] * 3


def test_what_is_shared_is_made_once_a_pass():
    made = []
    grid = TokenGrid(2, 3)
    for _ in range(2):
        grid.once("key", lambda: made.append(1))
    assert made == [1]
    assert TokenGrid(2, 3).once("key", lambda: "anew") == "anew"


def test_masks_combine():
    """Keys that are valid, prefix tokens always, pairs of the mask; and nobody reads nothing."""
    valid = torch.tensor([[True, False]])
    pairs = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 1]]).bool()[None, None]
    mask = TokenGrid(1, 2, 1, valid=valid, mask=pairs).attention_mask
    assert mask[0, 0].int().tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert TokenGrid(1, 2).attention_mask is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenGrid(0, 3), "no grid has 0 x 3"),
        (lambda: TokenGrid(2, 3, valid=torch.ones(1, 5).bool()), "5 patches.*2 x 3 = 6"),
        (lambda: TokenGrid(2, 3, 1).split(torch.zeros(1, 6, 4)), "6 tokens.*1 . 2 x 3"),
        (lambda: Dims(embed_dims=10, num_heads=4, depth=1, grid=(2, 3)), "divisible"),
        (lambda: Dims(embed_dims=8, num_heads=4, depth=0, grid=(2, 3)), "positive"),
    ],
)
def test_bad_shapes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_places_stretch_the_valid_region_to_the_training_grid():
    valid = torch.zeros(1, 4, 6, dtype=torch.bool)
    valid[:, 1:3, 2:5] = True  # 2 x 3 patches
    grid = TokenGrid(4, 6, valid=valid.flatten(1))
    places = grid.places("normalized", train=(4, 3), dtype=torch.float64)[grid.valid]
    assert places.tolist() == [[y, x] for y in (0.5, 2.5) for x in (0, 1, 2)]
    index = grid.places("index", train=(4, 3), dtype=torch.float64)
    assert index[0, 8].tolist() == [1, 2]


@pytest.mark.parametrize("prefix", [0, 2])
def test_buckets_of_pairs_are_those_of_their_displacement(prefix):
    grid, width = TokenGrid(3, 4, prefix), 4
    table = torch.arange(5 * 7).reshape(5, 7)
    buckets = Buckets(table, count=35, prefix=prefix)
    pairs = buckets.pairs(0, buckets.num_tokens)
    assert pairs.shape == (grid.num_tokens, grid.num_tokens)
    for i in range(grid.num_tokens):
        for j in range(grid.num_tokens):
            if min(i, j) < prefix:
                expected = 35
            else:
                (yi, xi), (yj, xj) = (divmod(t - prefix, width) for t in (i, j))
                expected = table[yi - yj + 2, xi - xj + 3]
            assert pairs[i, j] == expected
    assert torch.equal(buckets.reversed.pairs(0, buckets.num_tokens), pairs.T)
    assert torch.equal(buckets.pairs(1, 5), pairs[1:5])


BIASED = [
    cfg
    for cfg in CASES
    if hasattr(found := POSITION_ENCODINGS.module_dict[cfg["type"]], "logit_bias")
    and found.logit_bias is not AttentionEncoding.logit_bias
]


@pytest.mark.parametrize("cfg", BIASED, ids=case_id)
@pytest.mark.parametrize("prefix", [0, 2])
def test_rows_are_rows_of_the_dense_bias(cfg, prefix):
    torch.manual_seed(0)
    dims = Dims(embed_dims=8, num_heads=2, depth=1, grid=(HEIGHT, WIDTH), prefix=prefix)
    encoding = POSITION_ENCODINGS.build(dict(cfg), default_args=dict(dims=dims)).double()
    for parameter in encoding.parameters():
        torch.nn.init.normal_(parameter)
    grid = TokenGrid(HEIGHT, WIDTH, prefix)
    q, k = torch.randn(2, 1, 2, grid.num_tokens, 4, dtype=torch.float64)
    bias = encoding.logit_bias(q, k, k, grid)
    both = LogitBias.sum([bias, None, bias])
    for start, stop in [
        (0, 1),
        (1, 7),
        (0, grid.num_tokens),
        (grid.num_tokens - 3, grid.num_tokens),
    ]:
        rows = bias.rows(start, stop)
        torch.testing.assert_close(rows, bias.dense()[:, :, start:stop], rtol=0, atol=1e-12)
        torch.testing.assert_close(both.rows(start, stop), 2 * rows)


def test_the_sum_of_no_biases_is_none():
    assert LogitBias.sum([None]) is None
