"""Results from files, brought together by model: what may stand in one report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.comparison import differing
from mmplugins.evaluation.results.files import (
    Comparison,
    read_comparison,
    read_results,
)
from mmplugins.report.bundle import SCHEMA, read_bundle
from mmplugins.report.runs import RESULTS, SHIFTS, SIZES, Model

COMPARISON = "comparison.json"
OWN = ("seed", "boot")  # of a protocol: may differ between models of one report


def gather(runs: Sequence[str]) -> list[Model]:
    """The models of files of results, or of folders that hold such files somewhere.

    Raises:
        InputError: no results, results of one kind and name twice, of one name but other
            checkpoints, of models that were not measured alike, or comparisons of others.
    """
    models: dict[str, Model] = {}
    comparisons = []
    files = {file.resolve(): file for run in runs for file in _files(Path(run))}
    for path in files.values():
        if path.name == COMPARISON:
            comparisons.append((path, read_comparison(path)))
            continue
        for model in read_bundle(path) if _is_report(path) else [_model(path)]:
            _add(models, model, path)
    for path, comparison in comparisons:
        _compare(models, comparison, path)
    for model in models.values():
        _check_checkpoints(model)
    _check_others(models, {str(path): each.checkpoints for path, each in comparisons})
    _check_alike(list(models.values()))
    return list(models.values())


def _is_report(path: Path) -> bool:
    """Whether it is a report's own JSON; what is no JSON at all is told of by who reads results."""
    try:
        return str(json.loads(path.read_bytes()).get("schema")).startswith(SCHEMA)
    except (OSError, ValueError, AttributeError):
        return False


def _model(path: Path) -> Model:
    results = read_results(path)
    kind = _kind(results.protocol)
    return Model(results.name, {kind: results}, {kind: path.parent}, results.differences)


def _add(models: dict[str, Model], found: Model, path: Path) -> None:
    """Results to those of their model."""
    model = models.setdefault(found.name, Model(found.name, {}, {}))
    if twice := model.results.keys() & found.results.keys():
        kind = min(twice)
        first = model.folders[kind] / RESULTS if kind in model.folders else "a report"
        raise InputError(
            f"two {kind} results of one name, `{found.name}`: `{first}` and `{path}`; leave "
            "one out, or measure one again with another --name"
        )
    models[found.name] = Model(
        found.name,
        {**model.results, **found.results},
        {**model.folders, **found.folders},
        [*model.compared, *found.compared],
    )


def _compare(models: dict[str, Model], comparison: Comparison, path: Path) -> None:
    """What was compared, to the models that it is of; others need not be in the report."""
    kind = _kind(comparison.protocol)
    for name, differences in comparison.differences.items():
        if kind not in (model := models.get(name, Model(name, {}, {}))).results:
            continue
        facts = comparison.protocol, model.results[kind].protocol
        if found := next(differing(*map(_facts, facts)), None):
            place, ours, theirs = found
            raise InputError(
                f"`{path}` is not of these results of `{name}`: {place} is {ours} there, but "
                f"{theirs} here; compare them again"
            )
        models[name] = replace(model, compared=[*model.compared, *differences])


def _kind(protocol: Mapping[str, Any]) -> str:
    return SIZES if "sizes" in protocol else SHIFTS


def _files(run: Path) -> list[Path]:
    if not run.is_dir():
        return [run]
    found = sorted((*run.rglob(RESULTS), *run.rglob(COMPARISON)))
    if not found:
        raise InputError(
            f"no {RESULTS} in the folder `{run}`: make one with tools/equivariance.py or "
            "tools/resolution.py"
        )
    return found


def _check_checkpoints(model: Model) -> None:
    hashes = [
        sorted(str(checkpoint["sha256"]) for checkpoint in results.origin.get("checkpoints", ()))
        for results in model.results.values()
    ]
    if any(other != hashes[0] for other in hashes):
        places = " and ".join(f"`{folder}`" for folder in model.folders.values())
        raise InputError(
            f"`{model.name}` was measured from other checkpoints in {places}: measure one of them "
            "again, with another --name if it is another recipe"
        )


def _check_others(models: Mapping[str, Model], compared: Mapping[str, Mapping]) -> None:
    """Refuse what was compared with a model that has been trained again since."""
    every = list(compared.items())
    for model in models.values():
        every += [(model.name, r.origin.get("against") or {}) for r in model.results.values()]
    for what, checkpoints in every:
        for name, hashes in checkpoints.items():
            if name in models and {*models[name].checkpoints} != {*hashes}:
                raise InputError(
                    f"`{what}` was compared with other checkpoints of `{name}` than are measured "
                    "here: compare them again"
                )


def _check_alike(models: Sequence[Model]) -> None:
    for kind in (SHIFTS, SIZES):
        first, *others = [model for model in models if kind in model.results] or [None]
        for other in others:
            facts = [_facts(model.results[kind].protocol) for model in (first, other)]
            if found := next(differing(*facts), None):
                place, ours, theirs = found
                raise InputError(
                    f"`{first.name}` and `{other.name}` cannot stand in one report of {kind}: "
                    f"{place} is {ours} of the first, but {theirs} of the second; measure them "
                    "alike, or make a report of each"
                )


def _facts(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in protocol.items() if name not in OWN}
