"""Plain vision transformer for dense prediction, with any list of position encodings.

Parameters have timm's names (`patch_embed.proj`, `blocks.i.attn.qkv`, ...); encodings lie at
`pos.<after>.<name>` and `blocks.i.attn.pos.<name>`.
https://arxiv.org/abs/2010.11929, windows as in https://arxiv.org/abs/2203.16527
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from mmengine.model import BaseModule, ModuleList
from timm.layers import PatchEmbed
from torch import Tensor, nn

from mmplugins.grid import TokenGrid
from mmplugins.kernels import KernelCfg
from mmplugins.models.blocks import Block, LayerNorm
from mmplugins.models.trunk import run_blocks
from mmplugins.position_encodings.base import Dims
from mmplugins.position_encodings.builder import (
    build_attention_encodings,
    build_token_encodings,
)
from mmplugins.registry import MODELS

ARCHS = {
    "tiny": dict(embed_dims=192, depth=12, num_heads=3),
    "small": dict(embed_dims=384, depth=12, num_heads=6),
    "base": dict(embed_dims=768, depth=12, num_heads=12),
}


@MODELS.register_module()
class ViT(BaseModule):
    """Image [B, 3, H, W] to maps [B, C, ceil(H/p), ceil(W/p)], one for each of `out_indices`.

    Args:
        arch: tiny, small or base, or a dict of embed_dims, depth, num_heads.
        img_size: side or (height, width) of training images in pixels; learned tables are made for
            its grid, and any other size works too.
        patch_size: p, side of a patch in pixels. Images are filled up with zeros at the bottom and
            right to whole patches.
        in_channels: channels of the image.
        position_encodings: configs of encodings; the empty list has none.
        out_indices: blocks whose tokens are returned; the last block must be among them.
        window_size: side or (height, width) in patches of the windows that attention stays in; 0
            for global attention everywhere.
        global_blocks: blocks with global attention though there are windows; by default the last
            of each quarter, in a ViT of 12 blocks 2, 5, 8 and 11.
        with_cls_token: put a class token in front; it is never returned.
        num_registers: further learned tokens behind it, such as DeiT's distillation token or
            DINOv2's registers; never returned either.
        mlp_ratio: hidden features of an MLP as a multiple of C.
        qkv_bias: whether q, k and v have a bias.
        init_values: what each channel of a branch is multiplied by at first (LayerScale of CaiT,
            DeiT III, DINOv2); None for no such factors.
        drop_path_rate: probability to skip a branch in the last block, rising from 0 in the first.
        with_cp: recompute blocks in the backward pass, for memory.
        kernel: how attention is run: the name or options of `KernelOptions`.
        final_norm: normalise the output of the last block.
        init_cfg: as in mmengine; by default truncated normal weights.

    Raises:
        ValueError: options that do not fit together; the message says which.
    """

    def __init__(
        self,
        arch: str | dict = "small",
        *,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        position_encodings: Sequence[dict] = (),
        out_indices: Sequence[int] = (11,),
        window_size: int | tuple[int, int] = 0,
        global_blocks: Sequence[int] | None = None,
        with_cls_token: bool = False,
        num_registers: int = 0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        init_values: float | None = None,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        kernel: KernelCfg = "auto",
        final_norm: bool = True,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            init_cfg
            or [
                dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0),
                dict(type="Constant", layer="LayerNorm", val=1.0, bias=0.0),
            ]
        )
        height, width = _pair(img_size)
        dims = Dims(
            **_arch(arch),
            grid=(-(-height // patch_size), -(-width // patch_size)),
            prefix=int(with_cls_token) + num_registers,
        )
        window = _pair(window_size) if window_size else None
        if global_blocks is None:
            global_blocks = [dims.depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
        _check(dims, out_indices, window, global_blocks)
        self.dims, self.out_indices, self.with_cp = dims, tuple(out_indices), with_cp

        self.patch_embed = PatchEmbed(
            img_size=None,
            patch_size=patch_size,
            in_chans=in_channels,
            embed_dim=dims.embed_dims,
            output_fmt="NHWC",
            strict_img_size=False,
            dynamic_img_pad=True,
        )
        shapes = {"cls_token": int(with_cls_token), "reg_token": num_registers}
        self.prefix_names = [name for name, count in shapes.items() if count]
        for name in self.prefix_names:
            setattr(self, name, nn.Parameter(torch.empty(1, shapes[name], dims.embed_dims)))
            nn.init.trunc_normal_(getattr(self, name), std=0.02)
        self.pos = build_token_encodings(position_encodings, dims)
        self.blocks = ModuleList()
        for index in range(dims.depth):
            local = None if index in global_blocks else window
            block_dims = replace(dims, grid=local or dims.grid)
            self.blocks.append(
                Block(
                    block_dims,
                    build_attention_encodings(position_encodings, block_dims),
                    qkv_bias=qkv_bias,
                    window=local,
                    mlp_ratio=mlp_ratio,
                    init_values=init_values,
                    drop_path=drop_path_rate * index / max(dims.depth - 1, 1),
                    kernel=kernel,
                )
            )
        self.norm = LayerNorm(dims.embed_dims) if final_norm else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps after the blocks of `out_indices`, in their order."""
        x = self.patch_embed(x)  # [B, H, W, C]
        batch, height, width, _ = x.shape
        x = x.flatten(1, 2)
        if self.dims.prefix:
            prefix = [getattr(self, name).to(x.dtype) for name in self.prefix_names]
            x = torch.cat([*(tokens.expand(batch, -1, -1) for tokens in prefix), x], dim=1)
        grid = TokenGrid(height=height, width=width, prefix=self.dims.prefix, device=x.device)

        outputs = {}
        steps = run_blocks(self.blocks, self.pos, x, grid, with_cp=self.with_cp and self.training)
        for index, x in enumerate(steps):
            if index in self.out_indices:
                patches = grid.split(self.norm(x) if index == self.dims.depth - 1 else x)[1]
                outputs[index] = patches.transpose(1, 2).unflatten(2, (height, width)).contiguous()
        return tuple(outputs[index] for index in self.out_indices)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """(depth, number of depths) of a parameter, for layer-wise learning rate decay.

        Embeddings are at 0, block i and the encodings after it at i + 1, the rest at the end; names
        outside `prefix` count as the rest.
        """
        depths = self.dims.depth + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix) or name.startswith("norm"):
            return depths - 1, depths
        place, _, rest = name.partition(".")
        if place in ("blocks", "pos"):
            return int(rest.partition(".")[0]) + 1, depths
        return 0, depths


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width)."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2:
        raise ValueError(f"a size is one side or (height, width), not {size}")
    return pair


def _arch(arch: str | dict) -> dict:
    keys = ARCHS["tiny"].keys()
    if isinstance(arch, dict):
        if arch.keys() != keys:
            raise ValueError(f"arch: give {', '.join(keys)}, not {', '.join(arch)}")
        return arch
    if arch not in ARCHS:
        raise ValueError(
            f"unknown arch `{arch}`: use {', '.join(ARCHS)} or a dict of {', '.join(keys)}"
        )
    return ARCHS[arch]


def _check(
    dims: Dims,
    out_indices: Sequence[int],
    window: tuple[int, int] | None,
    global_blocks: Sequence[int],
) -> None:
    if not out_indices or sorted(set(out_indices)) != list(out_indices):
        raise ValueError(f"out_indices must rise, without repeats: {out_indices}")
    if out_indices[0] < 0 or out_indices[-1] != dims.depth - 1:
        raise ValueError(
            f"out_indices {out_indices} must lie in 0..{dims.depth - 1} and end there: "
            "later blocks would be computed in vain and have no gradient"
        )
    if window and dims.prefix:
        raise ValueError(
            "windows cannot hold a class token or registers: set with_cls_token=False and "
            "num_registers=0, or window_size=0"
        )
    if window and not set(global_blocks) <= set(range(dims.depth)):
        raise ValueError(f"global_blocks {global_blocks} must lie in 0..{dims.depth - 1}")
