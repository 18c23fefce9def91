"""Geometry as a value: which tokens lie where, made once per forward pass.

Shapes everywhere: B batch, h heads, N tokens (prefix + HW), HW patches in row-major order, d head
dimension, C = h * d embedding dimension. Positions and displacements are in patches, height first.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """`prefix` tokens without position, then `height` x `width` patches in row-major order.

    `valid` is True at real patches and None when all are; `mask` is True where a pair of tokens may
    attend (shifted windows) and None when all may. Geometry is made on `device`, by default that
    of `valid` or `mask`, else the CPU.

    >>> grid = TokenGrid(height=2, width=3, prefix=1)
    >>> grid.num_tokens, grid.coords[4].tolist()
    (7, [1, 1])

    Raises:
        ValueError: a side below one, or a `valid` of another size.
    """

    height: int
    width: int
    prefix: int = 0
    valid: Bool[Tensor, "B HW"] | None = None
    mask: Bool[Tensor, "B 1 N N"] | None = None
    device: torch.device | str | None = None
    _shared: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if self.height < 1 or self.width < 1 or self.prefix < 0:
            raise ValueError(f"no grid has {self.height} x {self.width} + {self.prefix} tokens")
        if self.valid is not None and self.valid.shape[-1] != self.height * self.width:
            raise ValueError(
                f"`valid` covers {self.valid.shape[-1]} patches, "
                f"the grid has {self.height} x {self.width} = {self.height * self.width}"
            )

    @property
    def num_tokens(self) -> int:
        """N: prefix tokens and patches."""
        return self.prefix + self.height * self.width

    @property
    def coords(self) -> Int[Tensor, "HW 2"]:
        """(y, x) of each patch: the absolute vocabulary."""
        return self.once("coords", self._coords)

    @property
    def row_displacements(self) -> Int[Tensor, "H H"]:
        """y_i - y_j of two rows: with `col_displacements` the relative vocabulary."""
        return self.once("rows", lambda: self._displacements(self.height))

    @property
    def col_displacements(self) -> Int[Tensor, "W W"]:
        """x_i - x_j of two columns."""
        return self.once("columns", lambda: self._displacements(self.width))

    @property
    def valid_map(self) -> Bool[Tensor, "B H W"] | None:
        """`valid` as a picture."""
        return None if self.valid is None else self.valid.unflatten(1, (self.height, self.width))

    @property
    def attention_mask(self) -> Bool[Tensor, "B 1 n N"] | None:
        """True where a query (dim 2, one row if it is the same for all) may read a key (dim 3).

        A query that may read nothing, such as one in a window of padding, reads everything: nobody
        reads *it*, and a softmax over nothing would be NaN.
        """
        return self.once("attention_mask", self._attention_mask)

    def split(
        self, x: Float[Tensor, "B N C"]
    ) -> tuple[Float[Tensor, "B P C"], Float[Tensor, "B HW C"]]:
        """Prefix tokens and patches.

        Raises:
            ValueError: `x` has another number of tokens.
        """
        if x.shape[1] != self.num_tokens:
            raise ValueError(
                f"{x.shape[1]} tokens given, but the grid has {self.num_tokens}: "
                f"{self.prefix} + {self.height} x {self.width}"
            )
        return x[:, : self.prefix], x[:, self.prefix :]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Parameter-free geometry that all layers of this pass share; it dies with the grid."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def _arange(self, length: int) -> Tensor:
        tensors = [t for t in (self.valid, self.mask) if t is not None]
        return torch.arange(length, device=self.device or (tensors[0].device if tensors else None))

    def _coords(self) -> Tensor:
        y, x = self._arange(self.height), self._arange(self.width)
        return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)  # [HW, 2]

    def _displacements(self, length: int) -> Tensor:
        index = self._arange(length)
        return index[:, None] - index[None, :]

    def _attention_mask(self) -> Tensor | None:
        if self.valid is None:
            mask = self.mask
        else:
            keys = torch.nn.functional.pad(self.valid, (self.prefix, 0), value=True)  # [B, N]
            mask = keys[:, None, None, :]
            mask = mask if self.mask is None else mask & self.mask
        return None if mask is None else mask | ~mask.any(-1, keepdim=True)
