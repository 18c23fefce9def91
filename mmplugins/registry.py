"""The registries of mmplugins; the hosts resolve `type='mmplugins.X'` through them."""

import difflib
import importlib.util
import inspect
import math
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from mmengine.registry import METRICS as HOST_METRICS
from mmengine.registry import MODELS as HOST_MODELS
from mmengine.registry import Registry, build_from_cfg


def build_position_encoding(cfg: dict, registry: Registry, default_args: dict | None = None):
    """Build one position encoding; its mistakes get an error that names the right spelling.

    Raises:
        KeyError: an encoding that is not registered.
        TypeError: `cfg` is no dict with a `type`, or it has an option the encoding does not know.
        ValueError: a value that is none of an option's choices.
    """
    position_encoding_class(cfg, registry)  # names what is wrong with the type
    # Without a scope, mmengine would look for encodings in the host's registry and warn each time.
    return build_from_cfg({**cfg, "_scope_": registry.scope}, registry, default_args)


def check_options(owner: type, options: dict, name: str | None = None) -> None:
    """Refuse options that `owner` does not know, and values that are none of their choices.

    Raises:
        TypeError: an unknown option, the message names the nearest; or a value of another type.
        ValueError: a value that the option's `Literal` does not hold.
    """
    name = name or owner.__name__
    known = dict(inspect.signature(owner).parameters)
    known.pop("dims", None)
    for option, value in options.items():
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f", did you mean `{close[0]}`?" if close else "."
            raise TypeError(
                f"{name} has no option `{option}`{hint} Options: {', '.join(known) or 'none'}"
            )
        annotation = known[option].annotation
        if get_origin(annotation) is Literal and value not in get_args(annotation):
            choices = ", ".join(map(str, get_args(annotation)))
            raise ValueError(f"{name}: {option} is one of {choices}, not {value!r}")
        if not _fits(value, annotation):
            kind = annotation.__name__ if inspect.isclass(annotation) else annotation
            raise TypeError(f"{name}: {option} is of type {kind}, not {value!r}")


def _fits(value: object, annotation: object) -> bool:
    """Whether a value is of a plain type, or one of several; of others nothing is known."""
    if get_origin(annotation) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(annotation))
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if annotation is float:
        return type(value) in (int, float) and math.isfinite(value)
    if annotation in (bool, int, str):
        return type(value) is annotation
    return not inspect.isclass(annotation) or isinstance(value, annotation)


def position_encoding_class(cfg: dict, registry: Registry) -> type:
    """The class of `cfg["type"]`, a name with or without our scope, or the class itself."""
    if not isinstance(cfg, dict) or "type" not in cfg:
        raise TypeError(
            f"position_encodings is a list of dict(type='...', option=...); it holds {cfg!r}"
        )
    if inspect.isclass(cfg["type"]):
        return cfg["type"]
    name = cfg["type"].removeprefix(f"{registry.scope}.")
    registry.import_from_location()
    if name not in registry.module_dict:
        known = ", ".join(sorted(registry.module_dict))
        raise KeyError(f"unknown position encoding `{name}`; registered: {known}")
    return registry.module_dict[name]


# Imported when the first model is built: the core itself needs no host beyond mmengine.
_MODEL_LOCATIONS = ["mmplugins.models.vit", "mmplugins.models.simple_fpn"]
if importlib.util.find_spec("mmdet"):
    _MODEL_LOCATIONS.append("mmplugins.models.detr")

MODELS = Registry("model", parent=HOST_MODELS, scope="mmplugins", locations=_MODEL_LOCATIONS)
POSITION_ENCODINGS = Registry(
    "position encoding",
    scope="mmplugins",
    build_func=build_position_encoding,
    locations=["mmplugins.position_encodings"],
)
# Each needs its own host: who installed one of them still gets that one's metric.
_METRIC_LOCATIONS = {
    "mmdet": "mmplugins.datasets.coco_metric",
    "mmseg": "mmplugins.datasets.seg_metric",
}
METRICS = Registry(
    "metric",
    parent=HOST_METRICS,
    scope="mmplugins",
    locations=[path for host, path in _METRIC_LOCATIONS.items() if importlib.util.find_spec(host)],
)
