"""Attention within windows: the one attention, handed a smaller grid."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmplugins.grid import TokenGrid

Attend = Callable[[Tensor, TokenGrid], Tensor]


def window_attention(
    attend: Attend, x: Float[Tensor, "B N C"], grid: TokenGrid, *, window: tuple[int, int]
) -> Float[Tensor, "B N C"]:
    """`attend` within each window of (height, width) patches, as in ViTDet.

    Windows start at the top left. Those that stick out at the bottom and right are filled up with
    patches that are not valid: nothing reads them. https://arxiv.org/abs/2203.16527

    Raises:
        ValueError: a grid with prefix tokens, which belong to no window, or with a mask of its own.
    """
    if grid.prefix:
        raise ValueError(
            f"windows cannot hold prefix tokens, the grid has {grid.prefix}: "
            "set with_cls_token=False or window_size=0"
        )
    if grid.mask is not None:
        raise ValueError("a mask between all tokens of the grid cannot be cut into windows")
    windows_grid = grid.once(("windows", *window), lambda: _windows_grid(grid, x, window))
    out = attend(_partition(x.unflatten(1, (grid.height, grid.width)), window), windows_grid)
    return _merge(out, grid, window).flatten(1, 2)


def _windows_grid(grid: TokenGrid, x: Tensor, window: tuple[int, int]) -> TokenGrid:
    """The geometry of all windows of a batch, as one batch of small grids."""
    valid = grid.valid_map
    if valid is None and (grid.height % window[0] or grid.width % window[1]):
        valid = x.new_ones(len(x), grid.height, grid.width).bool()
    if valid is not None:
        valid = _partition(valid[..., None], window)[..., 0]
    return TokenGrid(height=window[0], width=window[1], valid=valid, device=x.device, window=True)


def _partition(x: Tensor, window: tuple[int, int]) -> Tensor:
    """[B, H, W, C] to [B * windows, h * w, C], filled up with zeros."""
    (batch, height, width, channels), (h, w) = x.shape, window
    x = F.pad(x, (0, 0, 0, -width % w, 0, -height % h))
    x = x.reshape(batch, x.shape[1] // h, h, x.shape[2] // w, w, channels)
    return x.transpose(2, 3).reshape(-1, h * w, channels)


def _merge(x: Tensor, grid: TokenGrid, window: tuple[int, int]) -> Tensor:
    """The inverse of `_partition`: [B, H, W, C] without the filling."""
    h, w = window
    rows, cols = -(-grid.height // h), -(-grid.width // w)
    x = x.reshape(-1, rows, cols, h, w, x.shape[-1]).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, : grid.height, : grid.width]
