"""softmax(q k^T / sqrt(d) + bias) v for distances between vectors, in memory linear in N.

bias[i, j] = scale (||x_i - x_j|| + ||y_i - y_j||), a `PairwiseDistance`, is made tile by tile on
the chip, forward and once more backward, so that the vectors are all that is kept of it. Runs by
Triton on GPUs of NVIDIA; the equations of both passes and their tiles are in `distance_tiles`,
imported with the first call. The bias is in full single precision, whatever that of q, k and v.
"""

from importlib.util import find_spec
from types import ModuleType

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmplugins.bias import LogitBias, PairwiseDistance


def supports(
    q: Float[Tensor, "B h N d"],
    bias: LogitBias | None,
    mask: Bool[Tensor, "_ 1 _ N"] | None,
    dropout: float,
    *,
    shared: int | None = None,
) -> bool:
    """Whether `distance` can run this.

    It cannot: other biases and sums of them, masks that differ between queries, dropout, float64,
    heads or sides of the grid above 128, or of which no tile fits.

    Args:
        q: queries, whose type and device are those of keys and values.
        bias: what is added to the logits.
        mask: True where a query may read a key.
        dropout: probability to drop an attention weight.
        shared: bytes of shared memory for a tile; by default `shared_memory` of q's device.
    """
    if not isinstance(bias, PairwiseDistance) or len(bias.vectors) != 2 or dropout > 0:
        return False
    if mask is not None and mask.shape[2] != 1:
        return False
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return False
    if any(z.dtype != torch.float32 or z.shape[:2] != q.shape[:2] for z in bias.vectors):
        return False
    shared = shared_memory(q.device) if shared is None else shared
    return shared > 0 and tile_side(q, bias, shared) is not None


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a block of threads of `device` may take; 0 without Triton.

    Also 0 on what is no GPU of NVIDIA since Ampere: older ones have no bfloat16.
    """
    if device.type != "cuda" or torch.version.hip is not None or find_spec("triton") is None:
        return 0
    chip = torch.cuda.get_device_properties(device)
    least = 99 * 1024  # of all such GPUs, for a torch that does not tell
    return getattr(chip, "shared_memory_per_block_optin", least) if chip.major >= 8 else 0


# What `torch.compiler.assume_constant_result` does, but for importing the compiler, for seconds.
shared_memory._dynamo_marked_constant = True


def padded(size: int) -> int | None:
    """The width of a tile for `size` channels, a power of two; None above the widest.

    Gradients of a token stay in registers, whole: that bounds them.
    """
    return next((width for width in (16, 32, 64, 128) if size <= width), None)


def tile_side(q: Float[Tensor, "B h N d"], bias: PairwiseDistance, shared: int) -> int | None:
    """Tokens on a side of the largest tile that takes no more than `shared` bytes; None if none.

    A token brings its q, k, v and gradient as the row and as the column of a tile (a fourth more
    for single precision, which tensor cores need in two halves), and two halves of its vectors, one
    more while the next ones are fetched.
    """
    depth, *widths = (padded(t.shape[-1]) for t in (q, *bias.vectors))
    if depth is None or None in widths:
        return None
    token = 10 * depth * q.element_size() + 12 * sum(widths)
    return next((side for side in (32, 16) if side * token <= shared), None)


def distance(
    q: Float[Tensor, "B h N d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    *,
    bias: PairwiseDistance,
    mask: Bool[Tensor, "_ 1 1 N"] | None = None,
    dropout: float = 0.0,
    shared: int | None = None,
) -> Float[Tensor, "B h N d"]:
    """The attention of `eager`, where it is one that `supports` allows.

    Raises:
        ValueError: it is not.
        ImportError: there is no Triton.
    """
    shared = shared_memory(q.device) if shared is None else shared
    if not supports(q, bias, mask, dropout, shared=shared):
        raise ValueError(
            "the kernel `distance` runs one PairwiseDistance of two axes, heads and sides of the "
            "grid of at most 128, in single or half precision, with a mask of keys at most and no "
            "dropout, on a GPU of NVIDIA since Ampere with Triton: use kernel auto"
        )
    heads = q.shape[1]
    scale = bias.scale
    if not isinstance(scale, Tensor):
        scale = torch.full((heads,), float(scale), device=q.device)
    scale = scale.flatten().float().expand(heads)
    side = tile_side(q, bias, shared)
    k, values = k.to(q.dtype), v.to(q.dtype)
    out, _ = _attend(q, k, values, *bias.vectors, scale, mask, bias.prefix, side)
    return out.to(v.dtype)


@torch.library.custom_op("mmplugins::distance_attention", mutates_args=())
def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    mask: Tensor | None,
    prefix: int,
    side: int,
) -> tuple[Tensor, Tensor]:
    """The result, and the logarithm to base 2 of the sum of each row."""
    return _launch().forward((q, k, v, x, y, scale), mask, prefix=prefix, side=side)


@torch.library.custom_op("mmplugins::distance_attention_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    mask: Tensor | None,
    out: Tensor,
    lse: Tensor,
    prefix: int,
    side: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, x, y and scale."""
    inputs = q, k, v, x, y, scale
    return _launch().backward(grad, inputs, mask, out, lse, prefix=prefix, side=side)


@_attend.register_fake
def _(q, k, v, x, y, scale, mask, prefix, side):
    return like_tokens(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@_attend_backward.register_fake
def _(grad, q, k, v, x, y, scale, mask, out, lse, prefix, side):
    tokens = (like_tokens(q) for _ in range(3))
    return *tokens, *(
        torch.empty_like(z, memory_format=torch.contiguous_format) for z in (x, y, scale)
    )


def like_tokens(q: Float[Tensor, "B h N d"]) -> Float[Tensor, "B h N d"]:
    """An empty tensor like q in the memory of [B, N, h, d], as the layer's projections have it."""
    batch, heads, tokens, depth = q.shape
    return q.new_empty(batch, tokens, heads, depth).transpose(1, 2)


def _save(ctx, inputs, output) -> None:
    *tensors, ctx.prefix, ctx.side = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx, grad, _):
    *inputs, out, lse = ctx.saved_tensors
    grads = _attend_backward(grad, *inputs, out, lse, ctx.prefix, ctx.side)
    return *grads, None, None, None  # mask, prefix and side


_attend.register_autograd(_differentiate, setup_context=_save)


def _launch() -> ModuleType:
    try:
        from mmplugins.kernels import distance_launch
    except ImportError as error:
        raise ImportError(
            "the kernel `distance` needs Triton: `pip install triton`, or use kernel auto"
        ) from error
    return distance_launch
