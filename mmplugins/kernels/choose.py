"""Which kernel runs: the only place with conditions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mmplugins.bias import Context, LogitBias
from mmplugins.kernels import distance, flex
from mmplugins.kernels.chunked import chunked
from mmplugins.kernels.eager import eager
from mmplugins.kernels.sdpa import sdpa
from mmplugins.registry import check_options

KernelName = Literal["auto", "eager", "sdpa", "chunked", "flex", "distance"]
KernelCfg = str | Mapping  # a `KernelName`, or options


@dataclass(frozen=True)
class KernelOptions:
    """How attention is run.

    Attributes:
        name: eager as written, sdpa by torch's fused kernels with a dense bias, chunked by tiles,
            flex by FlexAttention, distance by Triton for SaPE2 alone; auto decides.
        limit_mib: what the logits of a layer may take, in MiB of single precision, before auto
            turns to a kernel that never holds all of them; and, at most, those of a tile of
            chunked. None is 32 on a CPU, about its cache: there dense is the faster below it, and
            chunked above. On a GPU it is 256. Within torch.compile auto is dense at any size on a
            CPU, and on a GPU where neither flex nor distance serves.
    """

    name: KernelName = "auto"
    limit_mib: float | None = None

    @classmethod
    def of(cls, cfg: "KernelCfg | KernelOptions") -> "KernelOptions":
        """From a config: a name, or a dict of options.

        Raises:
            TypeError: an option that does not exist, or neither a name nor options.
            ValueError: an unknown name, or no room at all.
        """
        if isinstance(cfg, cls):
            return cfg
        if not isinstance(cfg, str | Mapping):
            raise TypeError(f"kernel is a name or a dict of options, not {cfg!r}")
        options = {"name": cfg} if isinstance(cfg, str) else dict(cfg)
        check_options(cls, options, name="kernel")
        if options.get("limit_mib") is not None and not options["limit_mib"] > 0:
            raise ValueError(f"kernel: limit_mib must be positive, not {options['limit_mib']}")
        return cls(**options)


def choose_kernel(
    cfg: KernelCfg | KernelOptions,
    *,
    q: Tensor,
    bias: LogitBias | None,
    context: Context | None,
    mask: Tensor | None,
    dropout: float,
) -> Callable[..., Tensor]:
    """The kernel to run for self-attention with these.

    Raises:
        ValueError: a kernel that cannot do what an encoding needs.
    """
    options = KernelOptions.of(cfg)
    name = options.name
    if name == "auto":
        name = _auto(options, q, bias, context, mask, dropout)
    if name == "chunked" and torch.compiler.is_dynamo_compiling():
        raise ValueError("kernel chunked is not for torch.compile: use kernel auto")
    if name in ("eager", "chunked"):
        run = eager if name == "eager" else partial(chunked, tile_mib=_tile_mib(options, q))
        return partial(run, context=context)
    if context is not None:
        raise ValueError(
            f"an encoding of this list acts on the values, which kernel {name} cannot: "
            "use kernel auto, eager or chunked"
        )
    return {"sdpa": sdpa, "flex": flex.flex, "distance": distance.distance}[name]


def _auto(
    options: KernelOptions,
    q: Tensor,
    bias: LogitBias | None,
    context: Context | None,
    mask: Tensor | None,
    dropout: float,
) -> KernelName:
    """The fastest of those that keep to the limit."""
    on_cpu = q.device.type == "cpu"
    if bias is None and context is None and not (on_cpu and dropout):  # which is not fused there
        return "sdpa"
    # With gradients of a bias, torch's own kernel for CPUs is no better than what is written.
    dense = "eager" if context is not None or (on_cpu and torch.is_grad_enabled()) else "sdpa"
    is_exporting = getattr(torch.compiler, "is_exporting", bool)  # not in torch 2.4
    exporting = torch.jit.is_tracing() or is_exporting()
    if exporting or (on_cpu and torch.compiler.is_compiling()):
        return dense  # to a compiler, each tile would be operations of its own
    batch, heads, tokens, _ = q.shape
    if 4 * batch * heads * tokens**2 <= _limit_mib(options, q) * 2**20:
        return dense
    if context is None and flex.supports(q, bias, mask, dropout):
        return "flex"
    if context is None and distance.supports(q, bias, mask, dropout):
        return "distance"
    return dense if torch.compiler.is_compiling() else "chunked"


def _limit_mib(options: KernelOptions, q: Tensor) -> float:
    return options.limit_mib or {"cpu": 32.0}.get(q.device.type, 256.0)


def _tile_mib(options: KernelOptions, q: Tensor) -> float:
    """On a CPU what was fastest: less are more calls, more leaves the caches earlier."""
    most = _limit_mib(options, q)
    return min(max(4.0, 512 * 4 * q.shape[2] / 2**20), most) if q.device.type == "cpu" else most
