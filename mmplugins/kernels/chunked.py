"""Attention by tiles of the logits: made, used and dropped, and in the backward pass made again.

A tile is some rows of some heads of some images. Beyond q, k, v and the tensors that bias and
context are made of, nothing is kept but the output (and a bias that all images share, where a tile
can hold it whole). With p the probabilities of a tile, m what
dropout multiplies them by, c the context and G the gradient of the output:
    dP = m (G v^T + dc/dp),   dS = p (dP - sum_j p dP),   the sum being that of G and the output,
    dq = s dS k,   dk = s dS^T q,   dv = (m p)^T G,   and dS is the gradient of the bias's rows.
Source: https://arxiv.org/abs/2112.05682
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmplugins.bias import Context, DenseBias, LogitBias, Term
from mmplugins.precision import as_autocast, without_autocast


def chunked(
    q: Float[Tensor, "B h N d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    *,
    bias: LogitBias | None = None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    dropout: float = 0.0,
    context: Context | None = None,
    tile_mib: float = 4.0,
) -> Float[Tensor, "B h N d"]:
    """As `eager`, but that dropout draws other numbers.

    Args:
        q: queries.
        k: keys.
        v: values.
        bias: added to the logits.
        mask: True where a query may read a key.
        dropout: probability to drop an attention weight.
        context: added to the output; linear in the probabilities.
        tile_mib: what the logits of a tile take in single precision, in MiB; a tile takes some
            times as much.

    It has first derivatives, by torch's autograd: no second ones, and none by torch.func.
    """
    q, k, v = as_autocast(q, k, v)
    seed = int(torch.randint(2**62, ())) if dropout else 0
    shape = tile_shape(*q.shape[:3], k.shape[2], size=int(tile_mib * 2**18))
    with without_autocast(q.device):
        if bias is not None and shape[1:] == q.shape[1:3] and _is_shared(bias, len(q)):
            bias = DenseBias(bias.dense())  # once, not for each tile
        terms = [term for term in (bias, context) if term is not None]
        work = _Work(_recipe(bias), _recipe(context), mask, dropout, seed, shape)
        return _Chunked.apply(work, q, k, v, *(t for term in terms for t in term.tensors))


def tile_shape(images: int, heads: int, rows: int, keys: int, *, size: int) -> tuple[int, int, int]:
    """How many images, heads and rows of `keys` logits are `size` logits, or less where possible.

    >>> tile_shape(8, 6, 196, 196, size=2**20), tile_shape(2, 8, 3800, 3800, size=2**20)
    ((4, 6, 196), (1, 1, 272))
    """
    shape = []
    for count in (rows, heads, max(images, 1)):  # a batch may be empty
        most = min(max(size // keys, 1), count)
        shape.insert(0, -(-count // -(-count // most)))  # tiles of one size
        keys *= shape[0]
    return tuple(shape)


def _is_shared(bias: LogitBias, images: int) -> bool:
    return images > 1 and all(len(tensor) == 1 for tensor in bias.tensors)


def _recipe(term: Term | None) -> Term | None:
    """The function alone: its tensors are autograd's to keep, and checkpointing's to drop."""
    return None if term is None else term.of([t.detach().to("meta") for t in term.tensors])


class _Tile(NamedTuple):
    images: slice
    heads: slice
    rows: slice

    def of(self, tensor: Tensor) -> Tensor:
        """Its images and heads of a tensor that may be the same for all."""
        images, heads = tensor.shape[:2]
        every = slice(None)
        return tensor[self.images if images > 1 else every, self.heads if heads > 1 else every]

    def rows_of(self, tensor: Tensor) -> Tensor:
        """Their rows, which may be the same for all."""
        part = self.of(tensor)
        return part[:, :, self.rows] if part.shape[2] > 1 else part


class _Work(NamedTuple):
    """What is to be done, but for the tensors that gradients flow to."""

    bias: LogitBias | None
    context: Context | None
    mask: Tensor | None
    dropout: float
    seed: int
    shape: tuple[int, int, int]

    def tiles(self, q: Tensor) -> Iterator[_Tile]:
        """Rows outside: geometry that all heads read is made once for each of them."""
        images, heads, rows = (
            [slice(start, min(start + step, size)) for start in range(0, size, step)]
            for step, size in zip(self.shape, q.shape, strict=False)
        )
        for row, image, head in product(rows, images, heads):
            yield _Tile(image, head, row)

    def terms(self, tensors: Sequence[Tensor]) -> tuple[LogitBias | None, Context | None]:
        """Bias and context of a tile's `tensors`."""
        count = 0 if self.bias is None else len(self.bias.tensors)
        bias = None if self.bias is None else self.bias.of(tensors[:count])
        return bias, None if self.context is None else self.context.of(tensors[count:])

    def probabilities(
        self, tile: _Tile, q: Tensor, k: Tensor, bias: Tensor, memory: Tensor
    ) -> Tensor:
        """Those of `eager`, of the tile's rows, in `memory`; logits take the place of `bias`."""
        logits = _add_product(bias.detach(), tile.rows_of(q) * q.shape[-1] ** -0.5, tile.of(k).mT)
        if self.mask is not None:
            logits.masked_fill_(~tile.rows_of(self.mask), -torch.inf)
        return torch.softmax(logits, -1, out=_part(memory, logits.shape))

    def space(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Memory for two tiles: to ask the system for it tile by tile costs a tenth of the time."""
        size = prod(self.shape) * k.shape[2]
        precise = torch.promote_types(q.dtype, torch.float32)
        return tuple(torch.empty(size, dtype=precise, device=q.device) for _ in range(2))

    def factors(self, device: torch.device) -> Callable[[Tensor], Tensor | None]:
        """Of one tile's probabilities after the other, the same forwards and backwards."""
        if not self.dropout:
            return lambda probs: None
        keep, generator = 1 - self.dropout, torch.Generator(device).manual_seed(self.seed)
        return lambda probs: (
            torch.empty_like(probs).bernoulli_(keep, generator=generator).div_(keep or 1)
        )


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, work: _Work, q: Tensor, k: Tensor, v: Tensor, *tensors: Tensor) -> Tensor:
        out, factors, space = v.new_empty(q.shape), work.factors(q.device), work.space(q, k)
        for tile in work.tiles(q):
            start, stop = tile.rows.start, tile.rows.stop
            bias, context = work.terms([tile.of(tensor) for tensor in tensors])
            rows = _bias_in(space[0], bias, tile, q, k)
            probs = work.probabilities(tile, q, k, rows, space[1])
            kept = _times(probs, factors(probs)).to(v.dtype)
            of_out = tile.rows_of(out)
            of_out.copy_(kept @ tile.of(v))
            if context is not None:
                of_out += context.rows(kept, start, stop)
        ctx.work = work
        ctx.save_for_backward(q, k, v, out, *tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        work, (q, k, v, out, *tensors) = ctx.work, ctx.saved_tensors
        precise, scale = torch.promote_types(q.dtype, torch.float32), q.shape[-1] ** -0.5
        found = [torch.zeros_like(t, dtype=precise) for t in (q, k, v)]
        needed = ctx.needs_input_grad[4:]
        learned = [
            torch.zeros_like(t, dtype=torch.promote_types(t.dtype, precise)) if need else None
            for t, need in zip(tensors, needed, strict=True)
        ]
        space = work.space(q, k)
        balance, factors = (grad.to(precise) * out).sum(-1, keepdim=True), work.factors(q.device)
        for tile in work.tiles(q):
            start, stop = tile.rows.start, tile.rows.stop
            of_out, (dq, dk, dv) = tile.rows_of(grad), (tile.of(t) for t in found)
            parts = [
                tile.of(t).detach().requires_grad_(need)
                for t, need in zip(tensors, needed, strict=True)
            ]
            sums = [None if total is None else tile.of(total) for total in learned]
            with torch.enable_grad():
                bias, context = work.terms(parts)
                rows = _bias_in(space[0], bias, tile, q, k)
            probs = work.probabilities(tile, q, k, rows, space[1])
            factor = factors(probs)
            kept = _times(probs, factor).to(v.dtype)
            dv += kept.mT @ of_out
            of_probs = _product(of_out, tile.of(v).mT, space[0])
            if context is not None:
                kept.requires_grad_()
                with torch.enable_grad():
                    read = context.rows(kept, start, stop)
                of_probs += _add_gradients(read, of_out, [kept, *parts], [None, *sums])
            of_logits = _times(of_probs, factor)
            of_logits = of_logits.sub_(tile.rows_of(balance)).mul_(probs)
            if rows.requires_grad:
                _add_gradients(rows, of_logits, parts, sums)
            of_logits = of_logits.to(q.dtype)
            dq[:, :, tile.rows] += of_logits @ tile.of(k) * scale
            dk += of_logits.mT @ (tile.rows_of(q) * scale)
        found += learned
        inputs = q, k, v, *tensors
        return None, *(
            None if total is None else total.to(t.dtype)
            for t, total in zip(inputs, found, strict=True)
        )


def _bias_in(memory: Tensor, bias: LogitBias | None, tile: _Tile, q: Tensor, k: Tensor) -> Tensor:
    """The tile's rows; zero without a bias."""
    out = _part(memory, (*tile.rows_of(q).shape[:3], k.shape[2]))
    return out.zero_() if bias is None else bias.rows_in(out, tile.rows.start, tile.rows.stop)


def _product(a: Tensor, b: Tensor, memory: Tensor) -> Tensor:
    out = _part(memory, (*a.shape[:-1], b.shape[-1]))
    return torch.matmul(a, b, out=out) if a.dtype == out.dtype else out.copy_(a @ b)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if a.dtype != total.dtype:
        return total.add_(a @ b)
    total.view(-1, *total.shape[2:]).baddbmm_(a.flatten(0, 1), b.flatten(0, 1))
    return total


def _part(memory: Tensor, shape: Sequence[int]) -> Tensor:
    """Its beginning in this shape, detached: a tile's history does not hang on the last one's."""
    return memory[: prod(shape)].view(shape).detach()


def _times(probs: Tensor, factor: Tensor | None) -> Tensor:
    return probs if factor is None else probs * factor


def _add_gradients(
    out: Tensor, grad: Tensor, parts: Sequence[Tensor], sums: Sequence[Tensor | None]
) -> Tensor | None:
    """Add to `sums` what flows to `parts` of them; gives what flows to the first."""
    learned = [(part, total) for part, total in zip(parts, sums, strict=True) if part.requires_grad]
    found = torch.autograd.grad(out, [part for part, _ in learned], grad, allow_unused=True)
    for (_, total), gradient in zip(learned, found, strict=True):
        if total is not None and gradient is not None:
            total += gradient
    return found[0]
