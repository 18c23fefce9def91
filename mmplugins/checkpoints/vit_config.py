"""The config of the ViT that a state dict of ours belongs to, and those of its encodings."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError, Moves, State, shapes_told, some
from mmplugins.checkpoints.vit import QKV, TABLE
from mmplugins.models.vit import ARCHS
from mmplugins.registry import (
    MODELS,
    POSITION_ENCODINGS,
    check_options,
    position_encoding_class,
)


@shapes_told()
def vit_config(state: State, encodings: Sequence[dict], options: Options) -> dict[str, Any]:
    """Options of `mmplugins.ViT` that fit the shapes in `state`; those of its default are left out.

    Args:
        state: weights in our names.
        encodings: configs of its encodings.
        options: `num_heads` and `grid`, which shapes alone do not tell; the grid may be in a table.

    Raises:
        LayoutError: tensors that a ViT needs are missing, or of other shapes.
    """
    width, channels, patch, _ = state["patch_embed.proj.weight"].shape
    depth = Moves(state).depth(QKV)
    arch = dict(embed_dims=width, depth=depth, num_heads=options.heads(width))
    named = [name for name, known in ARCHS.items() if known == arch]
    table = state.get(TABLE)
    grid = options.grid or (224 // patch, 224 // patch) if table is None else table.shape[1:3]
    height, breadth = (int(side) * patch for side in grid)
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    register = state.get("reg_token")
    facts = {
        "img_size": (height if height == breadth else (height, breadth), 224),
        "patch_size": (patch, 16),
        "in_channels": (channels, 3),
        "with_cls_token": ("cls_token" in state, False),
        "num_registers": (0 if register is None else register.shape[1], 0),
        "mlp_ratio": (hidden / width, 4.0),
        "qkv_bias": ("blocks.0.attn.qkv.bias" in state, True),
        "init_values": (1.0 if "blocks.0.ls1.gamma" in state else None, None),
        "final_norm": ("norm.weight" in state, True),
        "out_indices": ((depth - 1,), (11,)),
    }
    return dict(
        type="mmplugins.ViT",
        arch=named[0] if named else arch,
        **{name: value for name, (value, default) in facts.items() if value != default},
        position_encodings=list(encodings),
    )


@shapes_told()
def check_vit(state: State, config: dict[str, Any]) -> None:
    """See that the ViT of `config` has exactly the tensors of `state`.

    Raises:
        LayoutError: lists what is missing, left over, or of another shape.
    """
    with torch.device("meta"):
        wanted = MODELS.build(config).state_dict()
    wrong = {
        "missing": sorted(wanted.keys() - state.keys()),
        "left over": sorted(state.keys() - wanted.keys()),
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    parts = [f"{what}: {some(names)}" for what, names in wrong.items() if names]
    if parts:
        raise LayoutError(f"no ViT of ours has these weights; {'; '.join(parts)}")


def plain(encodings: Iterable[dict]) -> list[dict]:
    """Configs of encodings that exist, with types as layouts name them: without our scope.

    Raises:
        KeyError, TypeError, ValueError: of what is none; the message says why.
    """
    known = []
    for encoding in encodings:
        kind = position_encoding_class(encoding, POSITION_ENCODINGS)
        check_options(kind, {name: value for name, value in encoding.items() if name != "type"})
        known.append({**encoding, "type": kind.__name__})
    return known
