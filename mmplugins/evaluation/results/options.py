"""How the position encodings of a config meet a grid that they were not trained on, as text."""

import inspect
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
from mmengine.config import Config

from mmplugins.evaluation.results.provenance import encodings
from mmplugins.position_encodings.base import Dims, PositionEncoding
from mmplugins.registry import POSITION_ENCODINGS

NONE = "none"  # the empty list
# Any would do: what an encoding says of other grids depends on its options alone.
DIMS = Dims(embed_dims=384, num_heads=6, depth=12, grid=(14, 14))


def grid_options(cfg: Config | Mapping[str, Any]) -> str:
    """Every encoding with the values, given or not, of the options that decide it.

    They are those that change what it says in `other_grid`, all others being as they are.

    >>> rope, peg = dict(type="RoPE"), dict(type="PEG", kernel_size=5)
    >>> grid_options(dict(model=dict(backbone=dict(position_encodings=[rope, peg]))))
    'RoPE(coords=index) + PEG'

    Args:
        cfg: of the whole run. Lists in several parts of the model are told apart by semicolons; a
            model that has no such list has no text.
    """
    lists = (" + ".join(map(_text, cfgs)) for _, cfgs in encodings(cfg.get("model")))
    return "; ".join(text or NONE for text in lists)


def _text(cfg: Mapping[str, Any]) -> str:
    """One encoding; by name alone if it is not registered here."""
    POSITION_ENCODINGS.import_from_location()
    name = cfg["type"].rpartition(".")[2]  # without our scope, or the module of a class
    kind = POSITION_ENCODINGS.module_dict.get(name)
    if kind is None:
        return name
    parameters = inspect.signature(kind).parameters
    defaults = {option: p.default for option, p in parameters.items() if p.default is not p.empty}
    options = defaults | {option: value for option, value in cfg.items() if option != "type"}
    says = _other_grid(kind, options)
    decide = [
        f"{option}={options[option]}"
        for option in options
        if any(
            _other_grid(kind, options | {option: choice}) not in (says, None)
            for choice in _choices(parameters[option].annotation)
        )
    ]
    return f"{name}({', '.join(decide)})" if says and decide else name


def _other_grid(kind: type[PositionEncoding], options: Mapping[str, Any]) -> str | None:
    """What an encoding with these options says; None where they do not go together."""
    try:
        with torch.device("meta"):
            return getattr(kind(DIMS, **options), "other_grid", None)
    except (TypeError, ValueError):
        return None


def _choices(annotation: Any) -> Iterator[Any]:
    """The values of a closed set."""
    if annotation is bool:
        yield from (False, True)
    elif get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _choices(part)
