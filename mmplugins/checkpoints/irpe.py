"""DeiT with iRPE of its authors: timm's names, with tables below each attention.

Tables of models with a class token have a bucket for it, their last; it goes where the token is
left behind. https://github.com/microsoft/Cream/tree/main/iRPE/DeiT-with-iRPE
"""

from mmplugins.checkpoints.irpe_tables import read_tables, write_tables
from mmplugins.checkpoints.layout import Layout, Options
from mmplugins.checkpoints.moves import LayoutError, Moves, State
from mmplugins.checkpoints.timm import DISTILLED
from mmplugins.checkpoints.vit import (
    HEAD,
    QKV,
    move_trunk,
    need_class_token,
    need_table,
    read_tokens,
    write_tokens,
)

THEIRS, OURS = "blocks.{i}.attn", "blocks.{i}.attn.pos.irpe"


def _read(moves: Moves, options: Options) -> list[dict]:
    prefix, depth = "cls_token" in moves.rest, moves.depth(QKV)
    irpe = read_tables(moves, THEIRS, OURS, options, depth=depth, prefix=prefix)
    if not irpe:
        raise LayoutError("missing: blocks.*.attn.rpe_*.lookup_table_*")
    encodings = read_tokens(moves, options, names=DISTILLED)
    move_trunk(moves, scales=())
    moves.leave(["head.{rest}", "head_dist.{rest}"], HEAD)
    return [*encodings, *irpe]


def _write(moves: Moves, options: Options) -> None:
    if not any(".attn.pos.irpe." in name for name in moves.rest):
        raise LayoutError("missing: blocks.*.attn.pos.irpe.*")
    need_class_token(moves)
    need_table(moves, options)
    write_tables(moves, THEIRS, OURS, options, depth=moves.depth(QKV), prefix=True)
    write_tokens(moves, names=DISTILLED, rows=len(DISTILLED))
    move_trunk(moves, scales=(), back=True)


def _is_irpe_deit(state: State) -> bool:
    return "blocks.0.attn.qkv.weight" in state and any(".attn.rpe_" in name for name in state)


LAYOUTS = (
    Layout(
        name="irpe-deit",
        family="vit",
        about="DeiT with iRPE of its authors",
        encodings=frozenset({"LearnedAPE", "IRPE"}),
        marks=_is_irpe_deit,
        read=_read,
        write=_write,
    ),
)
