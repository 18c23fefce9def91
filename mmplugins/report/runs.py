"""A model of a report: its results of all kinds, and what they say of it."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.comparison import Difference
from mmplugins.evaluation.results.files import Results
from mmplugins.evaluation.results.rows import Row

RESULTS = "results.json"
SHIFTS, SIZES = "equivariance", "resolution"  # kinds of results


@dataclass(frozen=True, eq=False)
class Model:
    """All results of one recipe.

    Attributes:
        name: of the recipe.
        results: by kind.
        folders: that these lie in, likewise; none of a report's own JSON.
        compared: differences from others.
    """

    name: str
    results: Mapping[str, Results]
    folders: Mapping[str, Path]
    compared: Sequence[Difference] = ()

    @cached_property
    def rows(self) -> list[Row]:
        """Of all kinds."""
        return [row for results in self.results.values() for row in results.rows]

    @cached_property
    def differences(self) -> dict[tuple[str, Hashable], Difference]:
        """From others, by their name and the value."""
        return {(each.other, key(each.row)): each for each in self.compared}

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
