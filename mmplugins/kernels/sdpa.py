"""Attention by torch's fused kernels, with a dense bias."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmplugins.bias import LogitBias


def sdpa(
    q: Float[Tensor, "B h N d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    *,
    bias: LogitBias | None = None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B h N d"]:
    """As `eager`, with the bias in the precision of q."""
    if bias is not None:
        dense = bias.dense().to(q.dtype)
        mask = dense if mask is None else dense.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
