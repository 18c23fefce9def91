"""The Lie derivative of features under translation, for comparison with published figures only.

    L f(x) = d/dt T_-t f(T_t x) at t = 0,        by a central difference of h pixels
    LEE    = |L f(x)| / |f(x) - mu|,             per pixel of shift; |L f|^2 the mean of both axes

T_t rolls by t pixels through the Fourier transform, and mu is the mean of an image's features. LEE
measures aliasing, what a function does to the finest waves, far more than position: a map of
strides that reads no position can score worse than one with a strong gradient over the picture.
Beside it stands the bandwidth of the features, the mean frequency of their waves in cycles a cell,
weighted by energy (0 to about 0.7), without which no two can be compared.

https://arxiv.org/abs/2210.02984. Deviations: relative to the centred features, in pixels instead of
sides, and by waves instead of bilinear interpolation, which is itself no translation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.evaluation.features.levels import level_strides
from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.shifts import Frame, Shift
from mmplugins.evaluation.statistics.resampling import ratio_of_sums

ROLL = Frame("roll")
DIRECTIONS: tuple[Shift, ...] = ((0.0, 1.0), (1.0, 0.0))
PREFIX = "lie/"

Maps = Callable[[Float[Tensor, "B C H W"]], Mapping[str, Float[Tensor, "B _ _ _"]]]


@torch.no_grad()
def lie_sums(
    fn: Maps, x: Float[Tensor, "B C H W"], *, step: float = 1e-2
) -> dict[str, Float[np.ndarray, " 3"]]:
    """|L f|^2, |f - mu|^2 and the latter times the mean frequency of f, of every level `lie/NAME`.

    Levels whose cells are no whole number of pixels have none: there is no rolling back by them.

    Args:
        fn: levels by name, of five pictures one after another.
        x: their finest waves should be longer than two pixels.
        step: h, in pixels; too small a one is lost in float32.

    Raises:
        ValueError: a step that is not positive.
    """
    if step <= 0:
        raise ValueError(f"the step of a derivative is positive, not {step}")
    levels = dict(fn(x))
    strides = level_strides(levels, tuple(x.shape[-2:]))
    squares = dict.fromkeys((name for name, stride in strides.items() if stride), 0.0)
    for down, right in DIRECTIONS:
        ahead, behind = (
            _rolled(fn, x, (t * down, t * right), {name: strides[name] for name in squares})
            for t in (step, -step)
        )
        for name in squares:
            slope = (ahead[name] - behind[name]) / (2 * step)
            squares[name] += _square(slope) / len(DIRECTIONS)
    sums = {}
    for name, square in squares.items():
        spread = _square(levels[name] - levels[name].mean((2, 3), keepdim=True))
        frequency = _bandwidth(levels[name]) if spread else 0.0
        sums[PREFIX + name] = np.array([square, spread, frequency * spread])
    return sums


def lie_measures(images: Sequence[Mapping[str, np.ndarray]]) -> list[Measure]:
    """LEE and bandwidth of all levels, from the sums of each image."""
    names = dict.fromkeys(name for sums in images for name in sums if name.startswith(PREFIX))
    measures = []
    for name in names:
        table = np.array([sums.get(name, np.zeros(3)) for sums in images])
        square, spread, frequency = table.T[:, None]  # [1, n] each
        part, whole = name.removeprefix(PREFIX), ("none", ("all",))
        squared = Measure("feature", "LEE^2", part, *whole, ratio_of_sums(square, spread))
        bandwidth = ratio_of_sums(frequency, spread)
        measures += [
            squared.then("LEE", *whole, np.sqrt),
            replace(squared, metric="bandwidth", statistic=bandwidth),
        ]
    return measures


def _rolled(fn: Maps, x: Tensor, shift: Shift, strides: Mapping[str, int]) -> dict[str, Tensor]:
    """T_-t f(T_t x), in cells of each level."""
    levels = fn(ROLL.view(x, shift))
    return {
        name: ROLL.view(levels[name], (-shift[0] / stride, -shift[1] / stride))
        for name, stride in strides.items()
    }


def _square(x: Tensor) -> float:
    return x.double().square().sum().item()


def _bandwidth(features: Float[Tensor, "B C h w"]) -> float:
    """Mean frequency of the waves, weighted by energy, the mean left out."""
    energy = torch.fft.fft2(features - features.mean((2, 3), keepdim=True)).abs().square()
    y, x = (torch.fft.fftfreq(n, dtype=energy.dtype) for n in features.shape[2:])
    radius = torch.hypot(y[:, None], x[None, :]).to(energy.device)
    return ((energy * radius).sum() / energy.sum()).item()
