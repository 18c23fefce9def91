"""ViTs with SaPE2 of its authors.

    attn.cope.cope_{x,y}.pos_emb [1, d, P]      blocks.i.attn.pos.sape2.table_{x,y} [d, P]
    attn.cope.cope_{x,y}.w_k [1, d, d]          gate_{x,y} [d, d], of the gates sep only

Weights do not tell which operand they were trained with: the authors' code has changed that of the
same option between commits, so it is `Options.operand`'s to say. Nor do they tell gates of values
from gates of keys; for the former set gate="v" in the config. Own keys of gates start from zero
and learn only where the operand is q: any that are not zero are those of gate="sep".

Some weights are in no use: factors of LayerScale, which the blocks leave out; keys of gates that
are zero; a norm for wavelets of the image. On the way back they are what they start from.

https://github.com/zhshy666/cope-vit
"""

from functools import partial

import torch

from mmplugins.checkpoints.layout import Layout, Options, expressible
from mmplugins.checkpoints.moves import LayoutError, Moves, State
from mmplugins.checkpoints.timm import GAMMAS
from mmplugins.checkpoints.vit import (
    HEAD,
    QKV,
    move_trunk,
    need_class_token,
    need_table,
    read_tokens,
    write_tokens,
)

THEIRS, OURS = "blocks.{i}.attn.cope.", "blocks.{i}.attn.pos.sape2."
TABLES = [(f"{THEIRS}cope_{axis}.pos_emb", f"{OURS}table_{axis}") for axis in "xy"]
KEYS = [(f"{THEIRS}cope_{axis}.w_k", f"{OURS}gate_{axis}") for axis in "xy"]
CLS = ("cls_token",)
FACTOR = 1e-4  # that LayerScale starts from


def _read(moves: Moves, options: Options) -> list[dict]:
    encodings = read_tokens(moves, options, names=CLS)
    moves.leave(GAMMAS, "LayerScale, which the blocks of that code leave out")
    wavelets = [f"{THEIRS}{part}.{{rest}}" for part in ("norm", "embed_dwt_x", "embed_dwt_y")]
    moves.leave(wavelets, "of wavelets of the image, which published models do not read")
    move_trunk(moves, scales=())
    moves.leave(["head.{rest}"], HEAD)

    keys = [tensor for name, tensor in moves.rest.items() if name.endswith(".w_k")]
    sape = dict(type="SaPE2", operand=options.operand)
    if any(key.any() for key in keys):
        if options.operand == "k":
            raise LayoutError(
                "keys of gates (w_k) have learned, which they do with the operand q only: "
                "give --operand q"
            )
        sape["gate"] = "sep"
        moves.rename(KEYS, change=partial(torch.squeeze, dim=0))
    else:
        moves.leave([theirs for theirs, _ in KEYS], "keys of gates, zero and so not in use")
    moves.rename(TABLES, change=partial(torch.squeeze, dim=0))
    table = moves.moved.get(f"{OURS}table_x".format(i=0))
    if table is not None:
        sape["num_positions"] = table.shape[1]
    return [*encodings, sape]


def _write(moves: Moves, options: Options) -> None:
    sape = expressible(
        options,
        "SaPE2",
        gate=("qk", "sep", "v"),
        gate_scale=("inv_sqrt_dim",),
        bias_scale=("none",),
        normalize=("none",),
        head_scale=(False,),
    )
    if sape and sape.get("gate") == "sep" and sape.get("operand", "k") == "k":
        raise LayoutError("SaPE2 there with gate='sep' has the operand q, not k")
    need_class_token(moves)
    need_table(moves, options)
    write_tokens(moves, names=CLS, rows=1)
    depth = moves.depth(QKV)
    move_trunk(moves, scales=(), back=True)

    learned = any(name.endswith(("gate_x", "gate_y")) for name in moves.rest)
    if learned:
        moves.rename(KEYS, back=True, change=partial(torch.unsqueeze, dim=0))
    moves.rename(TABLES, back=True, change=partial(torch.unsqueeze, dim=0))
    for i in range(depth):
        _fill(moves, i, keys=not learned)


def _fill(moves: Moves, i: int, *, keys: bool) -> None:
    """What block `i` has there without use, as it starts."""
    table = moves.moved.get(TABLES[0][0].format(i=i))
    norm = moves.moved.get(f"blocks.{i}.norm1.weight")
    if table is None or norm is None:
        return  # reported as missing
    for name in GAMMAS:
        moves.put(name.format(i=i), torch.full_like(norm, FACTOR))
    d = table.shape[1]
    moves.put(f"{THEIRS}norm.weight".format(i=i), table.new_ones(d))
    moves.put(f"{THEIRS}norm.bias".format(i=i), table.new_zeros(d))
    for name, _ in KEYS if keys else ():
        moves.put(name.format(i=i), table.new_zeros(1, d, d))


def _is_cope_vit(state: State) -> bool:
    return "blocks.0.attn.cope.cope_x.pos_emb" in state


LAYOUTS = (
    Layout(
        name="cope-vit",
        family="vit",
        about="SaPE2 of its authors; their operand by --operand",
        encodings=frozenset({"LearnedAPE", "SaPE2"}),
        marks=_is_cope_vit,
        read=_read,
        write=_write,
    ),
)
