"""The pre-norm transformer block of ViT, with the parameter names of timm."""

from functools import partial

from mmengine.model import BaseModule
from timm.layers import DropPath, LayerScale, Mlp
from torch import Tensor, nn

from mmplugins.attention import Attention
from mmplugins.grid import TokenGrid
from mmplugins.kernels import KernelCfg
from mmplugins.position_encodings.base import Dims
from mmplugins.window import window_attention

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Block(BaseModule):
    """x + ls1 attn(norm1(x)), then x + ls2 mlp(norm2(x)).

    Args:
        dims: shape facts; `dims.grid` is the window where there is one.
        pos: the attention encodings of this block.
        qkv_bias: whether q, k and v have a bias.
        window: (height, width) of windows in patches, or None for global attention.
        mlp_ratio: hidden features of the MLP as a multiple of C.
        init_values: what the factors ls1 and ls2 of each channel start from; None for none.
        drop_path: probability to skip a branch, per sample.
        kernel: how attention is run.
    """

    def __init__(
        self,
        dims: Dims,
        pos: nn.ModuleDict,
        *,
        qkv_bias: bool = True,
        window: tuple[int, int] | None = None,
        mlp_ratio: float = 4.0,
        init_values: float | None = None,
        drop_path: float = 0.0,
        kernel: KernelCfg = "auto",
    ):
        super().__init__()
        self.window = window
        self.norm1 = LayerNorm(dims.embed_dims)
        self.attn = Attention(dims, pos, qkv_bias=qkv_bias, kernel=kernel)
        self.ls1 = _scale(dims, init_values)
        self.norm2 = LayerNorm(dims.embed_dims)
        self.mlp = Mlp(dims.embed_dims, int(mlp_ratio * dims.embed_dims))
        self.ls2 = _scale(dims, init_values)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, grid: TokenGrid) -> Tensor:
        """[B, N, C] tokens of `grid` in and out."""
        y = self.norm1(x)
        if self.window is None:
            y = self.attn(y, grid)
        else:
            y = window_attention(self.attn, y, grid, window=self.window)
        x = x + self.drop_path(self.ls1(y))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


def _scale(dims: Dims, init_values: float | None) -> nn.Module:
    return nn.Identity() if init_values is None else LayerScale(dims.embed_dims, init_values)
