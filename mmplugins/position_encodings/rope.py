"""RoPE: rotary position encoding in two dimensions, axial or mixed.

With d/2 pairs (a, b) of neighbouring components of q and of k, c < d/2:
    (a_c, b_c) <- (a_c cos phi_c - b_c sin phi_c, a_c sin phi_c + b_c cos phi_c)
    phi_c = x omega^x_c + y omega^y_c
    axial: omega^x = [m; 0], omega^y = [0; m],          m_t = T^(-4t/d), t < d/4, T = 100
    mixed: omega learned for each head, at first        T = 10, alpha uniform in [0, 2 pi)
           omega^x = [m cos(alpha); -m sin(alpha)], omega^y = [m sin(alpha); m cos(alpha)]

Source: https://arxiv.org/abs/2403.13298. Acts on q and k; logits read displacements in patches,
with q and k. Prefix tokens are not rotated, as if they lay at the origin. At another grid indices
go on, as in the paper. Deviation: as an option the valid region is stretched to the training grid
(normalized), in windows not. x comes first,
as in the published models: theirs then load by renaming alone, learned frequencies and the channels
of q and k alike. Computed in fp32 or better.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.grid import Coords, TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class RoPE(AttentionEncoding):
    """Rotations of q and k; mixed learns `freqs` [2, h, d/2], omega^x at 0 and omega^y at 1.

    Args:
        dims: shape facts.
        variant: axial, where half of the pairs turn with x and the others with y, or mixed.
        coords: index, or normalized.
        temperature: T, by default 100 for axial and 10 for mixed.

    Raises:
        ValueError: a head dimension that four does not divide, or a T that is not positive.
    """

    source = "https://arxiv.org/abs/2403.13298"
    reads = "displacements, with q and k"
    cost = "4 N C"
    equivariant = frozenset({"canvas"})
    other_grid = "formula"
    examples = ({}, {"variant": "mixed", "coords": "normalized"})

    def __init__(
        self,
        dims: Dims,
        *,
        variant: Literal["axial", "mixed"] = "axial",
        coords: Coords = "index",
        temperature: float | None = None,
    ):
        super().__init__()
        if dims.head_dims % 4:
            raise ValueError(
                f"RoPE: embed_dims / num_heads must be divisible by 4, not {dims.head_dims}"
            )
        if temperature is None:
            temperature = {"axial": 100.0, "mixed": 10.0}[variant]
        if temperature <= 0:
            raise ValueError(f"RoPE: temperature must be positive, not {temperature}")
        self.coords, self.temperature, self.train_grid = coords, temperature, dims.grid
        self.quarter = dims.head_dims // 4
        if coords == "normalized":
            self.other_grid = "stretched to the training grid"
        shape = 2, dims.num_heads, dims.head_dims // 2
        self.freqs = nn.Parameter(torch.empty(shape)) if variant == "mixed" else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Two orthogonal directions, turned by an angle drawn for each head."""
        if self.freqs is not None:
            self.freqs.copy_(self._frequencies(2 * math.pi * torch.rand_like(self.freqs[0, :, :1])))

    def rotate(self, q: Tensor, k: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """Q and k, each pair turned by its phase."""
        dtype = torch.promote_types(q.dtype, torch.float32)
        if self.freqs is None:
            key = ("rope", self.quarter, self.temperature, self.coords, self.train_grid, dtype)
            still = torch.zeros(1, 1, dtype=dtype, device=q.device)
            waves = grid.once(key, lambda: self._waves(self._frequencies(still), grid))
        else:
            waves = self._waves(self.freqs.to(dtype), grid)
        return _turn(q, *waves), _turn(k, *waves)

    def _frequencies(self, angle: Float[Tensor, "h 1"]) -> Float[Tensor, "2 h _"]:
        """Omega^x and omega^y, those of axial turned by `angle`."""
        exponent = torch.arange(self.quarter, dtype=angle.dtype, device=angle.device) / self.quarter
        size = self.temperature**-exponent
        along, across = size * angle.cos(), size * angle.sin()
        return torch.stack([torch.cat([along, -across], -1), torch.cat([across, along], -1)])

    def _waves(
        self, freqs: Float[Tensor, "2 h _"], grid: TokenGrid
    ) -> tuple[Float[Tensor, "_ h N _"], Float[Tensor, "_ h N _"]]:
        """Cosines and sines of all phases, those of prefix tokens zero."""
        places = grid.places(self.coords, train=self.train_grid, dtype=freqs.dtype)
        y, x = places[:, None, :, None].unbind(-1)  # [_, 1, HW, 1]
        # No matrix product: autocast would round it to half precision.
        phase = x * freqs[0, :, None] + y * freqs[1, :, None]  # [_, h, HW, d/2]
        phase = F.pad(phase, (0, 0, grid.prefix, 0))
        return phase.cos(), phase.sin()


def _turn(t: Float[Tensor, "B h N d"], cos: Tensor, sin: Tensor) -> Float[Tensor, "B h N d"]:
    """Each pair as a point of the plane, turned about the origin."""
    a, b = t.to(cos.dtype).unflatten(-1, (-1, 2)).unbind(-1)  # [B, h, N, d/2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(t.dtype)
