"""Our own names: the common form of ViTs and of DETR, so nothing moves."""

import re
from collections.abc import Callable
from functools import partial

from mmplugins.checkpoints.layout import Layout, Options
from mmplugins.checkpoints.moves import LayoutError, Moves, State, some
from mmplugins.checkpoints.vit import TOKENS

SAME = [("{rest}", "{rest}")]


def _read(moves: Moves, options: Options, *, marks: Callable[[State], bool]) -> list[dict]:
    if not marks(moves.rest):  # or every name would do
        raise LayoutError(f"names such as {some(list(moves.rest))}")
    if not options.cls_token and any(name in moves.rest for name in TOKENS):
        raise LayoutError(
            "weights of ours keep their class token and registers: leave them behind where you "
            "convert to ours"
        )
    moves.rename(SAME)
    return [dict(encoding) for encoding in options.encodings or ()]


def _write(moves: Moves, options: Options) -> None:
    moves.rename(SAME, back=True)


def _is_vit(state: State, *, named: bool = False) -> bool:
    """Timm's trunk with encodings of ours, or with nothing that has another name there.

    Tokens in front alone could be timm's, unless the layout is `named`.
    """
    trunk = {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}
    tokens = "dist_token|register_tokens" if named else "token"
    theirs = re.compile(rf"pos_embed|\.rpe_|freqs|\.cope\.|gamma_\d|head|{tokens}")
    encoded = any(re.search(r"(^|\.)pos\.", name) for name in state)
    return trunk <= state.keys() and (encoded or not any(map(theirs.search, state)))


def _may_be_detr(state: State) -> bool:
    """The names of mmdet, which are all if no encoding has parameters."""
    return {"bbox_head.fc_cls.weight", "encoder.layers.0.norms.0.weight"} <= state.keys()


def _is_detr(state: State) -> bool:
    """The names of mmdet with encodings of ours."""
    encoded = any(re.match(r"encoder\.(layers\.\d+\.self_attn\.)?pos\.", name) for name in state)
    return _may_be_detr(state) and encoded


LAYOUTS = (
    Layout(
        name="mmplugins",
        family="vit",
        about="our ViT",
        encodings=None,
        marks=_is_vit,
        read=partial(_read, marks=partial(_is_vit, named=True)),
        write=_write,
        entry="state_dict",
    ),
    Layout(
        name="mmplugins-detr",
        family="detr",
        about="our DETR: mmdet's names and our encodings",
        encodings=None,
        marks=_is_detr,
        read=partial(_read, marks=_may_be_detr),
        write=_write,
        entry="state_dict",
    ),
)
