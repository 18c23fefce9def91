"""Geometry as a value: which tokens lie where, made once per forward pass.

Shapes everywhere: B batch, h heads, N tokens (prefix + HW), HW patches in row-major order, d head
dimension, C = h * d embedding dimension. Positions and displacements are in patches, height first.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

T = TypeVar("T")
Coords = Literal["index", "normalized"]


def is_known(*sizes: int) -> bool:
    """Whether all sizes are numbers, not symbols of a graph that `torch.export` makes for any size.

    A branch on a symbol would end the graph's use at all sizes of the other side.
    """
    return all(isinstance(size, int) for size in sizes)


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """`prefix` tokens without position, then `height` x `width` patches in row-major order.

    `valid` is True at real patches and None when all are; `mask` is True where a pair of tokens may
    attend (shifted windows) and None when all may. A `window` is a part of a larger grid: where it
    sticks out, its patches are not valid, but it is no smaller. Geometry is made on `device`, by
    default that of `valid` or `mask`, else the CPU.

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
    mask: Bool[Tensor, "#B 1 N N"] | None = None
    device: torch.device | str | None = None
    window: bool = False
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
    def displacements(self) -> Int[Tensor, "R C 2"]:
        """(y_i - y_j, x_i - x_j) of all pairs, R = 2H - 1, C = 2W - 1: the relative vocabulary."""
        return self.once("displacements", self._displacements)

    def counts(
        self, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "_ H W 2"], Float[Tensor, "_ H W 2"]]:
        """(y, x) of each patch among the valid ones of its column and row, from 1; their number."""
        return self.once(("counts", dtype), lambda: self._counts(dtype))

    def places(
        self, coords: Coords, *, train: tuple[int, int], dtype: torch.dtype
    ) -> Float[Tensor, "_ HW 2"]:
        """(y, x) of each patch in patches of the training grid `train`.

        `index`: as they are. `normalized`: the valid region is stretched to the training grid,
        borders upon borders, as in a resized picture: (y + 1/2) H_train / H - 1/2. A window has the
        size of those of the training grid: there both are the same.
        """
        if coords == "index" or self.window:
            return self.coords[None].to(dtype)
        counts, ends = (t.flatten(1, 2) for t in self.counts(dtype))
        size = torch.tensor(train, dtype=dtype, device=counts.device)
        return (counts - 0.5) * size / ends.clamp(min=1) - 0.5

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

    def _displacements(self) -> Tensor:
        y, x = (self._arange(2 * n - 1) - (n - 1) for n in (self.height, self.width))
        return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)

    def _counts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        valid = self.valid_map
        if valid is None:
            valid = torch.ones(1, self.height, self.width, device=self.coords.device)
        counts = torch.stack([valid.to(dtype).cumsum(dim) for dim in (1, 2)], dim=-1)
        y_end, x_end = counts[:, -1:, :, 0], counts[:, :, -1:, 1]
        return counts, torch.stack([y_end.expand_as(valid), x_end.expand_as(valid)], dim=-1)

    def _attention_mask(self) -> Tensor | None:
        if self.valid is None:
            mask = self.mask
        else:
            keys = torch.nn.functional.pad(self.valid, (self.prefix, 0), value=True)  # [B, N]
            mask = keys[:, None, None, :]
            mask = mask if self.mask is None else mask & self.mask
        return None if mask is None else mask | ~mask.any(-1, keepdim=True)
