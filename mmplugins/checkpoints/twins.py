"""Twins-PCPVT and Twins-SVT in four dialects; timm's names, the authors' own, are the common form.

    twins             the authors' ImageNet models, and timm
    twins-dense       their backbones for detection and segmentation; of SVT with a norm a stage
    twins-mmpretrain  a backbone, or with a head the classifier
    twins-mmseg       a backbone; q and kv of global attention are one projection there

Not in the weights, and different by default: models are built with qkv_bias=True, which OpenMMLab's
two are not unless told; here biases that a model does without become zero. In the authors' models
norms of patch embeddings and of reduced keys have eps=1e-5, all others 1e-6. OpenMMLab's have 1e-5
unless `norm_cfg` says otherwise: in mmpretrain to all but patch embeddings, in mmseg to patch
embeddings and stages, and to blocks never.

https://github.com/Meituan-AutoML/Twins, https://github.com/huggingface/pytorch-image-models,
https://github.com/open-mmlab/mmpretrain, https://github.com/open-mmlab/mmsegmentation
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from mmplugins.checkpoints.layout import Layout, Options
from mmplugins.checkpoints.moves import LayoutError, Moves, State
from mmplugins.checkpoints.vit import HEAD

STAGE_NORM, LAST_NORM = "norm_list.{i}.{wb}", "norm.{wb}"
AFTER_STAGE = "norm_after_stage{i}.{wb}"
HEAD_NAME = "head.{wb}"


@dataclass(frozen=True)
class Dialect:
    """Names of what all have.

    Attributes:
        peg: the convolution of a stage's PEG.
        patch: that of its patch embedding.
        block: of a stage.
        mlp: its two layers.
        merged: whether q and kv of global attention are one projection, as torch has it.
    """

    peg: str
    patch: str
    block: str
    mlp: tuple[str, str]
    merged: bool = False


TIMM = Dialect(
    peg="pos_block.{i}.proj.0.{wb}",
    patch="patch_embeds.{i}.proj.{wb}",
    block="blocks.{i}.{j}",
    mlp=("mlp.fc1.{wb}", "mlp.fc2.{wb}"),
)
MMPRETRAIN = Dialect(
    peg="position_encodings.{i}.proj.{wb}",
    patch="patch_embeds.{i}.projection.{wb}",
    block="stages.{i}.{j}",
    mlp=("ffn.layers.0.0.{wb}", "ffn.layers.1.{wb}"),
)
MMSEG = Dialect(
    peg="position_encodings.{i}.proj.{wb}",
    patch="patch_embeds.{i}.projection.{wb}",
    block="layers.{i}.{j}",
    mlp=("ffn.layers.0.0.{wb}", "ffn.layers.1.{wb}"),
    merged=True,
)


def _move_stages(moves: Moves, old: Dialect, new: Dialect) -> None:
    """All but norms after stages, and the head."""
    moves.rest = _with_biases(moves.rest)
    for i in range(_stages(moves, old)):
        at, to = (dialect.block.replace("{i}", str(i)) for dialect in (old, new))
        depth = moves.depth(at.replace("{j}", "{i}") + ".norm1.weight")
        blocks = [(f"{at.format(j=j)}.attn", f"{to.format(j=j)}.attn") for j in range(depth or 1)]
        reduced = any(_is_there(moves, block, ("sr", "norm")) for block, _ in blocks)
        for block in blocks:
            if _is_there(moves, block[0], ["qkv"]):
                _move_named(moves, *block, ("qkv", "proj"))
                continue
            _move_global(moves, *block, old, new)
            if reduced:
                _move_named(moves, *block, ("sr", "norm"))
    patch_norm = "patch_embeds.{i}.norm.{wb}"
    moves.rename([(old.peg, new.peg), (old.patch, new.patch), (patch_norm, patch_norm)])
    inner = [("norm1.{wb}",) * 2, ("norm2.{wb}",) * 2, *zip(old.mlp, new.mlp, strict=True)]
    moves.rename([(f"{old.block}.{a}", f"{new.block}.{b}") for a, b in inner])


def _stages(moves: Moves, dialect: Dialect) -> int:
    return moves.depth(dialect.patch.replace("{wb}", "weight"))


def _with_biases(state: State) -> State:
    """Zeros for the biases of queries, keys and values, if a model does without any."""
    weight = re.compile(r".*\.attn\.(q\.|kv\.|qkv\.|attn\.in_proj_|attn\.out_proj\.)weight")
    zeros = {
        f"{name.removesuffix('weight')}bias": tensor.new_zeros(len(tensor))
        for name, tensor in state.items()
        if weight.fullmatch(name)
    }
    return state if zeros.keys() & state.keys() else {**state, **zeros}


def _is_there(moves: Moves, at: str, layers: Iterable[str]) -> bool:
    return any(name.startswith(f"{at}.{layer}.") for layer in layers for name in moves.rest)


def _move_named(moves: Moves, at: str, to: str, layers: Iterable[str]) -> None:
    for name in [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]:
        tensor = moves.need(f"{at}.{name}")
        if tensor is not None:
            moves.put(f"{to}.{name}", tensor)


def _move_global(moves: Moves, at: str, to: str, old: Dialect, new: Dialect) -> None:
    """Projections of global attention; those of q, k and v lie one after the other."""
    for kind in ("weight", "bias"):
        apart = [f"{{}}.{layer}.{kind}" for layer in ("q", "kv", "proj")]
        merged = [f"{{}}.attn.in_proj_{kind}", f"{{}}.attn.out_proj.{kind}"]
        found = [moves.need(n.format(at)) for n in (merged if old.merged else apart)]
        if any(tensor is None for tensor in found):
            continue
        *qkv, proj = found
        whole = torch.cat(qkv)
        split = [whole] if new.merged else whole.tensor_split([len(proj)])
        for name, tensor in zip(merged if new.merged else apart, [*split, proj], strict=True):
            moves.put(name.format(to), tensor)


def _move_end(moves: Moves) -> None:
    """The head, and the norm before it, which a model without head may do without."""
    if any(name.startswith("head.") for name in moves.rest):
        moves.rename([(LAST_NORM, LAST_NORM), (HEAD_NAME, HEAD_NAME)])
    moves.rename([(LAST_NORM, LAST_NORM)], optional=True)


def _has_stage_norms(state: State) -> bool:
    return "norm_list.0.weight" in state


def _read(moves: Moves, options: Options) -> list[dict]:
    _move_stages(moves, TIMM, TIMM)
    _move_end(moves)
    return []


def _write(moves: Moves, options: Options) -> None:
    moves.refuse("norm_list.{rest}", "ImageNet models have no norm after each stage, dense do")
    _read(moves, options)


def _read_dense(moves: Moves, options: Options) -> list[dict]:
    moves.rename([(STAGE_NORM, STAGE_NORM)])
    return _read(moves, options)


def _write_dense(moves: Moves, options: Options) -> None:
    svt = any(".attn.qkv." in name for name in moves.rest)
    if svt and not _has_stage_norms(moves.rest):
        raise LayoutError(
            "SVT has a norm after each stage there, which these weights lack; the authors load "
            "weights in the layout twins and begin these norms anew"
        )
    if not svt:
        moves.refuse("norm_list.{rest}", "PCPVT has no norm after each stage there")
    moves.rename([(STAGE_NORM, STAGE_NORM)], optional=True)
    _read(moves, options)


def _read_mmpretrain(moves: Moves, options: Options) -> list[dict]:
    moves.rest = {name.removeprefix("backbone."): t for name, t in moves.rest.items()}
    last = _stages(moves, MMPRETRAIN) - 1
    _move_stages(moves, MMPRETRAIN, TIMM)
    if any(f"norm_after_stage{i}.weight" in moves.rest for i in range(last)):
        moves.rename([(AFTER_STAGE, STAGE_NORM)])
    else:
        moves.rename([(AFTER_STAGE.replace("{i}", str(last)), LAST_NORM)], optional=True)
    moves.rename([("head.fc.{wb}", HEAD_NAME)], optional=True)
    return []


def _write_mmpretrain(moves: Moves, options: Options) -> None:
    last = _stages(moves, TIMM) - 1
    _move_stages(moves, TIMM, MMPRETRAIN)
    if _has_stage_norms(moves.rest):
        if "norm.weight" in moves.rest:
            moves.leave(["norm.{rest}", "head.{rest}"], "models with norms after stages ignore it")
        moves.rename([(AFTER_STAGE, STAGE_NORM)], back=True)
    moves.rename([(AFTER_STAGE.replace("{i}", str(last)), LAST_NORM)], back=True, optional=True)
    if "head.weight" in moves.rest:
        moves.moved = {f"backbone.{name}": tensor for name, tensor in moves.moved.items()}
        moves.rename([("head.fc.{wb}", HEAD_NAME)], back=True)


def _read_mmseg(moves: Moves, options: Options) -> list[dict]:
    _move_stages(moves, MMSEG, TIMM)
    moves.rename([(STAGE_NORM, STAGE_NORM)], optional=True)
    # Not a parameter of its models, but published files have it.
    moves.rename([(LAST_NORM, LAST_NORM)], optional=True)
    return []


def _write_mmseg(moves: Moves, options: Options) -> None:
    _move_stages(moves, TIMM, MMSEG)
    moves.rename([(STAGE_NORM, STAGE_NORM)], optional=True)
    moves.leave(["norm.{rest}"], "the norm before the classification head")
    moves.leave(["head.{rest}"], HEAD)


def _looks(state: State, dialect: Dialect, prefix: str = "") -> bool:
    names = (dialect.peg, dialect.patch, f"{dialect.block}.norm1.{{wb}}")
    return {prefix + name.format(i=0, j=0, wb="weight") for name in names} <= state.keys()


def _is_mmpretrain(state: State) -> bool:
    """A backbone, or a classifier that has it."""
    whole = all(name.startswith(("backbone.", "head.fc.")) for name in state)
    return _looks(state, MMPRETRAIN) or (whole and _looks(state, MMPRETRAIN, "backbone."))


LAYOUTS = (
    Layout(
        name="twins",
        family="twins",
        about="Twins of its authors, and of timm",
        encodings=frozenset(),
        marks=lambda state: _looks(state, TIMM) and not _has_stage_norms(state),
        read=_read,
        write=_write,
    ),
    Layout(
        name="twins-dense",
        family="twins",
        about="Twins of its authors, for detection and segmentation",
        encodings=frozenset(),
        marks=lambda state: _looks(state, TIMM) and _has_stage_norms(state),
        read=_read_dense,
        write=_write_dense,
    ),
    Layout(
        name="twins-mmpretrain",
        family="twins",
        about="Twins of mmpretrain",
        encodings=frozenset(),
        marks=_is_mmpretrain,
        read=_read_mmpretrain,
        write=_write_mmpretrain,
    ),
    Layout(
        name="twins-mmseg",
        family="twins",
        about="Twins of mmseg",
        encodings=frozenset(),
        marks=lambda state: _looks(state, MMSEG),
        read=_read_mmseg,
        write=_write_mmseg,
    ),
)
