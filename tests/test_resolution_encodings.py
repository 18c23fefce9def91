"""Known answers at other grids: what needs no resizing, what survives it, and what grows."""

import numpy as np
import pytest
import torch
from layers import Model, tokens

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import Dims, LearnedAPE
from mmplugins.visualise.growth import mean_bias, random_encoding

SIDES = (8, 14, 16, 24, 32, 48)
TRAIN = SIDES.index(14)
NO_RESIZING = [
    [],
    [dict(type="PEG")],
    [dict(type="PEG", after=(-1, 0), padding_mode="circular", norm="batch"), dict(type="QKPEG")],
]


def states(cfgs, *grids):
    """Weights of models for different training grids, drawn alike."""
    return [Model(cfgs, grid=grid, prefix=1).state_dict() for grid in grids]


@pytest.mark.parametrize("cfgs", NO_RESIZING, ids=["none", "PEG", "both"])
def test_the_empty_list_and_peg_know_no_training_grid(cfgs):
    """Weights of one grid are those of another, as they are, and give the same at any third."""
    ours, theirs = Model(cfgs, grid=(4, 5), prefix=1), Model(cfgs, grid=(9, 3), prefix=1, seed=1)
    theirs.load_state_dict(ours.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    for height, width in [(4, 5), (9, 3), (11, 2), (1, 1)]:
        grid = TokenGrid(height, width, 1)
        x = tokens(height=height, width=width, prefix=1, dtype=torch.float32)
        out = ours(x, grid)
        assert out.isfinite().all()
        assert torch.equal(out, theirs(x, grid))


@pytest.mark.parametrize("name", ["LearnedAPE", "RelativePositionBias"])
def test_tables_know_their_training_grid(name):
    """So that the test above can fail."""
    here, there = states([dict(type=name)], (4, 5), (9, 3))
    assert {key for key in here if here[key].shape != there[key].shape}


def ape(side, **options):
    dims = Dims(embed_dims=64, num_heads=2, depth=1, grid=(side, side))
    return LearnedAPE(dims, **options)


def lost_on_the_way(side, **options):
    """The part of a random table of 14 x 14 that a checkpoint of `side` x `side` and back costs."""
    table, other, back = ape(14, **options), ape(side, **options), ape(14, **options)
    other.load_state_dict(table.state_dict())
    back.load_state_dict(other.state_dict())
    with torch.no_grad():
        return float((back.table - table.table).norm() / table.table.norm())


@pytest.mark.parametrize("options", [{}, {"resize": "bilinear"}, {"coords": "index"}], ids=str)
def test_learned_ape_is_unchanged_on_its_own_grid(options):
    assert lost_on_the_way(14, **options) == 0


@pytest.mark.parametrize(
    ("side", "bicubic", "bilinear"),
    [  # measured; at three times the side every place of the table is one of the larger table too
        (16, 0.286, 0.564),
        (21, 0.097, 0.455),
        (28, 0.0355, 0.455),
        (42, 0.0, 0.0),
    ],
)
def test_learned_ape_through_a_larger_grid_and_back(side, bicubic, bilinear):
    """White noise is the worst case; with indices nothing is stretched, and nothing lost."""
    assert lost_on_the_way(side) == pytest.approx(bicubic, rel=0.05, abs=1e-6)
    assert lost_on_the_way(side, resize="bilinear") == pytest.approx(bilinear, rel=0.05, abs=1e-6)
    assert lost_on_the_way(side, coords="index") == 0


@pytest.fixture(scope="module")
def growth():
    """Mean bias of SaPE2, relative to 14 x 14, with a position for every place of a line."""
    dims = Dims(embed_dims=64, num_heads=2, depth=1, grid=(14, 14))

    def relative(**options):
        sape2 = random_encoding(dict(type="SaPE2", num_positions=50, **options), dims)
        bias = mean_bias(sape2, dims, SIDES)
        return bias / bias[TRAIN]

    return {name: relative(normalize=name) for name in ("none", "rms")}


def test_the_bias_of_sape2_grows_like_the_root_of_the_side(growth):
    """As does one that was written apart from ours, from equations 9 to 16."""
    np.testing.assert_allclose(growth["none"], np.sqrt(np.array(SIDES) / 14), rtol=0.06)
    apart = np.array([1.19, 1.55, 1.68, 2.18, 2.53, 3.10])  # mean bias / sqrt(d)
    np.testing.assert_allclose(growth["none"], apart / apart[TRAIN], rtol=0.06)


def test_normalised_it_does_not(growth):
    np.testing.assert_allclose(growth["rms"], 1, rtol=0.06)
    factor = np.sqrt(14 / np.array(SIDES))
    np.testing.assert_allclose(growth["rms"], growth["none"] * factor, rtol=1e-5)
