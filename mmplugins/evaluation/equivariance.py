"""Is a function equivariant? A number, and an assertion for tests."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.evaluation.features.errors import corresponding, feature_error
from mmplugins.evaluation.shifts import Frame, Shift

Function = Callable[..., Tensor]


@torch.no_grad()
def equivariance_error(
    fn: Function,
    x: Float[Tensor, "B C H W"],
    shifts: Sequence[Shift],
    *,
    stride: int = 1,
    frame: Frame | None = None,
    border: int = 0,
) -> dict[Shift, float]:
    """FEE of `fn` under each shift: 0 is exact, sqrt(2) is chance.

    Args:
        fn: [B, C, H, W] to [B, c, H / stride, W / stride]; with a frame of mode masked_canvas it
            is also given where the content lies, [H, W], True = content.
        x: pictures.
        shifts: (dy, dx) in pixels, multiples of the stride.
        stride: pixels of a cell of the output.
        frame: how pictures are shifted; by default they are rolled.
        border: cells to leave out along the border.

    Raises:
        ValueError: shifts that the frame or the stride does not allow, or an output of another
            size.

    >>> blur = lambda x: (x + x.roll(1, -1)) / 2
    >>> equivariance_error(blur, torch.rand(1, 3, 8, 8), [(0, 2)])
    {(0, 2): 0.0}
    """
    frame = frame or Frame("roll")
    reference = _features(fn, x, (0, 0), stride, frame)
    errors = {}
    for shift in shifts:
        shifted = _features(fn, x, shift, stride, frame)
        errors[shift] = error_between(
            reference, shifted, shift, stride=stride, frame=frame, border=border
        )
    return errors


def error_between(
    reference: Float[Tensor, "B C h w"],
    shifted: Float[Tensor, "B C h w"],
    shift: Shift,
    *,
    stride: int,
    frame: Frame,
    border: int = 0,
) -> float:
    """FEE of features of both views, for those who ran the function themselves."""
    pairs = [
        corresponding(a, b, shift, stride=stride, frame=frame, border=border)
        for a, b in zip(reference, shifted, strict=True)
    ]
    return feature_error(pairs).fee


def assert_equivariant(
    fn: Function,
    x: Float[Tensor, "B C H W"],
    shifts: Sequence[Shift],
    *,
    tolerance: float | None = None,
    stride: int = 1,
    frame: Frame | None = None,
    border: int = 0,
) -> None:
    """Assert that `equivariance_error` is below `tolerance`, 1e-12 in float64 and 1e-5 below.

    Raises:
        AssertionError: names the worst shift and its error.
    """
    if tolerance is None:
        tolerance = 1e-12 if x.dtype == torch.float64 else 1e-5
    errors = equivariance_error(fn, x, shifts, stride=stride, frame=frame, border=border)
    worst = max(errors, key=lambda shift: errors[shift])
    if not errors[worst] <= tolerance:
        raise AssertionError(
            f"not equivariant: under shift {worst} the relative error is {errors[worst]:.3g}, "
            f"more than {tolerance:g}"
        )


def _features(fn: Function, x: Tensor, shift: Shift, stride: int, frame: Frame) -> Tensor:
    view, valid = frame.view(x, shift), frame.valid(x, shift)
    out = fn(view) if valid is None else fn(view, valid)
    expected = tuple(side // stride for side in view.shape[-2:])
    if tuple(out.shape[-2:]) != expected:
        raise ValueError(
            f"stride {stride} makes {expected[0]} x {expected[1]} cells of a view of "
            f"{view.shape[-2]} x {view.shape[-1]} pixels, but the output has "
            f"{out.shape[-2]} x {out.shape[-1]}"
        )
    return out
