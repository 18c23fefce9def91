"""A report's own JSON: what it shows of every model, in one file that it can be made of again.

What no report shows, such as drifts and AP at single thresholds, is left to the results themselves,
and so are sample pictures.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.comparison import Difference, Noise
from mmplugins.evaluation.results.files import Results
from mmplugins.evaluation.results.rows import REFERENCE, Row, from_json, to_json
from mmplugins.evaluation.sizes import MODES
from mmplugins.report.runs import Model

SCHEMA, VERSION = "mmplugins.report", 1
# Metrics by what they begin with; each word that may follow makes another.
SHOWN = {"AP", "mIoU", "PC", "mASSC", "self-mIoU", "sAP", "FES", "FEE", "dFEE", "zone", "slide-gap"}
SHOWN |= {"placed", "unmoved"}


def bundle(models: Sequence[Model]) -> dict[str, Any]:
    """In the plain types of JSON."""
    return {
        "schema": f"{SCHEMA}/{VERSION}",
        "models": [
            {
                "name": model.name,
                "results": {kind: _plain(of_kind) for kind, of_kind in model.results.items()},
                "compared": [to_json(each) for each in model.compared if _told(each.row)],
            }
            for model in models
        ],
    }


def read_bundle(path: Path) -> list[Model]:
    """The models of a file of what `bundle` made.

    Raises:
        InputError: it is damaged, or of another version.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != f"{SCHEMA}/{VERSION}":
            raise ValueError(f"schema {content['schema']}, and this mmplugins reads {VERSION}")
        return [_model(plain) for plain in content["models"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"`{path}` is damaged ({type(error).__name__}: {error})") from error


def _model(plain: Mapping[str, Any]) -> Model:
    results = {
        kind: Results(
            plain["name"],
            of_kind["protocol"],
            of_kind["origin"],
            [from_json(Row, row) for row in of_kind["rows"]],
            noise=[from_json(Noise, each) for each in of_kind["noise"]],
        )
        for kind, of_kind in plain["results"].items()
    }
    compared = [from_json(Difference, each) for each in plain["compared"]]
    return Model(plain["name"], results, {}, compared)


def _plain(results: Results) -> dict[str, Any]:
    return {
        "protocol": results.protocol,
        "origin": results.origin,
        "rows": [to_json(row) for row in results.rows if _shown(row)],
        "noise": [to_json(each) for each in results.noise if _shown(each.row)],
    }


def _shown(row: Row) -> bool:
    if row.axis == "border" or (row.level, row.axis) == ("feature", "shift"):
        return False
    return row.metric.partition(" ")[0] in SHOWN


def _told(row: Row) -> bool:
    """Of differences: what is on score cards, and DiD."""
    told = {
        "shift": row.point == REFERENCE,
        "set": row.point == "pgrid",
        "sizes": "ResAUC" in row.metric,
        **dict.fromkeys(MODES, row.point == "1" or row.metric.endswith(" delta")),
    }
    return _shown(row) and told.get(row.axis, False)
