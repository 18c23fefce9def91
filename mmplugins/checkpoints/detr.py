"""DETR of its authors, with iRPE or without, and of mmdet.

The common form is mmdet's names with our encodings. The authors' encoder adds the sine in every
layer, so the encodings are `DetrSine` and what tables tell of iRPE.

The authors' COCO head has a row for each id from 0 to 90, 80 of them used, and for no object: 92.
mmdet's has 81. Rows that no image ever trained are lost on the way; on the way back they become
zero with a bias of -20, and take at most 11 exp(-20 - l) of the probability of the largest logit l.
A head with any other number of rows, n classes and no object, stays as it is; of 80 classes it is
taken for COCO's on the way back.

Not in the weights: that the decoder's keys have their sine (`decoder_pos`), and an encoding without
parameters. A state dict of our DETR with such alone looks like mmdet's: name it by its source.

https://github.com/facebookresearch/detr, https://github.com/microsoft/Cream/tree/main/iRPE
"""

import re
from collections.abc import Callable
from functools import partial

from torch import Tensor

from mmplugins.checkpoints.irpe_tables import read_tables, write_tables
from mmplugins.checkpoints.layout import Layout, Options
from mmplugins.checkpoints.moves import LayoutError, Moves, Names, State

ATTENTION = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
THEIR_ENCODER, OUR_ENCODER = "transformer.encoder.layers.{i}", "encoder.layers.{i}"
THEIR_DECODER, OUR_DECODER = "transformer.decoder.layers.{i}", "decoder.layers.{i}"
FFN = (("linear1.{wb}", "ffn.layers.0.0.{wb}"), ("linear2.{wb}", "ffn.layers.1.{wb}"))
ENCODER = (
    *((f"self_attn.{name}", f"self_attn.attn.{name}") for name in ATTENTION),
    *FFN,
    *((f"norm{n + 1}.{{wb}}", f"norms.{n}.{{wb}}") for n in range(2)),
)
DECODER = (
    *((f"self_attn.{name}", f"self_attn.attn.{name}") for name in ATTENTION),
    *((f"multihead_attn.{name}", f"cross_attn.attn.{name}") for name in ATTENTION),
    *FFN,
    *((f"norm{n + 1}.{{wb}}", f"norms.{n}.{{wb}}") for n in range(3)),
)
LAYERS = (
    [(f"{THEIR_ENCODER}.{theirs}", f"{OUR_ENCODER}.{ours}") for theirs, ours in ENCODER],
    [(f"{THEIR_DECODER}.{theirs}", f"{OUR_DECODER}.{ours}") for theirs, ours in DECODER],
)
ENDS = (
    ("input_proj.{wb}", "neck.convs.0.conv.{wb}"),
    ("query_embed.weight", "query_embedding.weight"),
    ("transformer.decoder.norm.{wb}", "decoder.post_norm.{wb}"),
    ("bbox_embed.layers.0.{wb}", "bbox_head.reg_ffn.layers.0.0.{wb}"),
    ("bbox_embed.layers.1.{wb}", "bbox_head.reg_ffn.layers.1.{wb}"),
    ("bbox_embed.layers.2.{wb}", "bbox_head.fc_reg.{wb}"),
)
CLASSES = [("class_embed.{wb}", "bbox_head.fc_cls.{wb}")]
THEIR_TABLES, OUR_TABLES = f"{THEIR_ENCODER}.self_attn", f"{OUR_ENCODER}.self_attn.pos.irpe"
THEIR_BODY, OUR_BODY = "backbone.0.body", "backbone"
NORM = ("weight", "bias", "running_mean", "running_var")

UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO = [i for i in range(1, 91) if i not in UNUSED_IDS]
ROWS = [*COCO, 91]
UNUSED_BIAS = -20.0


def _read(moves: Moves, options: Options) -> list[dict]:
    depth = moves.depth(f"{THEIR_ENCODER}.norm1.weight")
    tables = read_tables(moves, THEIR_TABLES, OUR_TABLES, options, depth=depth, prefix=False)
    _move_resnet(moves)
    for names in (*LAYERS, ENDS):
        moves.rename(names)
    head = moves.rest.get("class_embed.bias")
    if head is not None and _is_coco(head, options.classes):
        unused = ", ".join(str(row) for row in range(92) if row not in ROWS)
        moves.left[f"class_embed: rows {unused}"] = "of ids that COCO does not use"
    moves.rename(CLASSES, change=partial(_our_rows, classes=options.classes))
    return [dict(type="DetrSine"), *tables]


def _write(moves: Moves, options: Options) -> None:
    if any(t != 10000 for t in _temperatures(options)):
        raise LayoutError("the authors' sine has the temperature 10000 and no other")
    depth = moves.depth(f"{OUR_ENCODER}.norms.0.weight")
    write_tables(moves, THEIR_TABLES, OUR_TABLES, options, depth=depth, prefix=False)
    moves.leave(["backbone.{rest}.num_batches_tracked"], "frozen statistics count no batches")
    _move_resnet(moves, back=True)
    for names in (*LAYERS, ENDS):
        moves.rename(names, back=True)
    moves.rename(CLASSES, back=True, change=partial(_their_rows, classes=options.classes))


def _read_mmdet(moves: Moves, options: Options) -> list[dict]:
    _stay(moves, options)
    return [dict(type="DetrSine")]


def _write_mmdet(moves: Moves, options: Options) -> None:
    _temperatures(options)
    _stay(moves, options)


def _stay(moves: Moves, options: Options) -> None:
    """All names of mmdet's DETR stay what they are, and each must be there."""
    for names in (*LAYERS, ENDS):
        moves.rename([(ours, ours) for _, ours in names])
    change = partial(_checked, classes=options.classes)
    moves.rename([(ours, ours) for _, ours in CLASSES], change=change)
    moves.rename([(f"{OUR_BODY}.{{rest}}", f"{OUR_BODY}.{{rest}}")])


def _temperatures(options: Options) -> list[float]:
    """Of the one sine, if the encodings are known.

    Raises:
        LayoutError: there is none, or there are several.
    """
    known = options.encodings or ()
    sines = [each.get("temperature", 10000) for each in known if each["type"] == "DetrSine"]
    if known and len(sines) != 1:
        raise LayoutError(f"its encoder adds one DetrSine, but the model has {len(sines)}")
    return sines


def _move_resnet(moves: Moves, *, back: bool = False) -> None:
    """The backbone, whose blocks have two convolutions, or all have three."""

    def normed(conv: str, norm: str) -> Names:
        names = [f"{conv}.weight", *(f"{norm}.{name}" for name in NORM)]
        return [(f"{THEIR_BODY}.{name}", f"{OUR_BODY}.{name}") for name in names]

    block = "layer{i}.{j}"
    first, second, third = (normed(f"{block}.conv{n}", f"{block}.bn{n}") for n in (1, 2, 3))
    shortcut = normed(f"{block}.downsample.0", f"{block}.downsample.1")
    moves.rename(normed("conv1", "bn1"), back=back)
    deep = moves.depth(third[0][back]) > 0
    moves.rename([*first, *second, *(third if deep else ())], back=back)
    moves.rename(shortcut, back=back, optional=True)


def _is_coco(rows: Tensor, classes: int | None) -> bool:
    return len(rows) == 92 and classes in (None, 80)


def _our_rows(rows: Tensor, *, classes: int | None) -> Tensor:
    """Of COCO's 92 rows the 81 that are used."""
    return rows[ROWS] if _is_coco(rows, classes) else _checked(rows, classes)


def _their_rows(rows: Tensor, *, classes: int | None) -> Tensor:
    """COCO's 92 rows from 81."""
    if len(rows) != 81:
        return _checked(rows, classes)
    every = rows.new_full((92, *rows.shape[1:]), UNUSED_BIAS if rows.ndim == 1 else 0.0)
    every[ROWS] = _checked(rows, classes)
    return every


def _checked(rows: Tensor, classes: int | None) -> Tensor:
    """`rows`, if they are of as many classes.

    Raises:
        LayoutError: the number of classes differs.
    """
    if classes is not None and len(rows) != classes + 1:
        raise LayoutError(
            f"{len(rows)} rows in the head are {len(rows) - 1} classes and no object, "
            f"not {classes} classes"
        )
    return rows


def _has(*names: str) -> Callable[[State], bool]:
    return lambda state: set(names) <= state.keys()


_looks_official = _has(
    "class_embed.weight",
    f"{THEIR_ENCODER.format(i=0)}.self_attn.in_proj_weight",
    f"{THEIR_DECODER.format(i=0)}.multihead_attn.in_proj_weight",
)
_looks_mmdet = _has(
    "bbox_head.fc_cls.weight",
    f"{OUR_ENCODER.format(i=0)}.self_attn.attn.in_proj_weight",
    f"{OUR_DECODER.format(i=0)}.cross_attn.attn.in_proj_weight",
)


def _is_mmdet(state: State) -> bool:
    """Mmdet's names without encodings of ours."""
    ours = re.compile(r"encoder\.(layers\.\d+\.self_attn\.)?pos\.")
    return _looks_mmdet(state) and not any(map(ours.match, state))


LAYOUTS = (
    Layout(
        name="detr",
        family="detr",
        about="DETR of its authors, with iRPE or without",
        encodings=frozenset({"DetrSine", "IRPE"}),
        marks=_looks_official,
        read=_read,
        write=_write,
    ),
    Layout(
        name="mmdet-detr",
        family="detr",
        about="mmdet's own DETR",
        encodings=frozenset({"DetrSine"}),
        marks=_is_mmdet,
        read=_read_mmdet,
        write=_write_mmdet,
    ),
)
