"""iRPE's tables in its authors' names and in ours, and the config that they tell.

Below an attention, for each side of q, k and v, with h = 1 if heads share a table:
    rpe_k.lookup_table_weight   [h, d, K], of v [h, K, d]      sides.k.tables.product
    rpe_k.lookup_table_bias     [h, K]                         the same
    rpe_k.rp_{rows,cols}.lookup_table_{weight,bias}            sides.k.tables.{rows,cols}
Sides, shapes and the order of buckets are the same, but for one thing: the authors give distances,
which are never negative, 2 B + 1 buckets; ours are the last B + 1 of them.

Not all is told. The three methods of one table are named alike: it is taken for `product`'s, unless
`Options.method` says otherwise. And B = int(2 ratio) leaves the ratio open: taken is that of the
published models, or `Options.ratio`.

https://github.com/microsoft/Cream/tree/main/iRPE
"""

import itertools
import math
import re
from collections.abc import Iterable

import torch
from torch import Tensor

from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError, Moves

THEIRS = re.compile(r"rpe_([qkv])\.(?:rp_(rows|cols)\.)?lookup_table_(weight|bias)")
OURS = re.compile(r"sides\.([qkv])\.tables\.(\w+)")
MODES = {"weight": "contextual", "bias": "bias"}
DISTANCES = ("euclidean", "quantisation")


def read_tables(
    moves: Moves, theirs: str, ours: str, options: Options, *, depth: int, prefix: bool
) -> list[dict]:
    """Move the tables of all layers to our names; the config of `IRPE`, if there are tables.

    Args:
        moves: from a layout to the common form.
        theirs: where the attentions are, as `blocks.{i}.attn`.
        ours: where their encodings will be, as `blocks.{i}.attn.pos.irpe`.
        options: `method`, `ratio`; without `cls_token` goes the bucket of tokens in front.
        depth: number of layers; each needs the same tables.
        prefix: the tables have a bucket for tokens in front.

    Raises:
        LayoutError: a number of buckets that the method does not make, or sides that differ.
    """
    found = _below(moves, theirs, THEIRS, depth)
    cross = any(axis for _, axis, _ in found)
    sides = sorted({(side, kind) for side, _, kind in found})
    axes = ("rows", "cols") if cross else ("",)
    forms = set()
    for (side, kind), axis, i in itertools.product(sides, axes, range(depth)):
        part = f"rp_{axis}." if axis else ""
        table = moves.need(f"{theirs.format(i=i)}.rpe_{side}.{part}lookup_table_{kind}")
        if table is None:
            continue
        heads, buckets, *front = _split(side, table, prefix)
        method = "cross" if cross else options.method or _product(buckets)
        forms.add((method, MODES[kind], heads, _reach(buckets, method)))
        if method in DISTANCES:
            buckets = buckets[..., buckets.shape[-1] // 2 :]
        kept = torch.cat([buckets, *(front if options.cls_token else ())], dim=-1)
        name = f"{ours.format(i=i)}.sides.{side}.tables.{axis or method}"
        moves.put(name, _oriented(side, kept))
    if not forms:
        return []
    method, mode, heads, reach = _only(forms)
    return [
        dict(
            type="IRPE",
            on="".join(sorted({side for side, _, _ in found}, key="qkv".index)),
            method=method,
            mode=mode,
            shared_heads=heads == 1,
            ratio=_ratio(reach, options.ratio),
        )
    ]


def write_tables(
    moves: Moves, theirs: str, ours: str, options: Options, *, depth: int, prefix: bool
) -> None:
    """The reverse; buckets that distances never reach become zero.

    Raises:
        LayoutError: sides that differ, or the index `clip`, neither of which the authors' code has.
    """
    for encoding in options.encodings or ():
        choices = [encoding, *(encoding.get(side) or {} for side in "qkv")]
        if encoding["type"] == "IRPE" and any(c.get("index") == "clip" for c in choices):
            raise LayoutError("the authors' iRPE has no index clip, only piecewise")
    forms = set()
    found = sorted(_below(moves, ours, OURS, depth))
    for (side, axis), i in itertools.product(found, range(depth)):
        table = moves.need(f"{ours.format(i=i)}.sides.{side}.tables.{axis}")
        if table is None:
            continue
        method = "cross" if axis in ("rows", "cols") else axis
        heads, buckets, *front = _split(side, table, prefix)
        if method in DISTANCES:
            buckets = torch.cat([torch.zeros_like(buckets[..., 1:]), buckets], dim=-1)
        kind = "bias" if table.ndim == 2 else "weight"
        forms.add((method, MODES[kind], heads, _reach(buckets, method)))
        part = f"rp_{axis}." if method == "cross" else ""
        name = f"{theirs.format(i=i)}.rpe_{side}.{part}lookup_table_{kind}"
        moves.put(name, _oriented(side, torch.cat([buckets, *front], dim=-1)))
    if forms:
        _only(forms)


def _below(moves: Moves, place: str, pattern: re.Pattern, depth: int) -> set[tuple]:
    """What `pattern` finds in names below `place`, of any layer."""
    starts = tuple(f"{place.format(i=i)}." for i in range(depth))
    names = (name.removeprefix(start) for start in starts for name in moves.rest
             if name.startswith(start))  # fmt: skip
    return {match.groups() for name in names if (match := pattern.fullmatch(name))}


def _oriented(side: str, table: Tensor) -> Tensor:
    """Buckets last, which those of v are not; and back, for it is its own inverse."""
    return table.mT if side == "v" else table


def _split(side: str, table: Tensor, prefix: bool) -> tuple[int, Tensor, ...]:
    """How many tables there are, their buckets (last), and that of tokens in front if any."""
    table = _oriented(side, table)
    return table.shape[0], *table.split([table.shape[-1] - prefix, *[1] * prefix], dim=-1)


def _product(buckets: Tensor) -> str:
    """The method product, unless the table must be of another.

    Raises:
        LayoutError: only distances leave the first half of a table as it was.
    """
    half = buckets[..., : buckets.shape[-1] // 2]
    if buckets.any() and not half.any():
        raise LayoutError(
            "half of iRPE's buckets is zero, so they are of distances: name which by --method "
            + " or ".join(DISTANCES)
        )
    return "product"


def _reach(buckets: Tensor, method: str) -> int:
    """B, of the authors' number of buckets.

    Raises:
        LayoutError: no B makes this number.
    """
    count = buckets.shape[-1]
    length = math.isqrt(count) if method == "product" else count
    if (length**2 != count and method == "product") or length % 2 == 0 or length < 3:
        makes = "the square of an odd number" if method == "product" else "an odd number"
        raise LayoutError(
            f"{count} buckets of iRPE, tokens in front not counted: the method {method} has {makes}"
            f"; other methods of one table are named by --method {' or '.join(DISTANCES)}"
        )
    return length // 2


def _ratio(reach: int, ratio: float | None) -> float:
    """A ratio with int(2 ratio) = B.

    Raises:
        LayoutError: the ratio that was named has another.
    """
    ratio = ratio or (1.9 if reach == 3 else reach / 2)
    if int(2 * ratio) != reach:
        raise LayoutError(
            f"iRPE's tables reach to bucket {reach}, but the ratio {ratio} to {int(2 * ratio)}"
        )
    return ratio


def _only(forms: Iterable[tuple]) -> tuple:
    """The one form that all tables have.

    Raises:
        LayoutError: they have several.
    """
    if len(forms) > 1:
        listed = ", ".join(map(str, sorted(forms)))
        raise LayoutError(
            "the authors' iRPE has the same options for all sides and layers, but here tables "
            f"differ in (method, mode, heads, reach): {listed}"
        )
    return next(iter(forms))
