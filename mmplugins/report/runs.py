"""Which results belong to which model, and whether they may stand in one report."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.comparison import Difference, differing
from mmplugins.evaluation.results.files import Results, read_results
from mmplugins.evaluation.results.rows import Row

RESULTS = "results.json"
SHIFTS, SIZES = "equivariance", "resolution"  # kinds of results
OWN = ("seed", "boot", "sizes")  # of a protocol: may differ between models of one report


@dataclass(frozen=True, eq=False)
class Model:
    """All results of one recipe.

    Attributes:
        name: of the recipe.
        results: by kind.
        folders: that these lie in, likewise.
    """

    name: str
    results: Mapping[str, Results]
    folders: Mapping[str, Path]

    @cached_property
    def rows(self) -> list[Row]:
        """Of all kinds."""
        return [row for results in self.results.values() for row in results.rows]

    @cached_property
    def differences(self) -> dict[tuple[str, Hashable], Difference]:
        """From others, by their name and the value."""
        found = (each for results in self.results.values() for each in results.differences)
        return {(each.other, key(each.row)): each for each in found}

    @cached_property
    def _by_key(self) -> dict[Hashable, Row]:
        return {key(row): row for row in self.rows}

    def find(self, of: Hashable) -> Row | None:
        """The row of a key, if there is one with a value."""
        row = self._by_key.get(of)
        return row if row and row.value == row.value else None

    def undefined(self, of: Hashable) -> bool:
        """Whether it was measured, but came to no number."""
        return of in self._by_key and self.find(of) is None

    def origin(self, fact: str) -> Any:
        """What some of its results say of their origin, or None."""
        return next((r.origin[fact] for r in self.results.values() if r.origin.get(fact)), None)

    @property
    def checkpoints(self) -> list[str | None]:
        """Hashes of its training runs."""
        return [checkpoint["sha256"] for checkpoint in self.origin("checkpoints") or ()]

    @property
    def bare(self) -> bool:
        """Whether all its lists of position encodings are empty."""
        lists = self.origin("position_encodings")
        return bool(lists) and not any(lists.values())


def key(row: Row) -> Hashable:
    """What a row is the value of, whatever the model."""
    point = (row.dy, row.dx) if row.point is None else row.point
    return row.metric, row.part, row.axis, point


def gather(runs: Sequence[str]) -> list[Model]:
    """The models of files of results, or of folders that hold such files somewhere.

    Raises:
        InputError: no results, results of one kind and name twice, of one name but other
            checkpoints, or of models that were not measured alike.
    """
    models: dict[str, Model] = {}
    files = {file.resolve(): file for run in runs for file in _files(Path(run))}
    for path in files.values():
        results = read_results(path)
        kind = SIZES if "sizes" in results.protocol else SHIFTS
        model = models.setdefault(results.name, Model(results.name, {}, {}))
        if kind in model.results:
            first = model.folders[kind] / RESULTS
            raise InputError(
                f"two {kind} results of one name, `{results.name}`: `{first}` and `{path}`; leave "
                "one out, or measure one again with another --name"
            )
        model.results[kind] = results
        model.folders[kind] = path.parent
    for model in models.values():
        _check_checkpoints(model)
    _check_alike(list(models.values()))
    return list(models.values())


def baseline(models: Sequence[Model], name: str | None) -> Model | None:
    """The model to compare with: of this name, else the one without encodings, if there is one.

    Raises:
        InputError: no such model, or several without encodings.
    """
    if name is None:
        bare = [model for model in models if model.bare]
        if len(bare) > 1:
            names = ", ".join(model.name for model in bare)
            raise InputError(f"{names} have no encodings: choose one of them with --baseline")
        return bare[0] if bare else None
    found = [model for model in models if model.name == name]
    if not found:
        names = ", ".join(model.name for model in models)
        raise InputError(f"--baseline {name}: no such model among {names}")
    return found[0]


def samples(model: Model) -> list[dict[str, Any]]:
    """What `samples/samples.json` beside the results tells of sample pictures.

    Raises:
        InputError: it is no list of pictures that are there.
    """
    found = []
    for folder in model.folders.values():
        path = folder / "samples" / "samples.json"
        if not path.is_file():
            continue
        try:
            for each in json.loads(path.read_bytes()):
                # a name alone: nothing outside the folder gets into a page that is passed on
                file = path.with_name(Path(each["file"]).name)
                texts = {name: str(each.get(name) or "") for name in ("image", "title", "text")}
                found.append({**texts, "content": file.read_bytes()})
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise InputError(f"`{path}` is damaged ({type(error).__name__}: {error})") from error
    return found


def _files(run: Path) -> list[Path]:
    if not run.is_dir():
        return [run]
    found = sorted(run.rglob(RESULTS))
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
