"""ViTs with RoPE of rope-vit's authors, and timm's ports of them.

Pairs of channels and the order of x and y are ours, so that frequencies are only split by block:
    rope-vit    freqs [2, depth, h d/2]         ours blocks.i.attn.pos.rope.freqs [2, h, d/2]
    timm-rope   rope.freqs [2, depth, h, d/2]
Models of the variant axial have nothing of RoPE among their weights, in timm as at its authors.
With a table of positions they are named as DeiT III is: only whoever has them knows.

https://github.com/naver-ai/rope-vit, https://github.com/huggingface/pytorch-image-models (eva.py)
"""

import torch

from mmplugins.checkpoints.layout import Layout, Options, expressible
from mmplugins.checkpoints.moves import LayoutError, Moves, State
from mmplugins.checkpoints.timm import GAMMAS
from mmplugins.checkpoints.vit import (
    HEAD,
    QKV,
    TABLE,
    TOKENS,
    move_trunk,
    need_class_token,
    read_tokens,
    write_tokens,
)

FREQS = "blocks.{i}.attn.pos.rope.freqs"
ENCODINGS = frozenset({"LearnedAPE", "RoPE"})
CLS = ("cls_token",)


def _read_mixed(moves: Moves, options: Options) -> list[dict]:
    moves.leave(["freqs_t_x", "freqs_t_y"], "indices of the training grid, which are computed")
    freqs = moves.need("freqs")
    if freqs is not None:
        _split(moves, freqs.unflatten(2, (options.heads(2 * freqs.shape[2]), -1)))
    return _read(moves, options, names=CLS, variant="mixed")


def _read_timm(moves: Moves, options: Options) -> list[dict]:
    freqs = moves.need("rope.freqs")
    if freqs is not None:
        _split(moves, freqs)
    return _read(moves, options, names=TOKENS, variant="mixed")


def _read_axial(moves: Moves, options: Options) -> list[dict]:
    return _read(moves, options, names=CLS, variant="axial")


def _split(moves: Moves, freqs: torch.Tensor) -> None:
    """Give each block its own of `freqs` [2, depth, h, d/2]."""
    depth = moves.depth(QKV)
    if freqs.shape[1] != depth:
        raise LayoutError(f"frequencies of {freqs.shape[1]} blocks, where there are {depth}")
    for i, each in enumerate(freqs.unbind(1)):
        moves.put(FREQS.format(i=i), each)


def _read(moves: Moves, options: Options, *, names: tuple[str, ...], variant: str) -> list[dict]:
    encodings = read_tokens(moves, options, names=names)
    move_trunk(moves, scales=GAMMAS)
    moves.leave(["head.{rest}"], HEAD)
    return [*encodings, dict(type="RoPE", variant=variant)]


def _write_mixed(moves: Moves, options: Options) -> None:
    table = moves.rest.get(TABLE)
    grid = options.grid if table is None else table.shape[1:3]
    if grid is None:
        raise LayoutError(
            "indices of the training grid are among the weights there: give it, "
            "--grid HEIGHT WIDTH in patches"
        )
    need_class_token(moves)
    freqs = _joined(moves, options)
    if freqs is not None:
        moves.put("freqs", freqs.flatten(2))
        rows, columns = (torch.arange(side).to(freqs) for side in grid)
        moves.put("freqs_t_x", columns.repeat(len(rows)))
        moves.put("freqs_t_y", rows.repeat_interleave(len(columns)))
    _write(moves, names=CLS)


def _write_timm(moves: Moves, options: Options) -> None:
    freqs = _joined(moves, options)
    if freqs is not None:
        moves.put("rope.freqs", freqs)
    _write(moves, names=TOKENS)


def _write_axial(moves: Moves, options: Options) -> None:
    need_class_token(moves)
    able = dict(variant=("axial",), coords=("index",), temperature=(None, 100.0))
    if expressible(options, "RoPE", **able) is None:
        raise LayoutError("its weights do not tell of RoPE, so the config of encodings must")
    _write(moves, names=CLS)


def _joined(moves: Moves, options: Options) -> torch.Tensor | None:
    """The frequencies of all blocks [2, depth, h, d/2]; None if any are missing."""
    expressible(options, "RoPE", coords=("index",))
    found = [moves.need(FREQS.format(i=i)) for i in range(moves.depth(QKV))]
    return None if any(each is None for each in found) else torch.stack(found, dim=1)


def _write(moves: Moves, *, names: tuple[str, ...]) -> None:
    write_tokens(moves, names=names, rows=0)
    move_trunk(moves, scales=GAMMAS, back=True)


def _is_axial(state: State) -> bool:
    """LayerScale's factors by the names of DeiT III, and nothing else that tells of positions."""
    names = {"patch_embed.proj.weight", "blocks.0.gamma_1", "blocks.0.attn.qkv.bias", "cls_token"}
    others = ("freqs", ".cope.", ".rpe_", ".pos.", "reg_token", "dist_token", "mlp.w12", "rel_pos")
    return names <= state.keys() and not any(other in name for name in state for other in others)


LAYOUTS = (
    Layout(
        name="rope-vit",
        family="vit",
        about="rope-vit of its authors, mixed",
        encodings=ENCODINGS,
        marks=lambda state: "freqs" in state and "blocks.0.attn.qkv.weight" in state,
        read=_read_mixed,
        write=_write_mixed,
    ),
    Layout(
        name="rope-vit-axial",
        family="vit",
        about="rope-vit, axial, of its authors or in timm",
        encodings=ENCODINGS,
        marks=_is_axial,
        read=_read_axial,
        write=_write_axial,
    ),
    Layout(
        name="timm-rope",
        family="vit",
        about="rope-vit, mixed, in timm",
        encodings=ENCODINGS,
        marks=lambda state: "rope.freqs" in state,
        read=_read_timm,
        write=_write_timm,
    ),
)
