"""softmax(q k^T / sqrt(d) + bias) v by torch's FlexAttention, for biases read from small tensors.

https://arxiv.org/abs/2412.05496. No tensor of N x N exists: each score looks its bias up, in a
value for each displacement (`BucketedTable`) or for each token and bucket (`BucketedContent`).
That holds on a GPU, where torch compiles the kernel. Elsewhere torch runs it in plain operations
that do make the scores: as exact, but of no use beyond tests.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmplugins.bias import BucketedContent, BucketedTable, LogitBias, SumBias

# What an image, a head, a query and a key add to their score; and what becomes of that score.
# These are lambdas, the one kind of function that the type checker of the tests leaves as it is:
# dynamo, which reads them, cannot see through it.
Read = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

# Triton makes the kernel; older versions of torch lack FlexAttention or cannot tell of an export.
COMPILES = find_spec("triton") is not None and hasattr(torch.compiler, "is_exporting")


def flex(
    q: Float[Tensor, "B h N d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    *,
    bias: LogitBias | None = None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B h N d"]:
    """P v; on a GPU without P.

    Raises:
        ValueError: a bias that no small tensors hold, or dropout.
        NotImplementedError: gradients of q, k or v off a GPU (by torch).
    """
    if dropout:
        raise ValueError("flex drops no attention weights: use kernel auto")
    batch, heads = q.shape[:2]
    return _attention(q)(q, k, v, score_mod=score_mod(bias, mask, batch=batch, heads=heads))


def supports(
    q: Float[Tensor, "B h N d"],
    bias: LogitBias | None,
    mask: Bool[Tensor, "_ 1 _ N"] | None,
    dropout: float,
) -> bool:
    """Whether `flex` is right and of use without being asked for: on a GPU, without gradients.

    There are gradients on a GPU, for who names this kernel. But those of a bias are sums by atomic
    additions of all pairs to the places of few tensors: in another order each time, and maybe slow
    (https://github.com/pytorch/pytorch/pull/137452); and reports of wrong ones are open
    (https://github.com/pytorch/pytorch/issues/143276 and 158212).
    """
    if dropout or not (q.is_cuda and COMPILES and is_readable(bias)):
        return False
    read = [*map(_values, _parts(bias)), *([] if mask is None else [mask])]
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in [q, *read])
    return (
        not learns
        and q.dtype != torch.float64
        and q.shape[-1] >= 16  # torch refuses smaller heads
        and all(t.numel() < 2**31 for t in read)  # its kernel counts in 32 bits (145869 there)
        and not (torch.compiler.is_exporting() or torch.jit.is_tracing())  # a graph for elsewhere
    )


def is_readable(bias: LogitBias | None) -> bool:
    """Whether small tensors hold this bias."""
    return all(isinstance(part, BucketedTable | BucketedContent) for part in _parts(bias))


def score_mod(
    bias: LogitBias | None,
    mask: Bool[Tensor, "_ 1 _ N"] | None = None,
    *,
    batch: int,
    heads: int,
) -> ScoreMod | None:
    """What becomes of each score, for FlexAttention; None if nothing does.

    A mask is looked up as well. A `BlockMask` could skip what is padded altogether, but to make one
    is to evaluate the mask of all pairs, in every pass anew.

    Raises:
        ValueError: a bias that no small tensors hold.
    """
    reads = [_read(part, batch, heads) for part in _parts(bias)]
    if mask is None:
        return _add(reads) if reads else None
    add, mask = _add(reads), mask[:, 0].expand(batch, -1, -1)
    if mask.shape[1] == 1:
        keys = mask[:, 0]
        return lambda s, b, h, i, j: torch.where(keys[b, j], add(s, b, h, i, j), -torch.inf)
    return lambda s, b, h, i, j: torch.where(mask[b, i, j], add(s, b, h, i, j), -torch.inf)


def _add(reads: list[Read]) -> ScoreMod:
    return lambda s, b, h, i, j: sum([read(b, h, i, j) for read in reads], start=s)


def _read(bias: LogitBias, batch: int, heads: int) -> Read:
    if not is_readable(bias):
        name = type(bias).__name__
        raise ValueError(
            f"flex reads biases from small tensors, which {name} has not: use kernel auto"
        )
    here, there, buckets = _displacements(bias)
    if isinstance(bias, BucketedTable):
        # One look-up a score instead of two, and many places to add gradients to instead of few.
        values = bias.table.index_select(1, buckets).expand(heads, -1)
        return lambda b, h, i, j: values[h, (here[i] - there[j]).clamp(min=0)]
    lookup = bias.lookup.expand(batch, heads, -1, -1)
    if bias.of_keys:
        return lambda b, h, i, j: lookup[b, h, j, buckets[(here[j] - there[i]).clamp(min=0)]]
    return lambda b, h, i, j: lookup[b, h, i, buckets[(here[i] - there[j]).clamp(min=0)]]


def _displacements(
    bias: BucketedTable | BucketedContent,
) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"], Int[Tensor, " P"]]:
    """`here`, `there`, `b`: b(i, j) = b[max(here[i] - there[j], 0)].

    Tensors alone, no sizes, which would be compiled in, and again for each new grid: displacements
    are numbered row by row, from 1, and a prefix token is too far from everything to have one.
    """
    buckets = bias.buckets
    height, width = buckets.grid
    stride, far = 2 * width - 1, buckets.table.numel() + 1
    patches = torch.arange(height * width, device=buckets.table.device, dtype=torch.int32)
    place = patches + patches // width * (stride - width)
    here = F.pad(place + far // 2, (buckets.prefix, 0), value=-far)
    there = F.pad(place, (buckets.prefix, 0), value=far)
    none = buckets.count if buckets.prefix else 0  # without prefix tokens there is no such bucket
    return here, there, F.pad(buckets.table.flatten(), (1, 0), value=none).int()


def _parts(bias: LogitBias | None) -> list[LogitBias]:
    if isinstance(bias, SumBias):
        return [part for one in bias.biases for part in _parts(one)]
    return [] if bias is None else [bias]


def _values(bias: BucketedTable | BucketedContent) -> Tensor:
    return bias.table if isinstance(bias, BucketedTable) else bias.lookup


def _attention(q: Tensor) -> Callable[..., Tensor]:
    """As it is within a larger graph, and off a GPU, where compilers fail at some `ScoreMod`."""
    if q.is_cuda and not torch.compiler.is_compiling():
        return _compiled()
    from torch.nn.attention.flex_attention import flex_attention  # slow, and not in torch 2.4

    return flex_attention


@cache
def _compiled() -> Callable[..., Tensor]:
    """Made at its first use, since this alone imports the compiler, for seconds.

    It holds a kernel for each kind of `ScoreMod`: one for the sizes that it met first, and one for
    any size from the second on. With more than eight in all torch would compile no more, but make
    the scores (`torch._dynamo.config.recompile_limit`); a model has one or two.
    """
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
