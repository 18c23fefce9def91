"""The model of timm that does what a backbone of ours does, where there is one."""

from typing import Any

import torch

from mmplugins.checkpoints.convert import convert
from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError, State
from mmplugins.engine.inputs import InputError
from mmplugins.export.backbone import Backbone
from mmplugins.models.vit import ViT


def timm_model(backbone: Backbone) -> tuple[State, dict[str, Any]]:
    """Weights in timm's names, and the arguments of `timm.create_model` that they belong to.

    Raises:
        InputError: an encoding, or an option, that no model of timm has.
    """
    module = backbone.module
    if not isinstance(module, ViT):
        raise InputError(f"timm: {type(module).__name__} is no ViT of mmplugins")
    if any(block.window for block in module.blocks):
        raise InputError("timm: its ViT has no windows; this backbone has window_size")
    rotary = [cfg for cfg in backbone.encodings if cfg["type"].endswith("RoPE")]
    options = Options(
        grid=module.dims.grid, num_heads=module.dims.num_heads, encodings=backbone.encodings
    )
    mixed = rotary and rotary[0].get("variant") == "mixed"
    layout = "timm-rope" if mixed else "rope-vit-axial" if rotary else "timm"
    try:
        state = convert(backbone.state, source="mmplugins", to=layout, options=options).state
    except LayoutError as error:
        raise InputError(f"timm: {error}") from error
    return state, (_rotary if rotary else _plain)(backbone, state)


def _shared(backbone: Backbone, state: State) -> dict[str, Any]:
    dims, config = backbone.module.dims, backbone.config
    height, width = backbone.image_size
    return dict(
        img_size=(height, width),
        patch_size=config.get("patch_size", 16),
        in_chans=config.get("in_channels", 3),
        embed_dim=dims.embed_dims,
        depth=dims.depth,
        num_heads=dims.num_heads,
        mlp_ratio=config.get("mlp_ratio", 4.0),
        class_token="cls_token" in state,
        init_values=config.get("init_values"),
        num_classes=0,
        global_pool="",
    )


def _plain(backbone: Backbone, state: State) -> dict[str, Any]:
    """For timm's VisionTransformer."""
    table, (height, width) = state.get("pos_embed"), backbone.grid
    return dict(
        model_name="vit_base_patch16_224",
        **_shared(backbone, state),
        qkv_bias=backbone.config.get("qkv_bias", True),
        reg_tokens=_registers(state),
        no_embed_class=table is not None and table.shape[1] == height * width,
        pos_embed="none" if table is None else "learn",
        final_norm=backbone.config.get("final_norm", True),
    )


def _rotary(backbone: Backbone, state: State) -> dict[str, Any]:
    """For timm's Eva, which has its RoPE; there all of them scale their branches."""
    for index in range(backbone.module.dims.depth):
        for name in (f"blocks.{index}.gamma_1", f"blocks.{index}.gamma_2"):
            state.setdefault(name, torch.ones(backbone.module.dims.embed_dims))
    shared = _shared(backbone, state)
    shared["init_values"] = shared["init_values"] or 1.0
    mixed = "_mixed" if "rope.freqs" in state else ""
    return dict(
        model_name=f"vit_base_patch16_rope{mixed}_224",
        **shared,
        qkv_bias=backbone.config.get("qkv_bias", True),
        num_reg_tokens=_registers(state),
        use_post_transformer_norm=backbone.config.get("final_norm", True),
        use_abs_pos_emb="pos_embed" in state,
        no_embed_class=True,
    )


def _registers(state: State) -> int:
    return state["reg_token"].shape[1] if "reg_token" in state else 0
