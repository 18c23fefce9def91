"""iRPE: image relative position encoding, on any of queries, keys and values.

With s = 1 / sqrt(d), p the attention probabilities, T learned and b(i, j) one of K buckets:
    k, contextual: logits[i, j] += s q_i . T[:, b(i, j)]          T: d x K
    q, contextual: logits[i, j] += s k_j . T[:, b(j, i)]
    v, contextual: out[i] += sum_j p[i, j] T[b(i, j), :]          T: K x d
    k, bias:       logits[i, j] += T[b(i, j)]                     q, bias: T[b(j, i)]
b is defined in `irpe_buckets.py`; the method cross has two tables, whose terms add.

Source: https://arxiv.org/abs/2107.14222, eq. 13 to 26. Acts on the logits and the values; reads
directed displacements in patches, and q, k or p. All pairs with a prefix token share one more
bucket. At any other grid long displacements fall into the last bucket, so nothing is resized.
Deviation: biases are not scaled, as in the authors' code (eq. 13 divides them by sqrt(d)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.bias import BucketedContent, BucketedTable, BucketedValues, Context, LogitBias
from mmplugins.buckets import Buckets
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.position_encodings.irpe_buckets import (
    Axis,
    Index,
    count_buckets,
    displacement_buckets,
)
from mmplugins.registry import POSITION_ENCODINGS, check_options

Method = Literal["product", "euclidean", "quantisation", "cross"]
Mode = Literal["contextual", "bias"]
Init = Literal["zeros", "xavier"]


@dataclass(frozen=True)
class SideOptions:
    """Options of the encoding on one of q, k and v.

    Raises:
        ValueError: a ratio that is not positive.
    """

    method: Method = "product"
    mode: Mode = "contextual"
    shared_heads: bool = True
    ratio: float = 1.9
    index: Index = "piecewise"
    init: Init = "zeros"

    def __post_init__(self):
        if not 0 < self.ratio < math.inf:
            raise ValueError(f"IRPE: ratio must be positive, not {self.ratio}")

    @property
    def axes(self) -> Sequence[Axis]:
        """What each of the tables is indexed by."""
        return ("rows", "cols") if self.method == "cross" else (self.method,)


@POSITION_ENCODINGS.register_module()
class IRPE(AttentionEncoding):
    """One learned vector or bias for each bucket of displacements.

    Args:
        dims: shape facts.
        on: the sides it acts on, any of the letters q, k and v.
        method: how displacements fall into buckets.
        mode: whether the vector of a bucket meets the content, or is a bias by itself.
        shared_heads: one table for all heads of a layer.
        ratio: scale of the piecewise index; more is finer.
        index: piecewise, or clip.
        init: zeros, or Xavier's uniform as the authors' DETR.
        q: options that differ on this side, as `q=dict(mode="bias")`.
        k: likewise.
        v: likewise.

    Raises:
        ValueError: an option of another value, values in mode bias, or options of a side that `on`
            leaves out.
        TypeError: an option of a side that does not exist.
    """

    source = "https://arxiv.org/abs/2107.14222"
    reads = "displacements, with q, k or probabilities"
    cost = "N K C"
    equivariant = frozenset({"canvas"})
    other_grid = "last bucket"
    examples = (
        {},
        {"on": "qk", "method": "cross", "shared_heads": False},
        {"on": "qkv", "v": {"method": "quantisation", "ratio": 3.0}, "q": {"mode": "bias"}},
        {"on": "kv", "method": "euclidean", "index": "clip", "v": {"method": "cross"}},
        {"on": "qk", "mode": "bias", "init": "xavier", "shared_heads": False, "ratio": 1.0},
    )

    def __init__(
        self,
        dims: Dims,
        *,
        on: str = "k",
        method: Method = "product",
        mode: Mode = "contextual",
        shared_heads: bool = True,
        ratio: float = 1.9,
        index: Index = "piecewise",
        init: Init = "zeros",
        q: dict | None = None,
        k: dict | None = None,
        v: dict | None = None,
    ):
        super().__init__()
        overrides = {"q": q or {}, "k": k or {}, "v": v or {}}
        if not on or len(set(on)) != len(on) or not set(on) <= overrides.keys():
            raise ValueError(f"IRPE: on={on!r} must be some of the letters q, k, v")
        for side, options in overrides.items():
            if options and side not in on:
                raise ValueError(f"IRPE: options for {side}, but on={on!r}")
            check_options(SideOptions, options, name=f"IRPE on {side}")
        shared = SideOptions(method, mode, shared_heads, ratio, index, init)
        sides = {side: replace(shared, **overrides[side]) for side in on}
        if "v" in sides and sides["v"].mode == "bias":
            raise ValueError("IRPE: there is no bias mode on v; set v=dict(mode='contextual')")
        self.sides = nn.ModuleDict({side: IRPESide(side, dims, o) for side, o in sides.items()})

    def reset_parameters(self) -> None:
        """As `init` says."""
        for side in self.sides.values():
            side.reset_parameters()

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> LogitBias | None:
        """The terms of q and k."""
        content = {"k": q, "q": k}  # each side's table meets the other side's content
        return LogitBias.sum(
            [
                bias
                for side, operand in content.items()
                if side in self.sides
                for bias in self.sides[side].biases(operand, grid)
            ]
        )

    def context(self, grid: TokenGrid) -> Context | None:
        """The term of v."""
        return Context.sum(self.sides["v"].values(grid)) if "v" in self.sides else None


class IRPESide(nn.Module):
    """The tables of one side."""

    def __init__(self, side: str, dims: Dims, options: SideOptions):
        super().__init__()
        self.side, self.options = side, options
        heads = 1 if options.shared_heads else dims.num_heads
        self.tables = nn.ParameterDict()
        for axis in options.axes:
            buckets = count_buckets(axis, options.ratio) + (dims.prefix > 0)
            shape = {
                "bias": (heads, buckets),
                "contextual": (heads, dims.head_dims, buckets),
            }[options.mode]
            shape = (heads, buckets, dims.head_dims) if side == "v" else shape
            self.tables[axis] = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zeros: at first the model is the one without encoding. Or Xavier's uniform."""
        start = nn.init.xavier_uniform_ if self.options.init == "xavier" else nn.init.zeros_
        for table in self.tables.values():
            start(table)

    def biases(self, content: Float[Tensor, "B h N d"], grid: TokenGrid) -> list[LogitBias]:
        """What this side adds to the logits; `content` is that of the other side."""
        of_keys = self.side == "q"
        if self.options.mode == "contextual":
            scaled = content * content.shape[-1] ** -0.5
            return [
                BucketedContent(scaled @ table.to(scaled.dtype), buckets, of_keys=of_keys)
                for table, buckets in self._tables(grid)
            ]
        heads = content.shape[1]
        return [
            BucketedTable(table.expand(heads, -1), buckets.reversed if of_keys else buckets)
            for table, buckets in self._tables(grid)
        ]

    def values(self, grid: TokenGrid) -> list[Context]:
        """What this side adds to the values."""
        return [BucketedValues(table, buckets) for table, buckets in self._tables(grid)]

    def _tables(self, grid: TokenGrid) -> list[tuple[Tensor, Buckets]]:
        ratio, index = self.options.ratio, self.options.index
        return [
            (
                table,
                grid.once(
                    ("irpe", axis, ratio, index),
                    lambda axis=axis: displacement_buckets(grid, axis, ratio, index),
                ),
            )
            for axis, table in self.tables.items()
        ]
