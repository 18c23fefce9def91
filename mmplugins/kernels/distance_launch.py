"""How the tiles of the kernel `distance` are chosen and launched. Imports Triton."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from mmplugins.kernels import distance_tiles
from mmplugins.kernels.distance import like_tokens, padded


def padding(q: Tensor, x: Tensor, y: Tensor) -> dict[str, int]:
    """Widths of what a token brings."""
    return {"DEPTH": padded(q.shape[-1]), "X": padded(x.shape[-1]), "Y": padded(y.shape[-1])}


def forward_tile(width: dict[str, int], *, side: int) -> dict[str, int]:
    """A column that is read serves 64 rows where registers hold them.

    With vectors of 64 and bfloat16 that takes 88 KiB: on an H100 two programs share a
    multiprocessor, and while one waits for columns the other computes.
    """
    rows = 2 * side if width["X"] + width["Y"] <= 128 else 16
    return {"ROWS": rows, "COLUMNS": side, "num_warps": 4, "num_stages": 1}


def backward_tile(width: dict[str, int], *, side: int, half: bool) -> dict[str, int]:
    """More rows than 16 only for vectors of 64, in half precision.

    With wider ones a thread has too few registers; with narrower ones Triton lets warps repeat each
    other's products. Columns are fetched ahead where two of them fit.
    """
    best = half and width["X"] == width["Y"] == 64 and width["DEPTH"] <= 64
    rows, stages = side if best else 16, 2 if half else 1
    return {"ROWS": rows, "COLUMNS": side, "num_warps": 4, "num_stages": stages}


def forward(
    inputs: Sequence[Tensor], mask: Tensor | None, *, prefix: int, side: int
) -> tuple[Tensor, Tensor]:
    """The result and lse of `inputs` q, k, v, x, y, scale."""
    q, k, v, *bias = inputs
    out, lse = like_tokens(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    tile = forward_tile(padding(q, *bias[:2]), side=side)
    _launch(distance_tiles.forward, (q, k, v, out), (lse,), bias, mask, prefix, tile)
    return out, lse


def backward(
    grad: Tensor,
    inputs: Sequence[Tensor],
    mask: Tensor | None,
    out: Tensor,
    lse: Tensor,
    *,
    prefix: int,
    side: int,
) -> tuple[Tensor, ...]:
    """Gradients of `inputs` q, k, v, x, y, scale."""
    q, k, v, *bias = inputs
    x, y, scale = bias
    delta = (grad.float() * out.float()).sum(-1).contiguous()
    dq, dk, dv = (like_tokens(q) for _ in range(3))
    dx, dy = (torch.empty_like(z, memory_format=torch.contiguous_format) for z in (x, y))
    tile = backward_tile(padding(q, x, y), side=side, half=q.element_size() == 2)
    plain = (dk, dv, dx, dy, lse, delta)
    _launch(distance_tiles.backward, (q, k, v, grad, dq), plain, bias, mask, prefix, tile)
    dscale = (x * dx).sum((0, 2, 3)) + (y * dy).sum((0, 2, 3))
    factor = scale[:, None, None]
    return dq, dk, dv, dx * factor, dy * factor, dscale


def _launch(
    kernel: Any,
    strided: Sequence[Tensor],
    plain: Sequence[Tensor],
    bias: Sequence[Tensor],
    mask: Tensor | None,
    prefix: int,
    tile: dict[str, int],
) -> None:
    """Run a program for each block of each head of each image, on the first of `strided`'s GPU."""
    batch, heads, tokens, depth = strided[0].shape
    strided = [t if t.stride(-1) == 1 else t.contiguous() for t in strided]
    x, y, scale = (t.contiguous() for t in bias)
    norms = ((z * z).sum(-1) for z in (x, y))
    has_mask = mask is not None
    mask = mask.contiguous().view(torch.uint8) if has_mask else plain[0]  # a pointer nobody reads
    of_image = tokens if has_mask and mask.shape[0] > 1 else 0
    strides = (stride for t in strided for stride in t.stride()[:3])
    sizes = heads, tokens, prefix, depth, x.shape[-1], y.shape[-1]
    grid = (batch * heads * triton.cdiv(tokens, tile["ROWS"]),)
    with torch.cuda.device_of(strided[0]):
        kernel[grid](
            *(*strided, *plain, x, y, *norms, scale, mask),
            *(*strides, of_image, *sizes, depth**-0.5 * distance_tiles.LOG2_E.value),
            **padding(strided[0], x, y),
            **tile,
            HAS_MASK=has_mask,
        )
