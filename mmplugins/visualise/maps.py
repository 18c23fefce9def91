"""Logit bias and attention probabilities of single queries, as maps over the patches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.attention import Terms
from mmplugins.engine.inputs import InputError
from mmplugins.grid import TokenGrid
from mmplugins.kernels import probabilities
from mmplugins.visualise.record import LayerInput

Place = tuple[int, int]  # (y, x) of a patch


@dataclass(frozen=True)
class QueryMaps:
    """What one query patch adds to, and reads from, every patch of its image.

    Maps are NaN at patches that it cannot read: padding, and all outside of its window. Tokens
    without a place have no part in them, so probabilities sum up to 1 only where there are none.
    """

    layer: int
    query: Place
    bias: Float[Tensor, "h H W"] | None  # in logits; None without an encoding that has one
    attention: Float[Tensor, "h H W"]


def valid_size(grid: TokenGrid, image: int = 0) -> Place:
    """(height, width) of the patches that are not padding."""
    if grid.valid is None:
        return grid.height, grid.width
    valid = grid.valid_map[image]
    return int(valid.any(1).sum()), int(valid.any(0).sum())


def check_query(grid: TokenGrid, query: Place, image: int = 0) -> None:
    """Refuse a query that is no patch of the image.

    Raises:
        InputError: it lies outside of the grid, or in padding.
    """
    (y, x), size = query, f"{grid.height} x {grid.width}"
    if not (0 <= y < grid.height and 0 <= x < grid.width):
        raise InputError(
            f"query {y},{x} lies outside of the {size} patches: "
            f"y is 0 to {grid.height - 1}, x is 0 to {grid.width - 1}"
        )
    if grid.valid is not None and not grid.valid_map[image, y, x]:
        height, width = valid_size(grid, image)
        raise InputError(
            f"query {y},{x} lies in padding: of {size} patches the image has {height} x {width}"
        )


@torch.no_grad()
def query_maps(
    layer: LayerInput, queries: Iterable[Place], *, image: int = 0
) -> Iterator[QueryMaps]:
    """The maps of each of `queries`, made one by one: never all pairs of patches at once.

    Args:
        layer: what its attention was given.
        queries: in patches of `layer.canvas`.
        image: number in the batch.

    Raises:
        InputError: a query that is no patch of the image.
    """
    grid, canvas = layer.grid, layer.canvas
    rows, cols = layer.windows

    @cache
    def window(number: int) -> tuple[TokenGrid, Terms]:
        number += image * rows * cols
        x, one = layer.part(slice(number, number + 1))
        return one, layer.module.terms(x, one)

    for query in queries:
        check_query(canvas, query, image)
        (row, y), (col, x) = divmod(query[0], grid.height), divmod(query[1], grid.width)
        own, terms = window(row * cols + col)
        maps = _maps_of_token(own, terms, grid.prefix + y * grid.width + x)
        top, left = row * grid.height, col * grid.width
        placed = (_place(part, canvas, top, left) for part in maps)
        yield QueryMaps(layer.index, query, *placed)


def _maps_of_token(
    grid: TokenGrid, terms: Terms, token: int
) -> tuple[Float[Tensor, "h H W"] | None, Float[Tensor, "h H W"]]:
    """Bias and probabilities of one row of the attention matrix."""
    q, k, _, bias = terms
    mask = grid.attention_mask
    probs = probabilities(q, k, bias=bias, mask=mask, rows=slice(token, token + 1))[0, :, 0]
    readable = torch.ones_like(probs[0], dtype=torch.bool)
    if mask is not None:
        readable = mask[0, 0, token if mask.shape[2] > 1 else 0]

    def as_map(values: Tensor) -> Tensor:
        values = values.masked_fill(~readable, torch.nan)[:, grid.prefix :]
        return values.unflatten(1, (grid.height, grid.width))

    row = None if bias is None else as_map(bias.rows(token, token + 1)[0, :, 0].to(probs.dtype))
    return row, as_map(probs)


def _place(part: Tensor | None, canvas: TokenGrid, top: int, left: int) -> Tensor | None:
    """A window's map at its place on the canvas, the filling cut off."""
    if part is None:
        return None
    whole = part.new_full((len(part), canvas.height, canvas.width), torch.nan)
    place = whole[:, top : top + part.shape[1], left : left + part.shape[2]]
    place.copy_(part[:, : place.shape[1], : place.shape[2]])
    return whole.cpu()
