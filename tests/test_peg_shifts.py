"""PEG under shifts of whole tokens: where it is exact, and how many tokens are not."""

import pytest
import torch
from layers import HEIGHT, WIDTH, roll, tokens
from test_peg import PADDINGS, make
from torch import nn

from mmplugins.attention import Attention
from mmplugins.grid import TokenGrid
from mmplugins.models.vit import ViT
from mmplugins.position_encodings import Dims

DIMS = Dims(embed_dims=8, num_heads=2, depth=12, grid=(14, 14))


def picture(x):
    return x.unflatten(1, (14, 14))


def wrong_tokens(encode, x) -> torch.Tensor:
    """Where rolling first and rolling last differ, and by how much."""
    there, back = (
        picture(encode(value)) for value in (picture(x).roll((2, 3), (1, 2)).flatten(1, 2), x)
    )
    return (there - back.roll((2, 3), (1, 2))).abs().amax(-1)


@pytest.mark.parametrize(("kernel_size", "count", "valid"), [(3, 96, 88), (7, 166, 68)])
@pytest.mark.parametrize("padding", PADDINGS)
def test_tokens_that_a_roll_leaves_wrong(padding, kernel_size, count, valid):
    """Those near the old and the new border; after one global attention, all of them.

    Near both, padding 'valid' has no code before nor after: 2 |I| - 2 |I & J| in place of
    14^2 - |I & J|, with I and J the interiors, 12 x 12 and 8 x 8, which share 10 x 10 and 6 x 5.
    """
    peg, grid = make(kernel_size=kernel_size, padding_mode=padding), TokenGrid(14, 14)
    attention = Attention(DIMS, nn.ModuleDict()).double()
    x = tokens(batch=1, height=14, width=14, embed_dims=8)
    errors = wrong_tokens(lambda x: peg(x, grid), x)
    attended = wrong_tokens(lambda x: attention(peg(x, grid), grid), x)
    if padding == "circular":
        assert errors.max() < 1e-14
        assert attended.max() < 1e-14
    else:
        assert (errors > 1e-9).sum() == (valid if padding == "valid" else count)
        assert (attended > 1e-9).sum() == 196


@pytest.mark.parametrize("kernel_size", [3, 7])
@pytest.mark.parametrize("padding", PADDINGS)
def test_codes_on_a_constant_image(padding, kernel_size):
    """The zeros beyond the border are what tells one place from another: k^2 codes."""
    peg = make(kernel_size=kernel_size, padding_mode=padding)
    out = peg(torch.ones(1, 14 * 14, 8).double(), TokenGrid(14, 14))
    count = {"zeros": kernel_size**2, "valid": 2}.get(padding, 1)
    assert len(out[0].round(decimals=9).unique(dim=0)) == count


@pytest.mark.parametrize(
    ("kernel_size", "layers"), [(3, 1), (3, 2), (3, 3), (7, 1), (7, 2)], ids=str
)
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_two_crops_of_a_canvas_agree_off_their_borders(padding, kernel_size, layers):
    """From layers * r tokens off every border on, and no earlier."""
    pegs = [make(seed, kernel_size=kernel_size, padding_mode=padding) for seed in range(layers)]
    canvas = tokens(batch=1, height=24, width=24, embed_dims=8).unflatten(1, (24, 24))
    size, (down, right) = 20, (2, 3)

    def crop(top, left):
        x = canvas[:, top : top + size, left : left + size].flatten(1, 2)
        for peg in pegs:
            x = peg(x, TokenGrid(size, size))
        return x.unflatten(1, (size, size))

    one, other = crop(0, 0)[:, down:, right:], crop(down, right)[:, : size - down, : size - right]
    error = (one - other).abs().amax(-1)[0]
    y, x = (torch.arange(size - shift) for shift in (down, right))
    distance = torch.minimum(  # to the nearest border of either crop, in tokens
        torch.minimum(y, size - down - 1 - y)[:, None], torch.minimum(x, size - right - 1 - x)
    )
    reach = layers * (kernel_size // 2)
    assert error[distance >= reach].max() < 1e-14
    assert error[distance == reach - 1].max() > 1e-9


def test_a_kernel_of_one_reads_no_position():
    for padding in PADDINGS:
        peg, order = make(kernel_size=1, padding_mode=padding), torch.randperm(20)
        x, grid = tokens(embed_dims=8), TokenGrid(4, 5)
        assert torch.equal(peg(x, grid)[:, order], peg(x[:, order], grid))


def test_circular_attention_rolls_with_the_image():
    """A whole model: where the image moves by whole patches, so does the output."""
    cfgs = [dict(type=kind, padding_mode="circular") for kind in ("PEG", "QKPEG")]
    arch = dict(embed_dims=16, depth=2, num_heads=2)
    model = ViT(arch, patch_size=4, out_indices=(1,), position_encodings=cfgs).double().eval()
    image = torch.randn(1, 3, 4 * HEIGHT, 4 * WIDTH, dtype=torch.float64)
    out, rolled = (
        model(i)[0].flatten(2).transpose(1, 2) for i in (image, image.roll((4, 8), (2, 3)))
    )
    torch.testing.assert_close(roll(out, (1, 2)), rolled, rtol=0, atol=1e-12)
