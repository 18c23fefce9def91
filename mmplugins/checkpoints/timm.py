"""ViTs of timm, DeiT, MAE and DINOv2, whose names are ours but for the tokens in front.

https://github.com/huggingface/pytorch-image-models, https://github.com/facebookresearch/deit,
https://github.com/facebookresearch/mae, https://github.com/facebookresearch/dinov2
"""

import re
from collections.abc import Sequence
from functools import partial

from mmplugins.checkpoints.layout import Layout, Options
from mmplugins.checkpoints.moves import Moves, State
from mmplugins.checkpoints.vit import HEAD, SCALES, TOKENS, move_trunk, read_tokens, write_tokens

DISTILLED = ("cls_token", "dist_token")
DINOV2 = ("cls_token", "register_tokens")
GAMMAS = ("blocks.{i}.gamma_1", "blocks.{i}.gamma_2")
ENCODINGS = frozenset({"LearnedAPE"})


def _read(
    moves: Moves, options: Options, *, names: Sequence[str], scales: Sequence[str] = SCALES
) -> list[dict]:
    encodings = read_tokens(moves, options, names=names)
    move_trunk(moves, scales=scales)
    moves.leave(["head.{rest}", "head_dist.{rest}"], HEAD)
    moves.leave(["mask_token"], "stands for masked patches in pretraining")
    moves.leave(["decoder_{rest}"], "the decoder of pretraining")
    return encodings


def _read_dinov2(moves: Moves, options: Options) -> list[dict]:
    # Trained with FSDP, blocks lie in chunks but are numbered throughout.
    moves.rest = {
        re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): tensor
        for name, tensor in moves.rest.items()
    }
    return _read(moves, options, names=DINOV2)


def _write(
    moves: Moves,
    options: Options,
    *,
    names: Sequence[str],
    scales: Sequence[str] = SCALES,
    rows: int | None = None,
) -> None:
    write_tokens(moves, names=names, rows=rows)
    move_trunk(moves, scales=scales, back=True)


def _is_vit(state: State) -> bool:
    """Timm's names, and none of those that others have added to them."""
    added = re.compile(r"\.rpe_|freqs|\.cope\.|\.gamma_\d|(^|\.)pos\.|^layers\.")
    trunk = {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}
    return trunk <= state.keys() and not any(map(added.search, state))


def _is_dinov2(state: State) -> bool:
    """Its own names, or LayerScale beside a mask token."""
    chunked = {"patch_embed.proj.weight", "blocks.0.0.attn.qkv.weight"} <= state.keys()
    scaled = {"mask_token", "blocks.0.ls1.gamma"} <= state.keys()
    return chunked or "register_tokens" in state or scaled


def _is_mae(state: State) -> bool:
    return _is_vit(state) and "decoder_pos_embed" in state


def _is_deit3(state: State) -> bool:
    """Factors named gamma and a table, which rope-vit's axial models with a table have too."""
    names = {"patch_embed.proj.weight", "blocks.0.gamma_1", "pos_embed", "cls_token"}
    return names <= state.keys() and not any(
        added in name for name in state for added in ("freqs", ".cope.", "mlp.w12")
    )


def _is_timm(state: State) -> bool:
    others = _is_dinov2(state) or _is_mae(state) or "dist_token" in state
    # Without position or a token in front, the same names would be ours.
    return _is_vit(state) and not others and not {"pos_embed", "cls_token"}.isdisjoint(state)


LAYOUTS = (
    Layout(
        name="timm",
        family="vit",
        about="timm's ViT, DeiT",
        encodings=ENCODINGS,
        marks=_is_timm,
        read=partial(_read, names=TOKENS),
        write=partial(_write, names=TOKENS),
    ),
    Layout(
        name="deit-distilled",
        family="vit",
        about="DeiT with a distillation token, which becomes a register",
        encodings=ENCODINGS,
        marks=lambda state: _is_vit(state) and "dist_token" in state,
        read=partial(_read, names=DISTILLED),
        write=partial(_write, names=DISTILLED),
    ),
    Layout(
        name="deit3",
        family="vit",
        about="DeiT III of its authors",
        encodings=ENCODINGS,
        marks=_is_deit3,
        read=partial(_read, names=TOKENS, scales=GAMMAS),
        write=partial(_write, names=TOKENS, scales=GAMMAS, rows=0),
    ),
    Layout(
        name="mae",
        family="vit",
        about="MAE as pretrained; its decoder is left behind",
        encodings=ENCODINGS,
        marks=_is_mae,
        read=partial(_read, names=TOKENS),
        write=partial(_write, names=TOKENS),
    ),
    Layout(
        name="dinov2",
        family="vit",
        about="DINOv2 as published, with registers or without, in chunks or not",
        encodings=ENCODINGS,
        marks=_is_dinov2,
        read=_read_dinov2,
        write=partial(_write, names=DINOV2, rows=1),
    ),
)
