"""The Lie derivative against derivatives in closed form."""

import math

import pytest
import torch

from mmplugins.evaluation.features.lie import lie_error

SIDE = 33


def waves(cycles=3):
    """A cosine along x, the same in every row."""
    phase = 2 * math.pi * cycles * torch.arange(SIDE, dtype=torch.float64) / SIDE
    return torch.cos(phase).expand(1, 1, SIDE, SIDE)


def circular():
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", dtype=torch.float64)


@pytest.mark.parametrize("make", [torch.nn.Identity, circular])
def test_what_is_equivariant_has_no_derivative(make):
    assert lie_error(make(), waves()).lee < 1e-10


def test_a_gain_over_the_picture_has_the_derivative_of_the_gain():
    """f(x) = g x along x only: T_-t f(T_t x) = g(. + t) x, its derivative g' x."""
    place = 2 * math.pi * torch.arange(SIDE, dtype=torch.float64) / SIDE
    gain, slope = 2 + torch.cos(place), -2 * math.pi / SIDE * torch.sin(place)
    x = waves()
    expected = (slope * x).square().sum() / 2  # the other axis has none
    expected = (expected / (gain * x - (gain * x).mean()).square().sum()).sqrt().item()
    assert lie_error(lambda x: gain * x, x).lee == pytest.approx(expected, rel=1e-4)


def test_aliasing_weighs_more_than_position():
    """Why it ranks no encodings: a stride without position scores worse than a gradient."""
    noise = torch.randn(2, 3, SIDE - 1, SIDE - 1, dtype=torch.float64)
    gain = torch.linspace(0.8, 1.2, SIDE - 1, dtype=torch.float64)
    strided = lie_error(lambda x: x[..., ::4, ::4], noise, stride=4)
    assert strided.lee > 3 * lie_error(lambda x: x * gain, noise).lee


def test_bandwidth_is_the_frequency_of_a_wave():
    assert lie_error(torch.nn.Identity(), waves(5)).bandwidth == pytest.approx(5 / SIDE)


def test_a_step_must_be_positive():
    with pytest.raises(ValueError, match="is positive, not 0"):
        lie_error(torch.nn.Identity(), waves(), step=0)
