"""What the layouts of plain ViTs share: tokens in front and their position, blocks, the head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError, Moves

TOKENS = ("cls_token", "reg_token")  # in front, in this order
TABLE, PREFIX_TABLE = "pos.-1.learnedape.table", "pos.-1.learnedape.prefix_table"
APE = dict(type="LearnedAPE")
HEAD = "the classification head"
# timm's names, which are ours: https://github.com/huggingface/pytorch-image-models
EMBED = "patch_embed.proj.{wb}"
QKV, QKV_BIAS = "blocks.{i}.attn.qkv.weight", "blocks.{i}.attn.qkv.bias"
BLOCK = (
    "blocks.{i}.norm1.{wb}",
    QKV,
    "blocks.{i}.attn.proj.{wb}",
    "blocks.{i}.norm2.{wb}",
    "blocks.{i}.mlp.fc1.{wb}",
    "blocks.{i}.mlp.fc2.{wb}",
)
SCALES = ("blocks.{i}.ls1.gamma", "blocks.{i}.ls2.gamma")
NORM = "norm.{wb}"


def move_trunk(moves: Moves, *, scales: Sequence[str] = SCALES, back: bool = False) -> None:
    """Patch embedding, blocks and last norm of a layout that has timm's names for them.

    Args:
        moves: from a layout to ours, or `back`.
        scales: what the layout calls the factors of LayerScale; none if it has none.
        back: from ours to the layout.
    """
    moves.rename([(EMBED, EMBED)])
    moves.rename([(name, name) for name in BLOCK])
    moves.rename([(QKV_BIAS, QKV_BIAS)], optional=True)
    moves.rename(list(zip(scales, SCALES, strict=False)), back=back, optional=True)
    # Models that pool before the last norm have it in their head: maps are not normalised.
    pooled = not back and moves.take("fc_norm.weight") is not None
    if pooled:
        moves.left["fc_norm.weight"] = HEAD
        moves.leave(["fc_norm.bias"], HEAD)
    moves.rename([(NORM, NORM)], optional=pooled or back)


def read_tokens(
    moves: Moves,
    options: Options,
    *,
    names: Sequence[str] = TOKENS,
    pos_embed: str = "pos_embed",
) -> list[dict]:
    """Tokens in front and the flat table of positions, to ours; the encoding that this makes.

    The table may have rows for all tokens in front, for the first only, or for none.

    Args:
        moves: from a layout to ours.
        options: `grid` and `cls_token` are read.
        names: what the layout calls `TOKENS`; it may have the first only.
        pos_embed: name of the table [1, prefix + HW, C].
    """
    pairs = [(ours, name) for ours, name in zip(TOKENS, names, strict=False) if name in moves.rest]
    tokens = {ours: moves.rest.pop(name) for ours, name in pairs}
    prefix = sum(token.shape[1] for token in tokens.values())
    if options.cls_token:
        for name, token in tokens.items():
            moves.put(name, token)
    else:
        moves.left.update({name: "no class token was asked for" for _, name in pairs})
    table = moves.take(pos_embed)
    if table is None:
        return []
    rows, (height, width) = _grid_of(table, prefix, options.grid)
    moves.put(TABLE, table[:, rows:].unflatten(1, (height, width)))
    if prefix and options.cls_token:
        absent = table.new_zeros(1, prefix - rows, table.shape[2])
        moves.put(PREFIX_TABLE, torch.cat([table[:, :rows], absent], dim=1))
    return [dict(APE)]


def write_tokens(
    moves: Moves,
    *,
    names: Sequence[str] = TOKENS,
    pos_embed: str = "pos_embed",
    rows: int | None = None,
) -> None:
    """The reverse of `read_tokens`.

    A token without a row of its own gets what its row held added to itself, which is the same.

    Args:
        moves: from ours to a layout.
        names: of the tokens in front.
        pos_embed: name of the table.
        rows: how many rows for tokens in front the table has; by default one for each of them, or
            none if all would be zero.

    Raises:
        LayoutError: more tokens than the layout has, or than have a position.
    """
    found = {name: token for name in TOKENS if (token := moves.take(name)) is not None}
    if "reg_token" in names:  # timm's names, and its models may have registers only
        names = tuple(found)
    if len(found) > len(names):
        raise LayoutError(f"{', '.join(found)}: the layout has no more than {', '.join(names)}")
    tokens, table, front = list(found.values()), moves.take(TABLE), moves.take(PREFIX_TABLE)
    count = sum(token.shape[1] for token in tokens)
    if front is not None and front.shape[1] != count:
        raise LayoutError(f"{PREFIX_TABLE} has {front.shape[1]} rows for {count} tokens")
    if front is not None:
        rows = (front.shape[1] if front.any() else 0) if rows is None else min(rows, front.shape[1])
        kept, added = front.split([rows, front.shape[1] - rows], dim=1)
        added = torch.cat([torch.zeros_like(kept), added], dim=1)
        shares = added.split([token.shape[1] for token in tokens], dim=1)
        tokens = [token + share for token, share in zip(tokens, shares, strict=True)]
    for name, token in zip(names, tokens, strict=False):
        if name in ("cls_token", "dist_token") and token.shape[1] > 1:
            raise LayoutError(f"{token.shape[1]} registers, where there is one token, {name}")
        moves.put(name, token)
    if table is not None:
        flat = table.flatten(1, 2)
        moves.put(pos_embed, flat if front is None else torch.cat([kept, flat], dim=1))


def need_class_token(moves: Moves) -> None:
    """Before `write_tokens`, where every model of the layout has a class token.

    Raises:
        LayoutError: there is none.
    """
    if "cls_token" not in moves.rest:
        raise LayoutError("missing: cls_token, which every model there has")


def need_table(moves: Moves, options: Options) -> None:
    """Before `write_tokens`, where every model of the layout has a table: else one of zeros.

    Raises:
        LayoutError: there is none, and `options` do not tell its size.
    """
    weight = moves.rest.get("patch_embed.proj.weight")
    if TABLE in moves.rest or weight is None:
        return
    if options.grid is None:
        raise LayoutError(
            "every model there has a table of positions: give the training grid, "
            "--grid HEIGHT WIDTH in patches, for one of zeros"
        )
    tokens = [moves.rest[name] for name in TOKENS if name in moves.rest]
    prefix = sum(token.shape[1] for token in tokens)
    moves.rest[TABLE] = weight.new_zeros(1, *options.grid, len(weight))
    if prefix:
        moves.rest[PREFIX_TABLE] = weight.new_zeros(1, prefix, len(weight))


def _grid_of(
    table: Tensor, prefix: int, grid: tuple[int, int] | None
) -> tuple[int, tuple[int, int]]:
    """How many rows are for tokens in front, and (height, width) of the others.

    Raises:
        LayoutError: no number of them fits, or two do.
    """
    count = table.shape[1]
    fits = {}
    for rows in sorted({0, min(prefix, 1), prefix}, reverse=True):
        side = math.isqrt(max(count - rows, 0))
        height, width = grid or (side, side)
        if height * width == count - rows > 0:
            fits[rows] = height, width
    if len(fits) != 1:
        asked = f"the grid {grid[0]} x {grid[1]}" if grid else "a square grid"
        raise LayoutError(
            f"a table of {count} positions with {prefix} tokens in front does not tell what "
            f"{asked} would leave: give the training grid, --grid HEIGHT WIDTH in patches"
        )
    return next(iter(fits.items()))
