"""The position probe, on features of known content."""

import pytest
import torch

from mmplugins.evaluation.features.probe import position_r2


def places(height, width):
    y, x = (torch.linspace(-1, 1, 2 * n + 1, dtype=torch.float64)[1::2] for n in (height, width))
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


def maps(count=8, height=6, width=9, channels=5):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(channels, height, width, generator=generator, dtype=torch.float64)
        for _ in range(count)
    ]


def test_a_place_that_is_written_is_read():
    mixed = torch.randn(7, 2, dtype=torch.float64)
    written = [
        torch.einsum("cd,dhw->chw", mixed, places(*size)) + 3.0
        for size in [(6, 9), (4, 4), (8, 5), (6, 9)]
    ]
    assert position_r2(written, ridge=1e-9) == pytest.approx(1, abs=1e-6)


def test_noise_tells_no_place():
    assert position_r2(maps(40)) < 0.05


def test_half_a_place_is_half_read():
    """With one coordinate alone, of two of equal spread, R^2 is one half."""
    rows = [torch.stack([places(9, 9)[0]]) for _ in range(4)]
    assert position_r2(rows, ridge=1e-9) == pytest.approx(0.5, abs=1e-6)


def test_what_only_one_image_tells_does_not_count():
    """A code of the place that is drawn anew for each image is of no use in another."""
    private = [torch.einsum("cd,dhw->chw", torch.randn(5, 2).double(), places(6, 9)) for _ in "ab"]
    assert position_r2(private) < 0.9


def test_constant_features_tell_nothing():
    assert position_r2([torch.ones(3, 4, 4)] * 4) == pytest.approx(0, abs=1e-9)


def test_probes_name_what_is_missing():
    with pytest.raises(ValueError, match="others to test, not 1"):
        position_r2(maps(1))
    with pytest.raises(ValueError, match="single cell have no place"):
        position_r2([torch.ones(3, 1, 1)] * 2)
