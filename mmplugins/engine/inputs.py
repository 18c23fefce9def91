"""Checks of what a run is given, before anything is built or written."""

import json
import re
import traceback
from collections.abc import Iterator, Sequence
from copy import deepcopy
from os import environ
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS, MODELS

# How a config names an environment variable and its default.
VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*:\s*(\S*?)\s*\}\}")


class InputError(ValueError):
    """What the user gave is missing or wrong; the message says what, and what would be right."""


def check_file(path: str, what: str) -> None:
    """Refuse a local `path` that does not exist; URLs pass."""
    if _is_local(path) and not Path(path).expanduser().is_file():
        raise InputError(f"{what}: no such file `{path}`")


def check_data(cfg: Config, phases: Sequence[str]) -> None:
    """Check the data of `phases`, of train, val and test: roots, files, categories, classes.

    Raises:
        InputError: naming the config key, the file and what it should be.
    """
    checked = set()
    for phase in phases:
        key = f"{phase}_dataloader"
        for place, dataset in _datasets(cfg.get(key), key):
            paths = dict(_paths(dataset))
            _check_paths(place, paths, cfg)
            path, chosen = paths.get("ann_file"), _chosen(dataset)
            if path and (path, chosen) not in checked:
                checked.add((path, chosen))
                kind = _kind(dataset, cfg)
                if hasattr(kind, "COCOAPI"):
                    check_categories(path, place, chosen, kind.METAINFO.get("classes"))
            if folder := _class_folder(dataset, paths, cfg):
                known = chosen or _kind(dataset, cfg).METAINFO.get("classes")
                check_folders(folder, place, known, _outputs(cfg))
        evaluators = cfg.get(f"{phase}_evaluator") or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            paths = dict(_paths(dict(ann_file=evaluator.get("ann_file"))))
            _check_paths(f"{phase}_evaluator", paths, cfg)


def check_model(cfg: Config) -> None:
    """Refuse options of our models and encodings that do not fit, before a runner writes anything.

    Builds the model without memory or weights. A model that cannot be built so, or is refused by
    somebody else's code, is left to the runner.

    Raises:
        InputError: with the message of the model or encoding.
    """
    try:
        with MODELS.switch_scope_and_registry(cfg.default_scope) as registry, torch.device("meta"):
            registry.build(deepcopy(cfg.get("model")))
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        module = frame.f_globals["__name__"]
        ours = module.startswith("mmplugins.")
        if ours and isinstance(error, KeyError | TypeError | ValueError):
            raise InputError(f"model: {error.args[0]} (says {module})") from error


def check_categories(
    path: Path, place: str, chosen: Sequence[str] | None, known: Sequence[str] | None
) -> None:
    """Refuse COCO annotations whose categories and the dataset's classes do not go together.

    Args:
        path: file of the annotations.
        place: config key of the dataset.
        chosen: classes that the config names, which may be some of the file's; the hosts would
            drop those that the file has not, and shift the labels of all after them.
        known: classes of the dataset's type, in force where the config names none.

    Raises:
        InputError: naming the file, and the annotation and its category or the missing classes.
    """
    try:
        coco = json.loads(path.read_bytes())
        names = {category["id"]: category["name"] for category in coco["categories"]}
        annotations = coco.get("annotations", [])
        # Panoptic annotations have their categories, and their ids, segment by segment.
        pairs = [(a.get("id"), a["category_id"]) for a in annotations if "category_id" in a]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{place}.ann_file: `{path}` is not in COCO form ({type(error).__name__}: {error})"
        ) from error
    if missing := [name for name in chosen or () if name not in names.values()]:
        raise InputError(
            f"{place}.metainfo.classes: {', '.join(missing)} not among the categories of {path}: "
            f"{', '.join(names.values())}"
        )
    for annotation, category in pairs:
        if category not in names:
            raise InputError(
                f"{path}: annotation {annotation} has category_id {category}, which `categories` "
                f"does not list; it lists {sorted(names)}"
            )
        if not chosen and known and names[category] not in known:
            raise InputError(
                f"{path}: annotation {annotation} has category_id {category} "
                f"(`{names[category]}`), which is not among the classes of {place}: "
                f"{', '.join(known)}. Name the classes to train on in {place}.metainfo.classes"
            )


def check_folders(
    folder: Path, place: str, classes: Sequence[str] | None, outputs: int | None
) -> None:
    """Refuse images in ImageNet's form, a folder for each class, if there are more or fewer.

    Args:
        folder: what holds the folders.
        place: config key of the dataset.
        classes: names that the config or the dataset's type gives to the classes.
        outputs: classes that the model tells apart.

    Raises:
        InputError: naming the folder, and both numbers.
    """
    found = sum(entry.is_dir() for entry in folder.iterdir())
    said = f"{place}: `{folder}` holds {found} folders, one for each class, but"
    if classes and len(classes) != found:
        raise InputError(
            f"{said} its dataset has {len(classes)} classes. For classes of your own, set type to "
            "CustomDataset, metainfo.classes to their names or to nothing, and model.head and "
            "model.data_preprocessor.num_classes to their number"
        )
    if outputs and outputs != found:
        raise InputError(f"{said} model.head.num_classes is {outputs}")


def _class_folder(dataset: dict, paths: dict[str, Path], cfg: Config) -> Path | None:
    """Where mmpretrain's datasets without annotations look for a folder of each class."""
    if dataset.get("split"):  # ImageNet's, which finds annotations of that name by itself
        return None
    if "ann_file" in paths or not dataset.get("with_label", True):
        return None
    folder = paths.get("data_prefix.img_path", paths.get("data_prefix"))
    return folder if folder and hasattr(_kind(dataset, cfg), "_find_samples") else None


def _outputs(cfg: Config) -> int | None:
    """The number of classes of a classifier's one head."""
    head = (cfg.get("model") or {}).get("head")
    return head.get("num_classes") if isinstance(head, dict) else None


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
    """Local paths that must exist, the root first, since a wrong root explains all else."""
    root = dataset.get("data_root") or ""
    if not _is_local(root):
        return
    if root:
        yield "data_root", Path(root)
    prefixes = dataset.get("data_prefix") or {}
    if isinstance(prefixes, str):
        places = {"data_prefix": prefixes}
    else:
        places = {f"data_prefix.{name}": prefix for name, prefix in prefixes.items()}
    for name, path in {"ann_file": dataset.get("ann_file"), **places}.items():
        if path and _is_local(path):
            yield name, Path(root) / path  # an absolute path leaves the root out, as in the hosts


def _is_local(path: object) -> bool:
    """Neither a URL nor what only some datasets understand, such as a list of files."""
    return isinstance(path, str | Path) and "://" not in str(path)


def _kind(dataset: dict, cfg: Config) -> type | None:
    """The class of a dataset's config."""
    if not isinstance(dataset["type"], str):
        return dataset["type"]
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        return registry.get(dataset["type"])


def _chosen(dataset: dict) -> tuple[str, ...] | None:
    """Classes that the config names; like mmengine, one string is a file of them or one class."""
    classes = (dataset.get("metainfo") or {}).get("classes")
    if isinstance(classes, str):
        classes = list_from_file(classes) if Path(classes).is_file() else [classes]
    return tuple(classes) if classes else None


def _check_paths(place: str, paths: dict[str, Path], cfg: Config) -> None:
    """Refuse what does not exist, and name the environment variable it comes from."""
    for name, path in paths.items():
        if path.exists():
            continue
        message = f"{place}.{name}: `{path}` does not exist"
        for variable, default in VARIABLE.findall(cfg.text):
            root = Path(environ.get(variable, default))
            if path == root or root in path.parents:
                state = "is set to" if variable in environ else "is not set, its default is"
                message += f". The environment variable {variable} {state} `{root}`"
                break
        raise InputError(message)
