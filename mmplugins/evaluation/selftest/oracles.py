"""Small models of which one knows beforehand whether they are translation-equivariant."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmplugins.bias import BucketedTable
from mmplugins.buckets import Buckets
from mmplugins.grid import TokenGrid
from mmplugins.models.blocks import Block
from mmplugins.models.trunk import run_blocks
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.position_encodings.builder import (
    build_attention_encodings,
    build_token_encodings,
)

PATCH, GRID = 4, (8, 8)
DIMS = Dims(embed_dims=32, num_heads=2, depth=3, grid=GRID)
PairMask = Callable[[TokenGrid], Bool[Tensor, "1 1 N N"]]


class TinyViT(nn.Module):
    """Three blocks over 8 x 8 patches of 4 x 4 pixels, parameters drawn large enough to matter.

    Args:
        encodings: configs of encodings, as in every model.
        torus: encodings that know the border to be none, added to each block.
        pairs: which patches may attend to each other.
    """

    def __init__(
        self,
        encodings: Sequence[dict] = (),
        *,
        torus: Callable[[], AttentionEncoding] | None = None,
        pairs: PairMask | None = None,
    ):
        super().__init__()
        self.pairs = pairs
        self.embed = nn.Conv2d(3, DIMS.embed_dims, PATCH, stride=PATCH)
        self.pos = build_token_encodings(encodings, DIMS)
        self.blocks = nn.ModuleList()
        for _ in range(DIMS.depth):
            pos = build_attention_encodings(encodings, DIMS)
            if torus is not None:
                pos["torus"] = torus()
            self.blocks.append(Block(DIMS, pos, kernel="eager"))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)
        self.eval()

    def forward(
        self, x: Float[Tensor, "B 3 H W"], valid: Bool[Tensor, "H W"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Features of patches; those that are not all content are padding."""
        x = self.embed(x)
        height, width = x.shape[2:]
        if valid is not None:
            patches = valid.unflatten(0, (height, PATCH)).unflatten(2, (width, PATCH))
            valid = patches.all(3).all(1).flatten().expand(len(x), -1)
        grid = TokenGrid(height=height, width=width, valid=valid, device=x.device)
        if self.pairs is not None:
            grid = TokenGrid(height=height, width=width, mask=self.pairs(grid), device=x.device)
        *_, out = run_blocks(self.blocks, self.pos, x.flatten(2).transpose(1, 2), grid)
        return out.transpose(1, 2).unflatten(2, (height, width))


class TorusBias(AttentionEncoding):
    """A value for each displacement around the border: exact under rolls."""

    source = "https://arxiv.org/abs/2103.14030"
    reads = "displacements modulo the grid"
    cost = "0"
    other_grid = "none"
    equivariant = frozenset({"roll"})

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.empty(DIMS.num_heads, GRID[0] * GRID[1]))

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> BucketedTable:
        """By the displacement modulo the sides."""
        dy, dx = grid.displacements.unbind(-1)
        buckets = dy % grid.height * grid.width + dx % grid.width
        return BucketedTable(self.table, Buckets(buckets, grid.height * grid.width))


class TorusRoPE(AttentionEncoding):
    """Rotations that come full circle at the border: exact under rolls."""

    source = "https://arxiv.org/abs/2403.13298"
    reads = "displacements modulo the grid, with q and k"
    cost = "4 N C"
    other_grid = "none"
    equivariant = frozenset({"roll"})

    def rotate(self, q: Tensor, k: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """Pair c turns c times in a row and twice as often, less one, in a column."""
        turns = torch.arange(q.shape[-1] // 2, dtype=q.dtype, device=q.device)
        y, x = grid.coords.to(q.dtype).unbind(-1)
        phase = y[:, None] / grid.height * (2 * turns - 1) + x[:, None] / grid.width * turns
        wave = torch.polar(torch.ones_like(phase), 2 * torch.pi * phase)  # [HW, d/2]

        def turn(t: Tensor) -> Tensor:
            pairs = torch.view_as_complex(t.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * wave).flatten(-2)

        return turn(q), turn(k)


def windows(side: int, *, shift: int = 0, cut: bool = False) -> PairMask:
    """Attention within windows of `side` patches, shifted by `shift` around the border.

    Args:
        side: of a window.
        shift: how far windows start from the top left; those at the end go on at the start.
        cut: those that go on are cut in two, as Swin does.
    """

    def mask(grid: TokenGrid) -> Tensor:
        def line(place: Tensor, length: int) -> Tensor:
            moved = (place - shift) % length
            return moved // side + (cut * length) * (place < shift)

        y, x = grid.coords.unbind(-1)
        region = line(y, grid.height) * 100 * grid.width + line(x, grid.width)
        return (region[:, None] == region)[None, None]

    return mask


class TinyCNN(nn.Module):
    """Two convolutions, the second of stride 4, with padding around the border or of zeros."""

    def __init__(self, padding_mode: str):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, padding_mode=padding_mode)
        self.second = nn.Conv2d(8, 8, 4, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 8, H / 4, W / 4]."""
        return self.second(self.first(x).relu())


class Pooled(nn.Module):
    """The pyramid of PSPNet and UperNet: averages over coarse cells, beside the map itself."""

    def __init__(self, *scales: int):
        super().__init__()
        self.scales = scales

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C (1 + scales), H, W]."""
        size = x.shape[2:]
        pooled = [
            F.interpolate(F.adaptive_avg_pool2d(x, scale), size, mode="bilinear")
            for scale in self.scales
        ]
        return torch.cat([x, *pooled], dim=1)
