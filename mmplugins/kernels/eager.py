"""Attention as it is written: the specification."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmplugins.bias import Context, LogitBias


def probabilities(
    q: Float[Tensor, "B h M d"],
    k: Float[Tensor, "B h N d"],
    *,
    bias: LogitBias | None = None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    rows: slice = slice(None),
) -> Float[Tensor, "B h n N"]:
    """softmax(q k^T / sqrt(d) + bias) where `mask` is True, in fp32 or better, of some `rows`.

    All tokens are keys; queries, with their rows of bias and mask, may be fewer.
    """
    precise = torch.promote_types(q.dtype, torch.float32)
    logits = (q[:, :, rows] * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).to(precise)
    for summand in [] if bias is None else bias.summands(*_range(rows, q.shape[2])):
        logits += summand
    if mask is not None:
        mask = mask if mask.shape[2] == 1 else mask[:, :, rows]
        logits.masked_fill_(~mask, -torch.inf)
    return logits.softmax(-1)


def eager(
    q: Float[Tensor, "B h M d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    *,
    bias: LogitBias | None = None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    dropout: float = 0.0,
    context: Context | None = None,
    rows: slice = slice(None),
) -> Float[Tensor, "B h n d"]:
    """P v + context(p) with p the `probabilities` of some `rows`."""
    probs = F.dropout(probabilities(q, k, bias=bias, mask=mask, rows=rows).to(v.dtype), dropout)
    out = probs @ v
    return out if context is None else out + context.rows(probs, *_range(rows, q.shape[2]))


def _range(rows: slice, queries: int) -> tuple[int, int]:
    # Of all queries there may be a number that is not known yet, in a graph for any size.
    return (0, queries) if rows == slice(None) else rows.indices(queries)[:2]
