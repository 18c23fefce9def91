"""The way through a stack of blocks with encodings between them: the trunk of every backbone."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.builder import encode_tokens


def run_blocks(
    blocks: Sequence[nn.Module],
    pos: nn.ModuleDict,
    x: Tensor,
    grid: TokenGrid,
    *,
    with_cp: bool = False,
) -> Iterator[Tensor]:
    """Yield the tokens after each block and its token encodings.

    Args:
        blocks: modules `(x, grid) -> x`.
        pos: token encodings by block index, -1 for those before the first.
        x: [B, N, C] tokens of `grid`.
        grid: where they lie.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
    """
    x = encode_tokens(pos, -1, x, grid)
    for index, block in enumerate(blocks):
        x = checkpoint(block, x, grid, use_reentrant=False) if with_cp else block(x, grid)
        x = encode_tokens(pos, index, x, grid)
        yield x
