"""Checks of what a run is given, before anything is built or written."""

import json
import re
from collections.abc import Iterator, Sequence
from os import environ
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS

# How a config names an environment variable and its default.
VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*:\s*(\S*?)\s*\}\}")


class InputError(ValueError):
    """What the user gave is missing or wrong; the message says what, and what would be right."""


def check_file(path: str, what: str) -> None:
    """Refuse a local `path` that does not exist; URLs pass."""
    if "://" not in path and not Path(path).expanduser().is_file():
        raise InputError(f"{what}: no such file `{path}`")


def check_data(cfg: Config, phases: Sequence[str]) -> None:
    """Check the data of `phases`, of train, val and test: roots, files, categories.

    Raises:
        InputError: naming the config key, the file and what it should be.
    """
    checked = set()
    for phase in phases:
        key = f"{phase}_dataloader"
        for place, dataset in _datasets(cfg.get(key), key):
            for name, path in _paths(dataset):
                if not path.exists():
                    raise InputError(_missing(f"{place}.{name}", path, cfg))
            annotations = dataset.get("ann_file", "")
            path = _join(dataset.get("data_root"), annotations)
            if annotations.endswith(".json") and path not in checked:
                checked.add(path)
                check_categories(path, _classes(dataset, cfg), place)
        evaluators = cfg.get(f"{phase}_evaluator") or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            path = evaluator.get("ann_file")
            if path and not Path(path).exists():
                raise InputError(_missing(f"{phase}_evaluator.ann_file", Path(path), cfg))


def check_categories(path: Path, classes: Sequence[str] | None, place: str) -> None:
    """Refuse COCO annotations of a category that the file or the dataset does not list.

    Raises:
        InputError: naming the file, the annotation and its category.
    """
    try:
        coco = json.loads(path.read_bytes())
        names = {category["id"]: category["name"] for category in coco["categories"]}
        pairs = [(ann["id"], ann["category_id"]) for ann in coco.get("annotations", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{place}.ann_file: `{path}` is not in COCO form ({type(error).__name__}: {error})"
        ) from error
    for annotation, category in pairs:
        if category not in names:
            raise InputError(
                f"{path}: annotation {annotation} has category_id {category}, which `categories` "
                f"does not list; it lists {sorted(names)}"
            )
        if classes and names[category] not in classes:
            raise InputError(
                f"{path}: annotation {annotation} has category_id {category} "
                f"(`{names[category]}`), which is not among the classes of {place}: "
                f"{', '.join(classes)}. Name all classes in {place}.metainfo.classes"
            )


def _datasets(cfg: dict | None, key: str) -> Iterator[tuple[str, dict]]:
    """The datasets in a loader's or a wrapper's config, with their keys."""
    if not cfg:
        return
    inner = cfg.get("datasets") or [cfg.get("dataset")]
    if inner == [None]:
        yield key, cfg
        return
    for index, dataset in enumerate(inner):
        name = f"{key}.datasets[{index}]" if "datasets" in cfg else f"{key}.dataset"
        yield from _datasets(dataset, name)


def _paths(dataset: dict) -> Iterator[tuple[str, Path]]:
    """What must exist, the root first, since a wrong root explains all else."""
    root = dataset.get("data_root") or ""
    if root:
        yield "data_root", Path(root)
    if dataset.get("ann_file"):
        yield "ann_file", _join(root, dataset["ann_file"])
    for name, prefix in (dataset.get("data_prefix") or {}).items():
        if prefix:
            yield f"data_prefix.{name}", _join(root, prefix)


def _join(root: str | None, path: str) -> Path:
    return Path(root or "") / path  # an absolute path leaves the root out, as in the hosts


def _classes(dataset: dict, cfg: Config) -> Sequence[str] | None:
    """Classes from the config, else from the dataset's class."""
    if classes := (dataset.get("metainfo") or {}).get("classes"):
        return (classes,) if isinstance(classes, str) else classes
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        return getattr(registry.get(dataset["type"]), "METAINFO", {}).get("classes")


def _missing(key: str, path: Path, cfg: Config) -> str:
    message = f"{key}: `{path}` does not exist"
    for variable, default in VARIABLE.findall(cfg.text):
        root = Path(environ.get(variable, default))
        if path == root or root in path.parents:
            state = "is set to" if variable in environ else "is not set, its default is"
            return f"{message}. The environment variable {variable} {state} `{root}`"
    return message
