"""The only attention. Every encoding acts in it through the hooks of `AttentionEncoding`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmplugins.bias import Context, LogitBias
from mmplugins.grid import TokenGrid
from mmplugins.kernels import KernelCfg, KernelOptions, choose_kernel
from mmplugins.position_encodings.base import AttentionEncoding, Dims


class Terms(NamedTuple):
    """What softmax(scale * q k^T + bias) v is made of."""

    q: Float[Tensor, "B h N d"]
    k: Float[Tensor, "B h N d"]
    v: Float[Tensor, "B h N d"]
    bias: LogitBias | None


def project(
    x: Float[Tensor, "B N C"],
    grid: TokenGrid,
    weight: Float[Tensor, "C3 C"],
    bias: Float[Tensor, " C3"] | None,
    encodings: Iterable[AttentionEncoding],
    *,
    num_heads: int,
) -> Terms:
    """Rotated q and k, v, and what is added to the logits.

    `q, k = W_qk (x + inputs(x))`, `v = W_v x`; biases read q and k before rotation, so that no
    content bias reads absolute position out of them and the order of the list does not matter.

    Args:
        x: tokens.
        grid: where they lie.
        weight: the rows of W_q, W_k and W_v, as in timm's `qkv` and torch's `in_proj_weight`.
        bias: the bias of that projection.
        encodings: any number of `AttentionEncoding`.
        num_heads: h.
    """
    encodings = list(encodings)
    codes = [encoding.inputs(x, grid) for encoding in encodings]
    codes = [code for code in codes if code is not None]
    if not codes:
        q, k, v = F.linear(x, weight, bias).chunk(3, dim=-1)
    else:
        positioned = x + sum(codes)
        qk = 2 * x.shape[-1]
        q, k = F.linear(positioned, weight[:qk], bias if bias is None else bias[:qk]).chunk(2, -1)
        v = F.linear(x, weight[qk:], bias if bias is None else bias[qk:])
    q, k, v = (t.unflatten(-1, (num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B, h, N, d]
    logit_bias = LogitBias.sum([encoding.logit_bias(q, k, v, grid) for encoding in encodings])
    for encoding in encodings:
        q, k = encoding.rotate(q, k, grid)
    return Terms(q, k, v, logit_bias)


def attend(
    terms: Terms,
    grid: TokenGrid,
    encodings: Iterable[AttentionEncoding],
    *,
    dropout: float = 0.0,
    kernel: KernelCfg | KernelOptions = "auto",
) -> Float[Tensor, "B N C"]:
    """Self-attention before its output projection, with encodings at their five places.

    Args:
        terms: of the tokens, by `project` with the same encodings.
        grid: where they lie.
        encodings: those that act on the values as well are asked once more.
        dropout: probability to drop an attention weight.
        kernel: how to run it.
    """
    q, k, v, bias = terms
    context = Context.sum([encoding.context(grid) for encoding in encodings])
    mask = grid.attention_mask
    run = choose_kernel(kernel, q=q, bias=bias, context=context, mask=mask, dropout=dropout)
    out = run(q, k, v, bias=bias, mask=mask, dropout=dropout)
    return out.transpose(1, 2).flatten(2)


class SelfAttention(BaseModule, ABC):
    """What viewers and metrics find in any model: attention that tells what it is made of."""

    pos: nn.ModuleDict

    @abstractmethod
    def terms(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Terms:
        """`project` with the parameters and encodings of this module."""


class Attention(SelfAttention):
    """Multi-head self-attention with timm's parameter names and its encodings under `pos`."""

    def __init__(
        self,
        dims: Dims,
        pos: nn.ModuleDict,
        *,
        qkv_bias: bool = True,
        kernel: KernelCfg = "auto",
    ):
        super().__init__()
        self.num_heads, self.kernel = dims.num_heads, KernelOptions.of(kernel)
        self.qkv = nn.Linear(dims.embed_dims, 3 * dims.embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(dims.embed_dims, dims.embed_dims)
        self.pos = pos

    def forward(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """Tokens of `grid` in and out."""
        out = attend(self.terms(x, grid), grid, self.pos.values(), kernel=self.kernel)
        return self.proj(out)

    def terms(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Terms:
        """q, k, v and bias of the tokens."""
        weight, bias = self.qkv.weight, self.qkv.bias
        return project(x, grid, weight, bias, self.pos.values(), num_heads=self.num_heads)
