"""From the list in a config to the encodings of one layer, and of the residual stream."""

from collections.abc import Iterable, Sequence

from mmengine.model import ModuleDict
from torch import Tensor

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import (
    AttentionEncoding,
    Dims,
    PositionEncoding,
    TokenEncoding,
)
from mmplugins.registry import POSITION_ENCODINGS, position_encoding_class


def build_attention_encodings(cfgs: Iterable, dims: Dims) -> ModuleDict:
    """The `AttentionEncoding`s of `cfgs` for one layer: {name: encoding}."""
    return _named(_build(cfgs, dims, AttentionEncoding))


def build_token_encodings(cfgs: Iterable, dims: Dims) -> ModuleDict:
    """The `TokenEncoding`s of `cfgs`, one instance a place: {block index: {name: encoding}}.

    Raises:
        ValueError: a place that is not in -1 .. depth - 1.
    """
    places: dict[int, list[PositionEncoding]] = {}
    for cfg in _checked(cfgs):
        for encoding in _build([cfg], dims, TokenEncoding):
            for index in encoding.after:
                if not -1 <= index < dims.depth:
                    raise ValueError(
                        f"{cfg['type']}: after={encoding.after} names block {index}, "
                        f"but blocks are 0 to {dims.depth - 1} (-1: before the first)"
                    )
            if len(set(encoding.after)) < len(encoding.after):
                raise ValueError(f"{cfg['type']}: after={encoding.after} names a block twice")
            # Each place has parameters of its own; the first instance serves the first place.
            first, *others = encoding.after
            places.setdefault(first, []).append(encoding)
            for index in others:
                places.setdefault(index, []).extend(_build([cfg], dims, TokenEncoding))
    return ModuleDict({str(index): _named(encodings) for index, encodings in places.items()})


def encode_tokens(pos: ModuleDict, index: int, x: Tensor, grid: TokenGrid) -> Tensor:
    """`x` after the token encodings of block `index`; -1 is before the first block."""
    if str(index) in pos:
        for encoding in pos[str(index)].values():
            x = encoding(x, grid)
    return x


def _build(cfgs: Iterable, dims: Dims, kind: type[PositionEncoding]) -> list[PositionEncoding]:
    """Instances of the encodings of `kind`; of all others only the type is looked up."""
    encodings = []
    for cfg in _checked(cfgs):
        found = position_encoding_class(cfg, POSITION_ENCODINGS)
        if not issubclass(found, PositionEncoding):
            raise TypeError(f"{found.__name__} is no TokenEncoding or AttentionEncoding")
        if issubclass(found, kind):
            encodings.append(POSITION_ENCODINGS.build(cfg, default_args=dict(dims=dims)))
    return encodings


def _checked(cfgs: Iterable) -> Sequence:
    """`cfgs`, if it is a list."""
    if not isinstance(cfgs, Sequence) or isinstance(cfgs, str):
        raise TypeError(
            f"position_encodings is a list of dict(type='...', option=...), not {cfgs!r}"
        )
    return cfgs


def _named(encodings: Iterable[PositionEncoding]) -> ModuleDict:
    """By type in lower case, the name in state dicts; further ones of a type are numbered."""
    named = ModuleDict()
    for encoding in encodings:
        base = name = type(encoding).__name__.lower()
        number = 1
        while name in named:
            number += 1
            name = f"{base}{number}"
        named[name] = encoding
    return named
