"""Attention within windows: the one attention, handed a smaller grid."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmplugins.grid import TokenGrid, is_known

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
    valid, sides = grid.valid_map, (grid.height, grid.width)
    fits = is_known(*sides) and sides[0] % window[0] == sides[1] % window[1] == 0
    if valid is None and not fits:
        valid = x.new_ones(x.shape[0], *sides).bool()
    if valid is not None:
        valid = _partition(valid[..., None], window)[..., 0]
    return TokenGrid(height=window[0], width=window[1], valid=valid, device=x.device, window=True)


def _partition(x: Tensor, window: tuple[int, int]) -> Tensor:
    """[B, H, W, C] to [B * windows, h * w, C], filled up with zeros."""
    (_, height, width, _), (h, w) = x.shape, window
    rows, cols = _count(height, h), _count(width, w)
    x = F.pad(x, (0, 0, 0, cols * w - width, 0, rows * h - height))
    x = x.unflatten(2, (cols, w)).unflatten(1, (rows, h)).transpose(2, 3)
    return x.flatten(3, 4).flatten(0, 2)


def _merge(x: Tensor, grid: TokenGrid, window: tuple[int, int]) -> Tensor:
    """The inverse of `_partition`: [B, H, W, C] without the filling."""
    h, w = window
    rows, cols = _count(grid.height, h), _count(grid.width, w)
    x = x.unflatten(1, (h, w)).unflatten(0, (-1, rows, cols)).transpose(2, 3)
    x = x.flatten(3, 4).flatten(1, 2)
    if is_known(grid.height, grid.width):
        return x[:, : grid.height, : grid.width]
    # A copy, whose strides do not depend on whether windows divide the grid.
    places = (torch.arange(side, device=x.device) for side in (grid.height, grid.width))
    return x.index_select(1, next(places)).index_select(2, next(places))


def _count(length: int, window: int) -> int:
    """The windows that cover a line."""
    return (length + window - 1) // window
