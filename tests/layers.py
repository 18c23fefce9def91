"""A small model around a list of encodings, and shifts of its tokens, for the contract tests."""

import torch
from torch import Tensor, nn

from mmplugins.grid import TokenGrid
from mmplugins.models.blocks import Block
from mmplugins.models.trunk import run_blocks
from mmplugins.position_encodings import Dims
from mmplugins.position_encodings.builder import (
    build_attention_encodings,
    build_token_encodings,
)
from mmplugins.registry import POSITION_ENCODINGS

POSITION_ENCODINGS.import_from_location()
CASES = [
    {"type": name, **example}
    for name, encoding in sorted(POSITION_ENCODINGS.module_dict.items())
    for example in encoding.examples
]
HEIGHT, WIDTH = 4, 5  # never square


def case_id(cfg: dict) -> str:
    return "-".join(str(value) for value in cfg.values())


class Model(nn.Module):
    """Two blocks with the encodings of `cfgs`, their parameters drawn large enough to matter."""

    def __init__(
        self,
        cfgs,
        *,
        prefix=0,
        grid=(HEIGHT, WIDTH),
        window=None,
        embed_dims=16,
        num_heads=2,
        seed=0,
    ):
        super().__init__()
        torch.manual_seed(seed)
        dims = Dims(embed_dims=embed_dims, num_heads=num_heads, depth=2, grid=grid, prefix=prefix)
        self.pos = build_token_encodings(cfgs, dims)
        self.blocks = nn.ModuleList(
            Block(dims, build_attention_encodings(cfgs, dims), window=window) for _ in range(2)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4)
        self.eval()

    def set_kernel(self, name: str) -> "Model":
        for block in self.blocks:
            block.attn.kernel = name
        return self

    def forward(self, x: Tensor, grid: TokenGrid, *, with_cp: bool = False) -> Tensor:
        *_, out = run_blocks(self.blocks, self.pos, x, grid, with_cp=with_cp)
        return out


def tokens(*, batch=2, height=HEIGHT, width=WIDTH, prefix=0, embed_dims=16, seed=1, **options):
    generator = torch.Generator().manual_seed(seed)
    shape = batch, prefix + height * width, embed_dims
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(**options)


def on_canvas(x: Tensor, *, canvas: tuple[int, int], offset: tuple[int, int]):
    """The [B, 4, 5] content within a larger canvas of loud garbage: its tokens and its grid."""
    (height, width), (top, left) = canvas, offset
    picture = 3 + 5 * tokens(batch=len(x), height=height, width=width, seed=top + 10 * left)
    picture = picture.unflatten(1, canvas).to(x)
    valid = torch.zeros(len(x), height, width, dtype=torch.bool)
    content = slice(None), slice(top, top + HEIGHT), slice(left, left + WIDTH)
    picture[content] = x.unflatten(1, (HEIGHT, WIDTH))
    valid[content] = True
    return picture.flatten(1, 2), TokenGrid(height=height, width=width, valid=valid.flatten(1))


def patches(out: Tensor, grid: TokenGrid) -> Tensor:
    """The valid patches of `out`, image by image, [B, 4 * 5, C]."""
    return out[:, grid.prefix :][grid.valid].unflatten(0, (len(out), -1))


def roll(x: Tensor, shift: tuple[int, int]) -> Tensor:
    return x.unflatten(1, (HEIGHT, WIDTH)).roll(shift, dims=(1, 2)).flatten(1, 2)
