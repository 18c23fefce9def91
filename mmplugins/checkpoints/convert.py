"""From any layout to any other of its family, by way of the family's common form."""

import difflib
from dataclasses import replace

from mmplugins.checkpoints import cope_vit, detr, irpe, openmmlab, ours, rope_vit, timm, twins
from mmplugins.checkpoints.layout import Converted, Layout, Options
from mmplugins.checkpoints.moves import LayoutError, Moves, State, shapes_told
from mmplugins.checkpoints.wrappers import bare, parts

SOURCES = (ours, timm, irpe, rope_vit, cope_vit, openmmlab, detr, twins)
LAYOUTS = {layout.name: layout for source in SOURCES for layout in source.LAYOUTS}
OURS = "mmplugins"


def convert(
    state: State, *, source: str | None = None, to: str = OURS, options: Options | None = None
) -> Converted:
    """`state` in the layout `to`; every tensor is moved, left with a reason, or an error.

    Args:
        state: the weights of a backbone, or of a model that has it under a usual prefix.
        source: name of its layout; by default found out.
        to: name of another layout of the same family; `mmplugins` is ours in any.
        options: what neither names nor shapes tell.

    Raises:
        LayoutError: weights that are not in the layout `source`, that have no place in the layout
            `to`, or two layouts that have nothing to do with each other.
    """
    options, target = options or Options(), find(to)
    whole = bare(state)
    origin, prefix, state = _placed(whole, find(source) if source else None)
    moves = Moves(state)
    try:
        with shapes_told():
            encodings = origin.read(moves, options)
        moves.end()
    except LayoutError as error:
        likely = [layout.name for layout in _alike(state) if layout != origin]
        hint = f". It looks like {' or '.join(likely)}" if likely else ""
        raise LayoutError(f"not in the layout {origin.name}: {error}{hint}") from error
    if to != OURS and target.family != origin.family:
        raise LayoutError(f"{origin.name} is of {origin.family}, {to} of {target.family} models")
    outside = {name: f"is not under {prefix}" for name in whole if not name.startswith(prefix)}
    common = Converted(origin.name, moves.moved, encodings, {**outside, **moves.left})
    return common if to == OURS else _written(common, target, options)


def find(name: str) -> Layout:
    """The layout of that name.

    Raises:
        LayoutError: the message names the nearest, and all.
    """
    if name not in LAYOUTS:
        close = difflib.get_close_matches(name, LAYOUTS, n=1)
        hint = f", did you mean {close[0]}?" if close else "."
        raise LayoutError(f"unknown layout `{name}`{hint} Layouts: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def detect(state: State) -> Layout:
    """The one layout that `state`, or the part of it that is a backbone, looks like.

    Raises:
        LayoutError: it looks like none, or like several.
    """
    return _placed(bare(state), None)[0]


def _placed(state: State, origin: Layout | None) -> tuple[Layout, str, State]:
    """The layout, the prefix of all its names, and the part of `state` that has it."""
    for prefix, part in parts(state):
        alike = _alike(part)
        if origin in alike:
            return origin, prefix, part
        if origin is None and len(alike) == 1:
            return alike[0], prefix, part
        if origin is None and alike:
            names = " or ".join(layout.name for layout in alike)
            raise LayoutError(f"this may be {names}: name it by --source")
    if origin is None:
        names = ", ".join([*state][:6])
        raise LayoutError(
            f"these names are of no known layout: {names}, ...; name it by --source, or the prefix "
            "of the weights by --prefix"
        )
    return origin, "", state


def _alike(state: State) -> list[Layout]:
    return [layout for layout in LAYOUTS.values() if layout.marks(state)]


def _written(common: Converted, target: Layout, options: Options) -> Converted:
    """From the common form to the layout `target`."""
    known = target.encodings
    types = [encoding["type"] for encoding in common.encodings]
    foreign = set(types) - (known or set())
    if known is not None and foreign:
        can = ", ".join(sorted(known)) or "none"
        raise LayoutError(f"{target.name} cannot express {', '.join(sorted(foreign))}, only {can}")
    if known is not None and len(set(types)) < len(types):
        raise LayoutError(f"{target.name} has each encoding once, not {', '.join(types)}")
    back = Moves(common.state)
    try:
        with shapes_told():
            target.write(back, replace(options, encodings=common.encodings))
        back.end()
    except LayoutError as error:
        raise LayoutError(f"{target.name} has no place for this model: {error}") from error
    return replace(common, state=back.moved, left={**common.left, **back.left})
