"""ViTs of mmpretrain and of mmseg.

`mmpretrain` is written for its VisionTransformer, or with one register for its DeiT's
DistilledVisionTransformer; read are those of its DeiT3, too. (In onedl-mmpretrain 1.3.6 DeiT3 runs
attention's norm before the MLP, too; ours runs the MLP's, with which the weights were trained.)
`mmseg` has a class token and its row in the table even with `with_cls_token=False`, which drops
both before the first block: leave them behind then, by --no-cls-token. Without one in our model
they are written as zeros, for that option. Its other options must fit what was written:
`patch_bias=True` and `final_norm=True` where these weights exist, or they are dropped silently.

Norms of ours have eps 1e-6, as mmpretrain's and those of mmseg's configs; mmseg's default is 1e-5.

https://github.com/open-mmlab/mmpretrain, https://github.com/open-mmlab/mmsegmentation
"""

from mmplugins.checkpoints.layout import Layout, Options
from mmplugins.checkpoints.moves import Moves, Names, State
from mmplugins.checkpoints.timm import DISTILLED, ENCODINGS
from mmplugins.checkpoints.vit import (
    NORM,
    PREFIX_TABLE,
    QKV,
    QKV_BIAS,
    SCALES,
    TABLE,
    need_table,
    read_tokens,
    write_tokens,
)

PATCH_BIAS = [("patch_embed.projection.bias", "patch_embed.proj.bias")]
SHARED = [
    ("patch_embed.projection.weight", "patch_embed.proj.weight"),
    ("layers.{i}.ln1.{wb}", "blocks.{i}.norm1.{wb}"),
    ("layers.{i}.ln2.{wb}", "blocks.{i}.norm2.{wb}"),
    ("layers.{i}.ffn.layers.0.0.{wb}", "blocks.{i}.mlp.fc1.{wb}"),
    ("layers.{i}.ffn.layers.1.{wb}", "blocks.{i}.mlp.fc2.{wb}"),
]
OUT_BIAS = "blocks.{i}.attn.proj.bias"
PRETRAIN = [
    ("layers.{i}.attn.qkv.weight", QKV),
    ("layers.{i}.attn.proj.{wb}", "blocks.{i}.attn.proj.{wb}"),
]
PRETRAIN_BIAS = [("layers.{i}.attn.qkv.bias", QKV_BIAS)]
PRETRAIN_SCALES = [
    ("layers.{i}.attn.gamma1.weight", SCALES[0]),
    ("layers.{i}.ffn.gamma2.weight", SCALES[1]),
]
SEG = [
    ("layers.{i}.attn.attn.in_proj_weight", QKV),
    ("layers.{i}.attn.attn.out_proj.weight", "blocks.{i}.attn.proj.weight"),
]
SEG_BIASES = [
    ("layers.{i}.attn.attn.in_proj_bias", QKV_BIAS),
    ("layers.{i}.attn.attn.out_proj.bias", OUT_BIAS),
]
LAST = [("ln1.{wb}", NORM)]
CLS = ("cls_token",)


def _read_shared(moves: Moves) -> None:
    for norm in ("pre_norm.{rest}", "ln_pre.{rest}", "patch_embed.norm.{rest}"):
        moves.refuse(norm, "our ViT has no norm before its first block")
    moves.refuse("layers.{i}.ffn.w12.{rest}", "our ViT has no gated MLP")
    moves.rename(SHARED)
    _rename_if_any(moves, PATCH_BIAS, LAST)
    weight = moves.moved.get("patch_embed.proj.weight")
    if weight is not None and PATCH_BIAS[0][1] not in moves.moved:
        moves.put(PATCH_BIAS[0][1], weight.new_zeros(len(weight)))


def _read_mmpretrain(moves: Moves, options: Options) -> list[dict]:
    encodings = read_tokens(moves, options, names=DISTILLED)
    _read_shared(moves)
    moves.rename(PRETRAIN)
    _rename_if_any(moves, PRETRAIN_BIAS, PRETRAIN_SCALES)
    moves.leave(["ln2.{rest}"], "the norm of pooled features")
    return encodings


def _write_mmpretrain(moves: Moves, options: Options) -> None:
    need_table(moves, options)
    write_tokens(moves, names=DISTILLED, rows=len(DISTILLED))
    for pairs in (SHARED, PRETRAIN):
        moves.rename(pairs, back=True)
    _rename_if_any(moves, PATCH_BIAS, LAST, PRETRAIN_BIAS, PRETRAIN_SCALES, back=True)


def _read_mmseg(moves: Moves, options: Options) -> list[dict]:
    encodings = read_tokens(moves, options, names=CLS)
    depth = moves.depth(SEG[0][0])
    _read_shared(moves)
    moves.rename(SEG)
    _rename_if_any(moves, SEG_BIASES)
    for i in range(depth):
        weight = moves.moved.get(f"blocks.{i}.attn.proj.weight")
        if weight is not None and OUT_BIAS.format(i=i) not in moves.moved:
            moves.put(OUT_BIAS.format(i=i), weight.new_zeros(len(weight)))
    return encodings


def _write_mmseg(moves: Moves, options: Options) -> None:
    for scale in SCALES:
        moves.refuse(scale, "mmseg's ViT has no LayerScale")
    if not {"cls_token", "reg_token"} & moves.rest.keys():
        _add_token(moves, options)
    need_table(moves, options)
    write_tokens(moves, names=CLS, rows=1)
    _leave_zeros(moves)
    for pairs in (SHARED, SEG):
        moves.rename(pairs, back=True)
    _rename_if_any(moves, PATCH_BIAS, LAST, SEG_BIASES, back=True)


def _rename_if_any(moves: Moves, *groups: Names, back: bool = False) -> None:
    """Move what belongs together, each group wholly or not at all."""
    for names in groups:
        moves.rename(names, back=back, optional=True)


def _add_token(moves: Moves, options: Options) -> None:
    """A class token of zeros, and its row in the table."""
    need_table(moves, options)
    table = moves.rest.get(TABLE)
    if table is not None:
        moves.rest["cls_token"] = table.new_zeros(1, 1, table.shape[-1])
        moves.rest[PREFIX_TABLE] = table.new_zeros(1, 1, table.shape[-1])


def _leave_zeros(moves: Moves) -> None:
    """Biases that mmseg has not by default, and those that come and go with that of q, k and v."""
    bias = moves.rest.get(PATCH_BIAS[0][1])
    if bias is not None and not bias.any():
        moves.leave([PATCH_BIAS[0][1]], "zero, as with patch_bias=False")
    if QKV_BIAS.format(i=0) in moves.rest:
        return
    depth = moves.depth(QKV)
    biases = [moves.rest.get(OUT_BIAS.format(i=i)) for i in range(depth)]
    if not any(bias is not None and bias.any() for bias in biases):
        moves.leave([OUT_BIAS], "zero, as with qkv_bias=False")
        return
    for i, bias in enumerate(biases):
        if bias is not None:
            moves.rest[QKV_BIAS.format(i=i)] = bias.new_zeros(3 * len(bias))


def _is_mmpretrain(state: State) -> bool:
    names = {"patch_embed.projection.weight", "layers.0.ln1.weight", "layers.0.attn.qkv.weight"}
    return names <= state.keys()


def _is_mmseg(state: State) -> bool:
    attention = "layers.0.attn.attn.in_proj_weight"
    return {"patch_embed.projection.weight", "layers.0.ln1.weight", attention} <= state.keys()


LAYOUTS = (
    Layout(
        name="mmpretrain",
        family="vit",
        about="ViT, DeiT, DeiT III of mmpretrain",
        encodings=ENCODINGS,
        marks=_is_mmpretrain,
        read=_read_mmpretrain,
        write=_write_mmpretrain,
        entry="state_dict",
    ),
    Layout(
        name="mmseg",
        family="vit",
        about="ViT of mmseg, if its norms have eps 1e-6",
        encodings=ENCODINGS,
        marks=_is_mmseg,
        read=_read_mmseg,
        write=_write_mmseg,
        entry="state_dict",
    ),
)
