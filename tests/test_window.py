"""Windows: cut and put together, and what they refuse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers import tokens

from mmplugins.grid import TokenGrid
from mmplugins.window import window_attention

sides = st.integers(1, 7)


@given(height=sides, width=sides, rows=sides, cols=sides)
def test_cutting_and_merging_is_the_identity(height, width, rows, cols):
    x, grid = tokens(height=height, width=width), TokenGrid(height, width)
    assert torch.equal(window_attention(lambda y, _: y, x, grid, window=(rows, cols)), x)


@given(height=sides, width=sides, rows=sides, cols=sides)
def test_every_token_sees_its_own_window_alone(height, width, rows, cols):
    """Attention that averages what it may read, beside slices of the picture."""
    x, grid = tokens(height=height, width=width), TokenGrid(height, width)

    def average(y, window):
        valid = torch.ones(y.shape[:2]) if window.valid is None else window.valid
        weight = valid.to(y)[..., None]
        return ((y * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)).expand_as(y)

    out = window_attention(average, x, grid, window=(rows, cols)).unflatten(1, (height, width))
    picture = x.unflatten(1, (height, width))
    for top in range(0, height, rows):
        for left in range(0, width, cols):
            window = slice(None), slice(top, top + rows), slice(left, left + cols)
            expected = picture[window].mean((1, 2), keepdim=True).expand_as(picture[window])
            torch.testing.assert_close(out[window], expected)


def test_a_window_without_any_valid_patch_stays_finite():
    valid = torch.zeros(1, 16, dtype=torch.bool)
    valid[0, 0] = True
    grid = TokenGrid(4, 4, valid=valid)

    def softmax_of_nothing(y, window):
        mask = window.attention_mask.expand(-1, 1, 4, -1)[:, 0]
        return torch.zeros(mask.shape).masked_fill(~mask, -torch.inf).softmax(-1).to(y) @ y

    x = tokens(batch=1, height=4, width=4)
    assert window_attention(softmax_of_nothing, x, grid, window=(2, 2)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(prefix=1),
            "windows cannot hold prefix tokens, the grid has 1: set with_cls_token=False",
        ),
        (dict(mask=torch.ones(1, 1, 20, 20).bool()), "cannot be cut into windows"),
    ],
)
def test_refuses(options, message):
    x = tokens(prefix=options.get("prefix", 0))
    with pytest.raises(ValueError, match=message):
        window_attention(lambda y, _: y, x, TokenGrid(4, 5, **options), window=(2, 2))
