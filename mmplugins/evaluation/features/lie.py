"""The Lie derivative of a function under translation, for comparison with published figures only.

    L f(x) = d/dt T_-t f(T_t x) at t = 0,        by a central difference of h pixels
    LEE    = |L f(x)| / |f(x) - mu|,             per pixel of shift

T_t rolls by t pixels through the Fourier transform. It measures aliasing, what a function does to
the finest waves, far more than position: a map of strides that reads no position can score worse
than one with a strong gradient over the picture. Beside it stands the bandwidth of the features,
the mean frequency of their waves in cycles a cell, without which no two can be compared.

https://arxiv.org/abs/2210.02984. Deviations: relative to the centred features, in pixels instead of
sides, and by waves instead of bilinear interpolation, which is itself no translation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.evaluation.shifts import Frame, Shift

ROLL = Frame("roll")
DIRECTIONS: tuple[Shift, ...] = ((0.0, 1.0), (1.0, 0.0))


@dataclass(frozen=True)
class LieError:
    """The mean over both axes.

    Attributes:
        lee: relative change a pixel of shift; 0 is exact.
        bandwidth: mean frequency of the features, weighted by energy: 0 to about 0.7.
    """

    lee: float
    bandwidth: float


@torch.no_grad()
def lie_error(
    fn: Callable[[Tensor], Tensor],
    x: Float[Tensor, "B C H W"],
    *,
    stride: int = 1,
    step: float = 1e-2,
) -> LieError:
    """LEE of `fn`.

    Args:
        fn: [B, C, H, W] to [B, c, H / stride, W / stride].
        x: pictures; their finest waves should be longer than two pixels.
        stride: pixels of a cell of the output.
        step: h, in pixels; too small a one is lost in float32.

    Raises:
        ValueError: a step that is not positive.
    """
    if step <= 0:
        raise ValueError(f"the step of a derivative is positive, not {step}")
    features = fn(x)
    spread = (features - features.mean((0, 2, 3), keepdim=True)).square().sum()
    squares = []
    for y_part, x_part in DIRECTIONS:
        ahead, behind = (
            ROLL.view(
                fn(ROLL.view(x, (t * y_part, t * x_part))),
                (-t * y_part / stride, -t * x_part / stride),
            )
            for t in (step, -step)
        )
        squares.append(((ahead - behind) / (2 * step)).square().sum())
    lee = (torch.stack(squares).mean() / spread).sqrt().item()
    return LieError(lee, _bandwidth(features))


def _bandwidth(features: Float[Tensor, "B C h w"]) -> float:
    """Mean frequency of the waves, weighted by energy, the mean left out."""
    energy = torch.fft.fft2(features - features.mean((2, 3), keepdim=True)).abs().square()
    y, x = (torch.fft.fftfreq(n, dtype=energy.dtype) for n in features.shape[2:])
    radius = torch.hypot(y[:, None], x[None, :]).to(energy.device)
    return ((energy * radius).sum() / energy.sum()).item()
