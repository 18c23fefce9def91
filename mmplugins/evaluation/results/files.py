"""Results on disk: JSON with everything, long CSV for statistics programs, Markdown for papers.

A file is there whole or not at all.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmplugins.disk import write
from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.comparison import Difference, Noise
from mmplugins.evaluation.results.rows import Row, from_json, to_json

SCHEMA, COMPARISON, VERSION = "mmplugins.evaluation", "mmplugins.comparison", 1


@dataclass(frozen=True)
class Results:
    """All that was found of one recipe.

    Attributes:
        name: of the recipe.
        protocol: what was measured and how, see `provenance`.
        origin: what made it, likewise.
        rows: one for each value.
        differences: from other recipes, if there were any.
        noise: of runs of the same checkpoint, likewise.
    """

    name: str
    protocol: dict[str, Any]
    origin: dict[str, Any]
    rows: Sequence[Row]
    differences: Sequence[Difference] = field(default=())
    noise: Sequence[Noise] = field(default=())


PARTS = {"rows": Row, "differences": Difference, "noise": Noise}


def write_results(path: Path, results: Results) -> None:
    """As JSON, which `read_results` reads."""
    content = {
        "schema": f"{SCHEMA}/{VERSION}",
        "name": results.name,
        "protocol": results.protocol,
        "origin": results.origin,
        **{part: [to_json(each) for each in getattr(results, part)] for part in PARTS},
    }
    write(path, json.dumps(content, allow_nan=False, ensure_ascii=False).encode())


def read_results(path: Path) -> Results:
    """What `write_results` wrote.

    Raises:
        InputError: there is no such file, it is of another kind, or of a later version.
    """
    content = _content(path, SCHEMA)
    try:
        parts = {
            part: [from_json(kind, each) for each in content[part]] for part, kind in PARTS.items()
        }
        return Results(content["name"], content["protocol"], content["origin"], **parts)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"`{path}` is damaged ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class Comparison:
    """What recipes differ by, each from all others.

    Attributes:
        protocol: that all were measured by.
        checkpoints: hashes of each recipe's training runs, by its name.
        differences: of each recipe, likewise.
    """

    protocol: dict[str, Any]
    checkpoints: dict[str, list[str | None]]
    differences: dict[str, Sequence[Difference]]


def write_comparison(path: Path, comparison: Comparison) -> None:
    """As JSON, which `read_comparison` reads."""
    content = {
        "schema": f"{COMPARISON}/{VERSION}",
        "protocol": comparison.protocol,
        "checkpoints": comparison.checkpoints,
        "differences": {
            name: [to_json(each) for each in own] for name, own in comparison.differences.items()
        },
    }
    write(path, json.dumps(content, allow_nan=False, ensure_ascii=False).encode())


def read_comparison(path: Path) -> Comparison:
    """What `write_comparison` wrote.

    Raises:
        InputError: there is no such file, it is of another kind, or of a later version.
    """
    content = _content(path, COMPARISON)
    try:
        differences = {
            name: [from_json(Difference, each) for each in own]
            for name, own in content["differences"].items()
        }
        return Comparison(content["protocol"], content["checkpoints"], differences)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"`{path}` is damaged ({type(error).__name__}: {error})") from error


def _content(path: Path, schema: str) -> dict[str, Any]:
    """Of a JSON file of this schema."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"no such file `{path}`") from None
    except ValueError as error:
        raise InputError(f"`{path}` is no JSON ({error})") from error
    told = content.get("schema") if isinstance(content, dict) else None
    kind, _, version = str(told).partition("/")
    if kind != schema or not version.isdecimal():
        raise InputError(f"`{path}` holds no results: `schema` is not {schema}/{VERSION}")
    if int(version) != VERSION:
        raise InputError(
            f"`{path}` is of version {version}, and this mmplugins reads version {VERSION}: "
            "install a later mmplugins, or evaluate again"
        )
    return content


def write_csv(path: Path, things: Sequence[tuple[str, Row | Difference | Noise]]) -> None:
    """A line for each, and the name of its recipe in front, so that files can be joined.

    Raises:
        ValueError: nothing to write, not even the names of columns.
    """
    if not things:
        raise ValueError(f"nothing to write to {path}")
    lines = [{"name": name, **_cells(thing)} for name, thing in things]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write(path, text.getvalue().encode())


def _cells(thing: Row | Difference | Noise) -> dict[str, Any]:
    plain = to_json(thing)
    return {**plain, "sets": " ".join(plain["sets"])}
