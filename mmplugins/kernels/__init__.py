"""Ways to run softmax(scale * q k^T + bias) v. `eager` is the specification of all others."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmplugins.bias import LogitBias

Context = Callable[[Tensor], Tensor]


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
    if bias is not None:
        # Of all queries there may be a number that is not known yet, in a graph for any size.
        every = rows == slice(None)
        start, stop = (0, q.shape[2]) if every else rows.indices(q.shape[2])[:2]
        logits = logits + bias.rows(start, stop)
    if mask is not None:
        mask = mask if mask.shape[2] == 1 else mask[:, :, rows]
        logits = logits.masked_fill(~mask, -torch.inf)
    return logits.softmax(-1)


def eager(
    q: Float[Tensor, "B h N d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    *,
    bias: LogitBias | None = None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    dropout: float = 0.0,
    context: Context | None = None,
) -> Float[Tensor, "B h N d"]:
    """P v + context(p) with p the `probabilities`."""
    probs = F.dropout(probabilities(q, k, bias=bias, mask=mask).to(v.dtype), dropout)
    out = probs @ v
    return out if context is None else out + context(probs)


def sdpa(
    q: Float[Tensor, "B h N d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    *,
    bias: LogitBias | None = None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B h N d"]:
    """The same by torch's fused attention, with a dense bias in the precision of q."""
    if bias is not None:
        dense = bias.dense().to(q.dtype)
        mask = dense if mask is None else dense.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


KernelName = Literal["auto", "eager", "sdpa"]


def choose_kernel(name: KernelName, *, context: Context | None) -> Callable[..., Tensor]:
    """The kernel to run: the only place with conditions.

    Raises:
        ValueError: an unknown name, or a kernel without the probabilities that an encoding needs.
    """
    if name not in ("auto", "eager", "sdpa"):
        raise ValueError(f"unknown kernel `{name}`: use auto, eager or sdpa")
    if context is None:
        return eager if name == "eager" else sdpa
    if name == "sdpa":
        raise ValueError("an encoding of this list acts on the values: use kernel auto or eager")
    return lambda *qkv, **options: eager(*qkv, context=context, **options)
