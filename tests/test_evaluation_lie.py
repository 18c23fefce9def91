"""The Lie derivative against derivatives in closed form."""

import math

import numpy as np
import pytest
import torch

from mmplugins.evaluation.features.lie import lie_measures, lie_sums
from mmplugins.evaluation.statistics.resampling import Bootstrap

SIDE = 33


def waves(cycles=3):
    """A cosine along x, the same in every row."""
    phase = 2 * math.pi * cycles * torch.arange(SIDE, dtype=torch.float64) / SIDE
    return torch.cos(phase).expand(1, 1, SIDE, SIDE)


def values(*images):
    """LEE and bandwidth of all levels, of some images' sums."""
    measures = lie_measures(images)
    pairs = [(m.metric, f"lie/{m.part}") for m in measures]
    assert pairs == [(kind, name) for name in images[0] for kind in ("LEE", "bandwidth")]
    found = np.array([measure.statistic(np.ones((1, len(images))))[0, 0] for measure in measures])
    return found[::2], found[1::2]


def lee(fn, x):
    return float(values(lie_sums(lambda view: {"map": fn(view)}, x))[0].item())


def circular():
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", dtype=torch.float64)


@pytest.mark.parametrize("make", [torch.nn.Identity, circular])
def test_what_is_equivariant_has_no_derivative(make):
    assert lee(make(), waves()) < 1e-10


def gain_and_its_lee():
    """f(x) = g x along x only: T_-t f(T_t x) = g(. + t) x, its derivative g' x."""
    place = 2 * math.pi * torch.arange(SIDE, dtype=torch.float64) / SIDE
    gain, slope = 2 + torch.cos(place), -2 * math.pi / SIDE * torch.sin(place)
    x = waves()
    square = (slope * x).square().sum() / 2  # the other axis has none
    spread = (gain * x - (gain * x).mean()).square().sum()
    return gain, (square / spread).sqrt().item()


def test_a_gain_over_the_picture_has_the_derivative_of_the_gain():
    gain, expected = gain_and_its_lee()
    assert lee(lambda x: gain * x, waves()) == pytest.approx(expected, rel=1e-4)


def test_all_levels_are_derived_in_the_same_five_passes():
    gain, expected = gain_and_its_lee()
    conv, passes = circular(), []

    def levels(x):
        passes.append(x)
        tight = (gain * x)[..., ::2, ::2]  # 17 cells of 33 pixels: of no whole stride
        return {"gain": gain * x, "conv": conv(x), "tight": tight, "flat": 0 * x}

    sums = lie_sums(levels, waves(5))
    assert len(passes) == 5
    assert list(sums) == ["lie/gain", "lie/conv", "lie/flat"]
    lees, bandwidths = values(sums)
    assert lees[1] < 1e-10
    assert bandwidths[1] == pytest.approx(5 / SIDE)
    assert lees[0] == pytest.approx(lee(lambda x: gain * x, waves(5)))
    assert np.isnan([lees[2], bandwidths[2]]).all()
    assert lees[0] == pytest.approx(expected, rel=0.1)


def test_images_are_weighed_by_what_they_add():
    """Squares add up before they are divided, as weights say; a missing level adds nothing."""
    images = [{"lie/a": np.array(row)} for row in ([4.0, 1.0, 0.5], [0.0, 3.0, 0.6])] + [{}]
    lee_measure, bandwidth = lie_measures(images)
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(lee_measure.statistic(weights)[:, 0], [1, 2, math.nan])
    np.testing.assert_allclose(bandwidth.statistic(weights)[:, 0], [1.1 / 4, 0.5, math.nan])
    assert Bootstrap(images=3, count=7).estimate(bandwidth.statistic).draws.shape == (7, 1)
    assert lie_measures([{}, {"feature/a": np.ones(3)}]) == []


def test_aliasing_weighs_more_than_position():
    """Why it ranks no encodings: a stride without position scores worse than a gradient."""
    noise = torch.randn(2, 3, SIDE - 1, SIDE - 1, dtype=torch.float64)
    gain = torch.linspace(0.8, 1.2, SIDE - 1, dtype=torch.float64)
    assert lee(lambda x: x[..., ::4, ::4], noise) > 3 * lee(lambda x: x * gain, noise)


def test_bandwidth_is_the_frequency_of_a_wave():
    assert values(lie_sums(lambda x: {"map": x}, waves(5)))[1] == pytest.approx(5 / SIDE)


def test_a_step_must_be_positive():
    with pytest.raises(ValueError, match="is positive, not 0"):
        lie_sums(lambda x: {"map": x}, waves(), step=0)
