"""What a position encoding is: a `TokenEncoding` or an `AttentionEncoding`, built from `Dims`."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ClassVar, Literal

from jaxtyping import Float
from mmengine.model import BaseModule
from torch import Tensor

from mmplugins.bias import Context, LogitBias
from mmplugins.grid import TokenGrid
from mmplugins.registry import check_options

Shift = Literal["roll", "canvas"]


@dataclass(frozen=True)
class Dims:
    """Shape facts of the model that an encoding is built for; the model's builder injects them.

    Attributes:
        embed_dims: C.
        num_heads: h.
        depth: number of blocks.
        grid: (height, width) in patches of a training image, or of a window.
        prefix: number of tokens without position in front.

    Raises:
        ValueError: dimensions that do not fit together.
    """

    embed_dims: int
    num_heads: int
    depth: int
    grid: tuple[int, int]
    prefix: int = 0

    def __post_init__(self):
        if min(self.embed_dims, self.num_heads, self.depth, *self.grid) < 1 or self.prefix < 0:
            raise ValueError(f"dimensions must be positive: {self}")
        if self.embed_dims % self.num_heads:
            raise ValueError(
                f"embed_dims ({self.embed_dims}) must be divisible by num_heads ({self.num_heads})"
            )

    @property
    def head_dims(self) -> int:
        """D = C / h."""
        return self.embed_dims // self.num_heads


class PositionEncoding(BaseModule, ABC):
    """What both kinds share: claims that tests hold them to, and an initialisation of their own.

    Attributes:
        source: URL of the paper.
        reads: what the encoding depends on.
        cost: multiply-adds of one layer for N patches, in symbols.
        examples: option sets that the contract tests build.
        equivariant: shifts of whole patches that commute with it. `canvas`: the valid patches move
            within a larger, masked canvas. `roll`: the grid is cyclic.
        other_grid: what happens at a grid it was not trained on.
        padding_free: an image is encoded alike alone and padded in a batch.

    The last three may depend on options: an instance then has its own.
    """

    source: ClassVar[str]
    reads: ClassVar[str]
    cost: ClassVar[str]
    examples: ClassVar[Sequence[dict]] = ({},)
    equivariant: frozenset[Shift] = frozenset()
    other_grid: str
    padding_free: bool = True

    def __init_subclass__(cls):
        """Let every encoding refuse options, and values of `Literal`s, that it does not know."""
        super().__init_subclass__()
        init = cls.__init__
        if "dims" not in inspect.signature(init).parameters or "__init__" not in vars(cls):
            return

        @wraps(init)
        def checked(self, dims: Dims, **options) -> None:
            check_options(cls, options)
            init(self, dims, **options)

        cls.__init__ = checked

    def reset_parameters(self) -> None:
        """Initialise the parameters; encodings without any have nothing to do."""

    def init_weights(self) -> None:
        """Called by the host after its own initialisation, which knows nothing of encodings."""
        self.reset_parameters()


class TokenEncoding(PositionEncoding):
    """Acts on the residual stream, after each of the blocks `after`; -1 is before block 0.

    Raises:
        TypeError: `after` is no list of block indices.
    """

    def __init__(self, *, after: Sequence[int] = (-1,)):
        super().__init__()
        if (
            not isinstance(after, Sequence)
            or not all(isinstance(i, int) for i in after)
            or not after
        ):
            raise TypeError(
                f"{type(self).__name__}: after={after!r} must be a list of block indices"
            )
        self.after = tuple(after)

    @abstractmethod
    def forward(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """The tokens with their position."""


class AttentionEncoding(PositionEncoding):
    """Acts inside one attention layer, by any of four hooks; each does nothing by default.

    q, k, v are [B, h, N, d], unscaled and, in `logit_bias`, unrotated.
    """

    def inputs(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Tensor | None:
        """Added to what q and k, but not v, are projected from; all encodings see the same `x`."""
        return None

    def rotate(self, q: Tensor, k: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """Rotated q and k."""
        return q, k

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> LogitBias | None:
        """A bias in logits, added after the scale."""
        return None

    def context(self, grid: TokenGrid) -> Context | None:
        """What is added to p v, a function of the attention probabilities p."""
        return None
