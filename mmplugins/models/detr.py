"""DETR and Conditional DETR of mmdet with any list of position encodings in the encoder.

mmdet adds one sine to q and k of every encoder layer and forgets the grid when it flattens the map.
Here the encoder's position is the list alone (`DetrSine` is mmdet's sine), its attention is the one
attention with the map's grid and padding, and the decoder's is switched apart. Parameters keep
mmdet's names; encodings lie at `encoder.pos.<after>.<name>` and
`encoder.layers.i.self_attn.pos.<name>`. https://arxiv.org/abs/2005.12872
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from mmdet.models import detectors as host
from mmdet.models.layers import DetrTransformerEncoder, DetrTransformerEncoderLayer
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmplugins.attention import SelfAttention, Terms, attend, project
from mmplugins.grid import TokenGrid
from mmplugins.kernels import KernelCfg, KernelOptions
from mmplugins.models.trunk import run_blocks
from mmplugins.position_encodings.base import Dims, PositionEncoding
from mmplugins.position_encodings.builder import (
    build_attention_encodings,
    build_token_encodings,
)
from mmplugins.registry import MODELS


class EncoderSelfAttention(SelfAttention):
    """The one attention with the parameters, residual and dropout of mmdet's."""

    def __init__(
        self,
        dims: Dims,
        pos: nn.ModuleDict,
        *,
        kernel: KernelCfg = "auto",
        dropout: float = 0.0,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        super().__init__()
        self.kernel = KernelOptions.of(kernel)
        # As there, `dropout` serves both the attention and the residual branch.
        attn_drop, residual_drop = dropout or attn_drop, dropout
        self.attn = nn.MultiheadAttention(dims.embed_dims, dims.num_heads, attn_drop)
        self.drop = nn.Sequential(nn.Dropout(proj_drop), nn.Dropout(residual_drop))
        self.pos = pos

    def forward(self, x: Tensor, grid: TokenGrid) -> Tensor:
        """[B, N, C] tokens of `grid` in and out, the residual included."""
        out = attend(
            self.terms(x, grid),
            grid,
            self.pos.values(),
            dropout=self.attn.dropout if self.training else 0.0,
            kernel=self.kernel,
        )
        return x + self.drop(self.attn.out_proj(out))

    def terms(self, x: Tensor, grid: TokenGrid) -> Terms:
        """q, k, v and bias of the tokens."""
        attn, encodings = self.attn, self.pos.values()
        weight, bias = attn.in_proj_weight, attn.in_proj_bias
        return project(x, grid, weight, bias, encodings, num_heads=attn.num_heads)


class EncoderLayer(DetrTransformerEncoderLayer):
    """mmdet's encoder layer with the attention above.

    Raises:
        TypeError: an option of mmdet's attention that this one has not.
    """

    def __init__(self, dims: Dims, pos: nn.ModuleDict, kernel: KernelCfg, **layer_cfg):
        super().__init__(**layer_cfg)
        in_dims = {"embed_dims", "num_heads", "batch_first"}
        options = {name: v for name, v in self.self_attn_cfg.items() if name not in in_dims}
        self.self_attn = EncoderSelfAttention(dims, pos, kernel=kernel, **options)

    def forward(self, x: Tensor, grid: TokenGrid) -> Tensor:
        """[B, N, C] tokens of `grid` in and out."""
        x = self.norms[0](self.self_attn(x, grid))
        return self.norms[1](self.ffn(x))


class Encoder(DetrTransformerEncoder):
    """mmdet's DETR encoder, its layers run through the trunk.

    Args:
        num_layers: number of layers.
        layer_cfg: as in mmdet.
        position_encodings: configs of encodings; the empty list has none.
        grid: (height, width) in tokens that learned tables are made for; other sizes work too.
        with_cp: recompute layers in the backward pass, for memory.
        kernel: how attention is run: the name or options of `KernelOptions`.
        init_cfg: as in mmengine.
    """

    def __init__(
        self,
        num_layers: int,
        layer_cfg: dict,
        position_encodings: Sequence[dict] = (),
        grid: tuple[int, int] = (25, 42),
        with_cp: bool = False,
        kernel: KernelCfg = "auto",
        init_cfg: dict | list | None = None,
    ):
        self.position_encodings, self.grid = position_encodings, tuple(grid)
        self.with_cp, self.kernel = with_cp, kernel
        super().__init__(num_layers, layer_cfg, init_cfg=init_cfg)

    def _init_layers(self) -> None:
        attn_cfg = self.layer_cfg["self_attn_cfg"]
        self.embed_dims = attn_cfg["embed_dims"]
        dims = Dims(
            embed_dims=self.embed_dims,
            num_heads=attn_cfg["num_heads"],
            depth=self.num_layers,
            grid=self.grid,
        )
        self.pos = build_token_encodings(self.position_encodings, dims)
        self.layers = ModuleList(
            # mmdet writes into the config of a layer, so each gets its own.
            EncoderLayer(
                dims,
                build_attention_encodings(self.position_encodings, dims),
                self.kernel,
                **deepcopy(self.layer_cfg),
            )
            for _ in range(self.num_layers)
        )

    def forward(self, x: Tensor, grid: TokenGrid) -> Tensor:
        """[B, N, C] tokens of `grid` in and out."""
        with_cp = self.with_cp and self.training
        *_, memory = run_blocks(self.layers, self.pos, x, grid, with_cp=with_cp)
        return memory


class EncoderPositions:
    """What both detectors change: the encoder, and who gets to know the grid.

    Args:
        encoder: mmdet's options, and those that `Encoder` adds.
        decoder_pos: False takes the position from the decoder's keys.
    """

    def __init__(self, *, encoder: dict, decoder_pos: bool = True, **options):
        self.decoder_pos = decoder_pos
        super().__init__(encoder=encoder, **options)

    def _init_layers(self) -> None:
        options = self.encoder
        plain = ("position_encodings", "grid", "with_cp", "kernel")
        self.encoder = {name: v for name, v in options.items() if name not in plain}
        super()._init_layers()
        self.encoder = Encoder(**options)

    def init_weights(self) -> None:
        """The host's Xavier of everything, then the encodings' own initialisation."""
        super().init_weights()
        for module in self.encoder.modules():
            if isinstance(module, PositionEncoding):
                module.reset_parameters()

    def pre_transformer(self, img_feats: tuple[Tensor], batch_data_samples=None):
        """As in the host, plus the grid; the sine is for the decoder alone."""
        encoder_inputs, decoder_inputs = super().pre_transformer(img_feats, batch_data_samples)
        height, width = img_feats[-1].shape[-2:]
        padded = encoder_inputs["feat_mask"]  # True = padding
        feat = encoder_inputs["feat"]
        grid = TokenGrid(
            height=height,
            width=width,
            valid=None if padded is None else ~padded,
            device=feat.device,
        )
        if not self.decoder_pos:
            decoder_inputs["memory_pos"] = torch.zeros_like(decoder_inputs["memory_pos"])
        return dict(feat=feat, grid=grid), decoder_inputs

    def forward_encoder(self, feat: Tensor, grid: TokenGrid) -> dict:
        """`memory` [B, N, C] of the tokens `feat`."""
        return dict(memory=self.encoder(feat, grid))


@MODELS.register_module()
class DETR(EncoderPositions, host.DETR):
    """mmdet's DETR, `encoder` with `position_encodings`."""


@MODELS.register_module()
class ConditionalDETR(EncoderPositions, host.ConditionalDETR):
    """mmdet's Conditional DETR, `encoder` with `position_encodings`.

    https://arxiv.org/abs/2108.06152
    """
