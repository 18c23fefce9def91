"""Fixed sine and cosine encodings, of token indices and of the valid region.

SinCos2D, on the tokens before block 0 (https://arxiv.org/abs/2104.02057):
    x_t <- x_t + [sin(y_t w), cos(y_t w), sin(x_t w), cos(x_t w)],   w_c = T^(-4c/C), c < C/4
DetrSine, on what q and k are projected from in every layer (https://arxiv.org/abs/2005.12872):
    e_t(s) = [.., sin(s_t w_c), cos(s_t w_c), ..],   w_c = T^(-4c/C), c < C/4
    x_t <- x_t + [e(2 pi y'/(H' + eps)), e(2 pi x'/(W' + eps))]
with y', x' = 1, 2, .. counted over valid patches only and H', W' their number in the line.

Both read absolute coordinates in patches and have no parameters. Off the training grid SinCos2D
continues its formula, or stretches the valid region to the training grid (normalized); DetrSine
always maps the valid region to one period. Deviation: the rows come first in both; DetrSine equals
mmdet's `SinePositionalEncoding(num_feats=C/2, normalize=True)`.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmplugins.grid import Coords, TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims, TokenEncoding
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class SinCos2D(TokenEncoding):
    """Sines and cosines of the patch index, or of the place in the valid region.

    Args:
        dims: shape facts.
        temperature: T.
        coords: index, or normalized.
        after: blocks after which it acts, -1 before the first.
    """

    source = "https://arxiv.org/abs/2104.02057"
    reads = "absolute coordinates"
    cost = "0"
    other_grid = "formula"
    examples = ({}, {"coords": "normalized"})

    def __init__(
        self,
        dims: Dims,
        *,
        temperature: float = 10000.0,
        coords: Coords = "index",
        after: Sequence[int] = (-1,),
    ):
        super().__init__(after=after)
        self.quarter, self.temperature = _quarter(dims, temperature), temperature
        self.coords, self.train_grid = coords, dims.grid
        if coords == "normalized":
            self.equivariant = frozenset({"canvas"})
            self.other_grid = "stretched to the training grid"

    def forward(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """`x` plus the encoding; prefix tokens stay as they are."""
        key = ("sincos", self.quarter, self.temperature, self.coords, self.train_grid, x.dtype)
        return x + grid.once(key, lambda: self._encode(grid, x))

    def _encode(self, grid: TokenGrid, x: Tensor) -> Float[Tensor, "_ N C"]:
        precise = torch.promote_types(x.dtype, torch.float32)
        place = grid.places(self.coords, train=self.train_grid, dtype=precise)
        phase = _phase(place, self.quarter, self.temperature)
        code = torch.stack([phase.sin(), phase.cos()], dim=-2).flatten(-3)  # [_, HW, C]
        return F.pad(code, (0, 0, grid.prefix, 0)).to(x.dtype)


@POSITION_ENCODINGS.register_module()
class DetrSine(AttentionEncoding):
    """DETR's sine of the place within the valid region, added for q and k in every layer."""

    source = "https://arxiv.org/abs/2005.12872"
    reads = "absolute coordinates in the valid region"
    cost = "0"
    equivariant = frozenset({"canvas"})
    other_grid = "one period over the valid region"

    def __init__(self, dims: Dims, *, temperature: float = 10000.0):
        super().__init__()
        self.quarter, self.temperature = _quarter(dims, temperature), temperature

    def inputs(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """The encoding; zero for prefix tokens."""
        key = ("detr_sine", self.quarter, self.temperature, x.dtype)
        return grid.once(key, lambda: self._encode(grid, x)).expand(x.shape[0], -1, -1)

    def _encode(self, grid: TokenGrid, x: Tensor) -> Float[Tensor, "_ N C"]:
        precise = torch.promote_types(x.dtype, torch.float32)
        counts, ends = grid.counts(precise)  # [_, H, W, 2]
        place = 2 * math.pi * counts / (ends + 1e-6)
        phase = _phase(place, self.quarter, self.temperature)
        code = torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(-3)  # [_, H, W, C]
        return F.pad(code.flatten(1, 2), (0, 0, grid.prefix, 0)).to(x.dtype)


def _quarter(dims: Dims, temperature: float) -> int:
    """Number of frequencies: a sine and a cosine of each, for two axes.

    Raises:
        ValueError: embed_dims that four does not divide, or a temperature that is not positive.
    """
    if dims.embed_dims % 4:
        raise ValueError(f"sine encodings need embed_dims divisible by 4, not {dims.embed_dims}")
    if temperature <= 0:
        raise ValueError(f"sine encodings need a positive temperature, not {temperature}")
    return dims.embed_dims // 4


def _phase(
    place: Float[Tensor, "*n 2"], count: int, temperature: float
) -> Float[Tensor, "*n 2 {count}"]:
    """Places (y, x) times `count` falling frequencies."""
    exponent = torch.arange(count, dtype=place.dtype, device=place.device) / count
    return place[..., None] * temperature**-exponent
