"""The only attention. Every encoding acts in it through the hooks of `AttentionEncoding`."""

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmplugins.bias import LogitBias
from mmplugins.grid import TokenGrid
from mmplugins.kernels import KernelName, choose_kernel
from mmplugins.position_encodings.base import AttentionEncoding, Dims


def project(
    x: Float[Tensor, "B N C"],
    grid: TokenGrid,
    weight: Float[Tensor, "C3 C"],
    bias: Float[Tensor, " C3"] | None,
    encodings: Sequence[AttentionEncoding],
    *,
    num_heads: int,
) -> tuple[Tensor, Tensor, Tensor, LogitBias | None]:
    """Rotated q and k, v, each [B, h, N, d], and what is added to the logits.

    `q, k = W_qk inputs(x)`, `v = W_v x`; biases read q and k before rotation, so that no content
    bias reads absolute position out of them and the order of the list does not matter.
    """
    positioned = x
    for encoding in encodings:
        positioned = encoding.inputs(positioned, grid)
    if positioned is x:
        q, k, v = F.linear(x, weight, bias).chunk(3, dim=-1)
    else:
        qk = 2 * x.shape[-1]
        q, k = F.linear(positioned, weight[:qk], bias if bias is None else bias[:qk]).chunk(2, -1)
        v = F.linear(x, weight[qk:], bias if bias is None else bias[qk:])
    q, k, v = (t.unflatten(-1, (num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B, h, N, d]
    logit_bias = LogitBias.sum([encoding.logit_bias(q, k, v, grid) for encoding in encodings])
    for encoding in encodings:
        q, k = encoding.rotate(q, k, grid)
    return q, k, v, logit_bias


def attend(
    x: Float[Tensor, "B N C"],
    grid: TokenGrid,
    weight: Float[Tensor, "C3 C"],
    bias: Float[Tensor, " C3"] | None,
    encodings: Iterable[AttentionEncoding],
    *,
    num_heads: int,
    dropout: float = 0.0,
    kernel: KernelName = "auto",
) -> Float[Tensor, "B N C"]:
    """Self-attention before its output projection, with encodings at their five places.

    Args:
        x: tokens.
        grid: where they lie.
        weight: the rows of W_q, W_k and W_v, as in timm's `qkv` and torch's `in_proj_weight`.
        bias: the bias of that projection.
        encodings: any number of `AttentionEncoding`.
        num_heads: h.
        dropout: probability to drop an attention weight.
        kernel: how to run it.
    """
    encodings = list(encodings)
    q, k, v, logit_bias = project(x, grid, weight, bias, encodings, num_heads=num_heads)
    readers = [encoding for encoding in encodings if encoding.uses_probs]
    context = (lambda probs: sum(e.context(probs, grid) for e in readers)) if readers else None
    run = choose_kernel(kernel, context=context)
    out = run(q, k, v, bias=logit_bias, mask=grid.attention_mask, dropout=dropout)
    return out.transpose(1, 2).flatten(2)


class Attention(BaseModule):
    """Multi-head self-attention with timm's parameter names and its encodings under `pos`."""

    def __init__(
        self,
        dims: Dims,
        pos: nn.ModuleDict,
        *,
        qkv_bias: bool = True,
        kernel: KernelName = "auto",
    ):
        super().__init__()
        self.num_heads, self.kernel = dims.num_heads, kernel
        self.qkv = nn.Linear(dims.embed_dims, 3 * dims.embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(dims.embed_dims, dims.embed_dims)
        self.pos = pos

    def forward(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """Tokens of `grid` in and out."""
        out = attend(
            x,
            grid,
            self.qkv.weight,
            self.qkv.bias,
            self.pos.values(),
            num_heads=self.num_heads,
            kernel=self.kernel,
        )
        return self.proj(out)
