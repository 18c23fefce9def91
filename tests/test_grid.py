"""TokenGrid and LogitBias: what they promise, and their chunks of rows."""

import doctest

import pytest
import torch
from layers import CASES, HEIGHT, WIDTH, case_id

from mmplugins import grid as grid_module
from mmplugins.bias import LogitBias
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import Dims, irpe
from mmplugins.registry import POSITION_ENCODINGS


@pytest.mark.parametrize("module", [grid_module, irpe])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_both_vocabularies():
    grid = TokenGrid(height=2, width=3)
    assert grid.coords.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert grid.row_displacements.tolist() == [[0, -1], [1, 0]]
    assert grid.col_displacements.tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]


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


BIASED = [cfg for cfg in CASES if cfg["type"] in ("IRPE", "SaPE2")]


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
    bias = encoding.logit_bias(q, k, grid)
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
