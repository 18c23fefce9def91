"""Resizing of learned tables beside loops over the kernels, and what survives up and back."""

import math
from typing import get_args

import pytest
import torch

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import Dims, LearnedAPE, RelativePositionBias
from mmplugins.position_encodings.resize import Resize, read_nearest, resize_picture

MODES = get_args(Resize)
SIZES = [(4, 5), (8, 10), (3, 2), (7, 3), (1, 1)]


def kernel(x: float, mode: str) -> float:
    """Linear, or Keys' cubic with the parameter torch has for each."""
    x, a = abs(x), -0.5 if mode.endswith("antialias") else -0.75
    if mode == "bilinear":
        return max(0.0, 1 - x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def weights(have: int, want: int, mode: str) -> torch.Tensor:
    """What each of `want` places takes from each of `have`."""
    matrix = torch.zeros(want, have, dtype=torch.float64)
    for i in range(want):
        centre = (i + 0.5) * have / want - 0.5
        if mode.endswith("antialias"):  # wider where places get lost, and none beyond the border
            width = max(have / want, 1)
            row = [kernel((j - centre) / width, mode) for j in range(have)]
            matrix[i] = torch.tensor(row, dtype=torch.float64) / math.fsum(row)
        else:  # four places, those beyond the border repeat it
            for j in range(math.floor(centre) - 1, math.floor(centre) + 3):
                matrix[i, min(max(j, 0), have - 1)] += kernel(centre - j, mode)
    return matrix


def resized(picture: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    """[..., H, W] by two matrices."""
    rows, cols = (
        weights(have, want, mode)
        for have, want in zip(picture.shape[-2:], (height, width), strict=True)
    )
    return rows @ picture @ cols.T


def there_and_back(picture: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    there = resize_picture(picture, height=height, width=width, mode=mode)
    return resize_picture(there, height=picture.shape[2], width=picture.shape[3], mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_resizing_is_a_sum_over_its_kernel(mode, size):
    picture = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    out = resize_picture(picture, height=size[0], width=size[1], mode=mode)
    torch.testing.assert_close(out, resized(picture, *size, mode))


@pytest.mark.parametrize("mode", MODES)
def test_the_same_grid_changes_nothing_and_half_precision_is_rounded_once(mode):
    picture = torch.randn(1, 3, 4, 5).bfloat16()
    assert resize_picture(picture, height=4, width=5, mode=mode) is picture
    out = resize_picture(picture, height=7, width=9, mode=mode)
    precise = resize_picture(picture.float(), height=7, width=9, mode=mode)
    assert torch.equal(out, precise.bfloat16())


@pytest.mark.parametrize("mode", MODES)
def test_constants_survive_up_and_back(mode):
    picture = torch.full((1, 1, 14, 9), 3.3, dtype=torch.float64)
    torch.testing.assert_close(there_and_back(picture, 28, 18, mode), picture)


@pytest.mark.parametrize(
    ("mode", "noise", "waves"),
    [  # measured: the part of a random and of a smooth table that twice the side and back change
        ("bicubic", 0.036, 0.0025),
        ("bicubic_antialias", 0.39, 0.0066),
        ("bilinear", 0.45, 0.0153),
    ],
)
def test_up_and_back_smoothes_what_it_does_not_keep(mode, noise, waves):
    line = torch.arange(14, dtype=torch.float64) / 14
    tables = {
        noise: torch.randn(1, 64, 14, 14, dtype=torch.float64),
        waves: torch.outer(torch.sin(3 * line + 1), torch.cos(3 * line))[None, None],
    }
    for expected, table in tables.items():
        change = (there_and_back(table, 28, 28, mode) - table).norm() / table.norm()
        assert change == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("centred", [False, True])
def test_reading_at_the_place_itself_survives_up_and_back(centred):
    picture = torch.randn(1, 2, 7, 9)
    up = read_nearest(picture, height=15, width=19, centred=centred)
    assert torch.equal(read_nearest(up, height=7, width=9, centred=centred), picture)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_no_displacement_stays_in_the_middle_of_a_resized_table(mode):
    """And what is even in the displacement stays even."""
    table = torch.randn(1, 2, 7, 9, dtype=torch.float64)
    even = table + table.flip(2, 3)
    for height, width in [(15, 19), (3, 5), (1, 1)]:
        out = resize_picture(table, height=height, width=width, mode=mode)
        middle = out[..., height // 2, width // 2]
        torch.testing.assert_close(middle, table[..., 3, 4])
        out = resize_picture(even, height=height, width=width, mode=mode)
        torch.testing.assert_close(out, out.flip(2, 3))


TABLES = [
    *((LearnedAPE, dict(resize=mode)) for mode in MODES),
    (LearnedAPE, dict(coords="index")),
    *((RelativePositionBias, dict(resize=mode)) for mode in [*MODES, "clamp"]),
]


@pytest.mark.parametrize(("encoding", "options"), TABLES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_loaded_table_acts_as_where_it_was_trained(encoding, options, size, prefix):
    """A checkpoint of another training grid, square or not, becomes one of this."""

    def make(grid):
        return encoding(
            Dims(embed_dims=8, num_heads=2, depth=1, grid=grid, prefix=prefix), **options
        )

    def run(module):
        grid = TokenGrid(4, 5, prefix)
        if isinstance(module, LearnedAPE):
            return module(torch.zeros(1, grid.num_tokens, 8), grid)
        q = torch.zeros(1, 2, grid.num_tokens, 4)
        return module.logit_bias(q, q, q, grid).dense()

    other, loaded = make(size), make((4, 5))
    loaded.load_state_dict(other.state_dict())
    assert loaded.table.shape == make((4, 5)).table.shape
    assert torch.equal(run(loaded), run(other))


@pytest.mark.parametrize(("encoding", "options"), TABLES)
def test_a_table_of_another_width_is_refused(encoding, options):
    grid = dict(depth=1, grid=(4, 5))
    table = encoding(Dims(embed_dims=8, num_heads=2, **grid), **options)
    wider = encoding(Dims(embed_dims=12, num_heads=3, **grid), **options)
    with pytest.raises(RuntimeError, match="size mismatch"):
        table.load_state_dict(wider.state_dict())
