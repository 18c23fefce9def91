"""Values looked up by bucket for pairs of tokens, and what pairs hold summed up by bucket.

Where the bucket of a displacement is made of one for each axis, both go axis by axis: nobody needs
a number for each pair of tokens, and most of the work is on whole lines. On a CPU by look-ups, the
cheapest way there. Elsewhere, and in graphs, by products with one-hot matrices: in the same order
every time, backwards too, where look-ups would be sums in any order.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmplugins.buckets import Buckets
from mmplugins.grid import is_known
from mmplugins.precision import full_precision


def spread(
    lookup: Float[Tensor, "B h n K"], buckets: Buckets, start: int, stop: int
) -> Float[Tensor, "B h n N"]:
    """lookup[i, b(i, j)] for the queries i from `start` to `stop`."""
    if buckets.axes is None:
        return lookup.gather(-1, _expanded(buckets.pairs(start, stop), lookup))
    before, first, last = buckets.patches(start, stop)
    rows, cols = buckets.seen(first, last)
    values = lookup[:, :, before:, : buckets.count].unflatten(-1, buckets.axes.sizes)
    seen = (_spread_by_products if _in_order(lookup) else _spread_by_lookups)(values, rows, cols)
    if not buckets.prefix:
        return seen
    other = lookup[..., buckets.count, None]  # of pairs with a prefix token
    seen = torch.cat([other[:, :, before:].expand(-1, -1, -1, buckets.prefix), seen], -1)
    return torch.cat([other[:, :, :before].expand(-1, -1, -1, seen.shape[-1]), seen], 2)


def is_by_lines(
    out: Float[Tensor, "B h n N"], lookup: Float[Tensor, "_ _ N K"], buckets: Buckets
) -> bool:
    """Whether `spread` copies whole lines that can lie in `out`."""
    by_lookups = buckets.axes is not None and not _in_order(lookup)
    alike = (lookup.dtype, lookup.shape[:2]) == (out.dtype, out.shape[:2])
    return by_lookups and alike and not buckets.prefix


def spread_in(
    out: Float[Tensor, "B h n N"],
    lookup: Float[Tensor, "B h n K"],
    buckets: Buckets,
    start: int,
    stop: int,
) -> Float[Tensor, "B h n N"]:
    """As `spread`, in `out`, where it `is_by_lines`."""
    return _SpreadIn.apply(out, lookup, buckets, start, stop)


def spread_keys(
    lookup: Float[Tensor, "B h N K"], buckets: Buckets, start: int, stop: int
) -> Float[Tensor, "B h n N"]:
    """lookup[j, b(j, i)] for the queries i from `start` to `stop` and all keys j."""
    pairs = buckets.reversed.pairs(start, stop)
    by_bucket = lookup.mT.contiguous()  # what neighbours look up lies together
    return by_bucket.gather(2, _expanded(pairs, lookup))


def sum_up(
    values: Float[Tensor, "B h n N"], buckets: Buckets, start: int, stop: int, *, size: int
) -> Float[Tensor, "B h n K"]:
    """The sum of values[i, j] over all j of each of K = `size` buckets b(i, j)."""
    if buckets.axes is None:
        sums = values.new_zeros(*values.shape[:3], size)
        return sums.scatter_add(-1, _expanded(buckets.pairs(start, stop), values), values)
    before, first, last = buckets.patches(start, stop)
    rows, cols = buckets.seen(first, last)
    pairs = values[:, :, before:, buckets.prefix :].unflatten(-1, buckets.grid)
    add = _sum_by_products if _in_order(values) else _sum_by_lookups
    sums = add(pairs, rows, cols, buckets.axes.sizes).flatten(-2)
    if not buckets.prefix:
        return F.pad(sums, (0, size - buckets.count))
    other = values[:, :, before:, : buckets.prefix].sum(-1, keepdim=True)
    sums = torch.cat([sums, other], -1)
    first = F.pad(values[:, :, :before].sum(-1, keepdim=True), (buckets.count, 0))
    return F.pad(torch.cat([first, sums], 2), (0, size - buckets.count - 1))


def _in_order(values: Tensor) -> bool:
    return values.is_cuda or not is_known(*values.shape)


def _expanded(index: Int[Tensor, "*n"], values: Float[Tensor, "B h *_"]) -> Tensor:
    return index.expand(*values.shape[:2], *[-1] * index.ndim)


class _SpreadIn(torch.autograd.Function):
    """Because autograd does not go through what is written by `out=`."""

    @staticmethod
    def forward(ctx, out: Tensor, lookup: Tensor, *where: Buckets | int) -> Tensor:
        buckets, start, stop = ctx.where = where
        ctx.mark_dirty(out)
        ctx.size = lookup.shape[3]
        rows, cols = buckets.seen(start, stop)
        values = lookup[..., : buckets.count].unflatten(-1, buckets.axes.sizes)
        _spread_by_lookups(values, rows, cols, out=out.view(-1, cols.shape[1]))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, sum_up(grad, *ctx.where, size=ctx.size), None, None, None


def _spread_by_lookups(
    values: Float[Tensor, "B h n R C"],
    rows: Int[Tensor, "n H"],
    cols: Int[Tensor, "n W"],
    out: Float[Tensor, "BhnH W"] | None = None,
) -> Float[Tensor, "B h n HW"]:
    pairs, shape = rows.shape[1] * cols.shape[1], (*values.shape[:4], -1)
    index = cols[:, None].expand(shape)
    along = values.gather(-1, index).flatten(0, 3)  # all lines [W] of B h n R
    seen = torch.index_select(along, 0, _lines(rows, values), out=out)
    return seen.view(*values.shape[:3], pairs)


def _sum_by_lookups(
    pairs: Float[Tensor, "B h n H W"],
    rows: Int[Tensor, "n H"],
    cols: Int[Tensor, "n W"],
    sizes: tuple[int, int],
) -> Float[Tensor, "B h n R C"]:
    shape, width = (*pairs.shape[:3], sizes[0]), pairs.shape[-1]
    sums = pairs.new_zeros(*shape, sizes[1])
    along = pairs.new_zeros(sums.numel() // sizes[1], width)
    along = along.index_add(0, _lines(rows, sums), pairs.flatten(0, 3)).view(*shape, width)
    return sums.scatter_add(-1, cols[:, None].expand(along.shape), along)


def _lines(rows: Int[Tensor, "n H"], values: Float[Tensor, "B h n R C"]) -> Int[Tensor, " BhnH"]:
    """Where the lines that queries see begin, of all B h n R of `values`."""
    batch, heads, queries, count, _ = values.shape
    starts = torch.arange(batch * heads * queries, device=rows.device) * count
    starts = starts.view(batch * heads, queries, 1)
    return (starts + rows).flatten()


def _spread_by_products(
    values: Float[Tensor, "B h n R C"], rows: Int[Tensor, "n H"], cols: Int[Tensor, "n W"]
) -> Float[Tensor, "B h n HW"]:
    row, col = (_one_hot(i, n, values) for i, n in zip((rows, cols), values.shape[3:], strict=True))
    with full_precision(values.device):
        return (row @ (values @ col.mT)).flatten(-2)


def _sum_by_products(
    pairs: Float[Tensor, "B h n H W"],
    rows: Int[Tensor, "n H"],
    cols: Int[Tensor, "n W"],
    sizes: tuple[int, int],
) -> Float[Tensor, "B h n R C"]:
    row, col = (_one_hot(i, n, pairs) for i, n in zip((rows, cols), sizes, strict=True))
    with full_precision(pairs.device):
        return row.mT @ (pairs @ col)


def _one_hot(index: Int[Tensor, "n L"], size: int, like: Tensor) -> Float[Tensor, "n L S"]:
    return (index[..., None] == torch.arange(size, device=index.device)).to(like.dtype)
