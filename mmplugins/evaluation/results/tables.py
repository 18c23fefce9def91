"""Markdown tables for papers: what is not a curve, as value and interval, percent where usual."""

import math
from collections.abc import Callable, Iterable, Sequence

from mmplugins.evaluation.results.comparison import Difference, Noise
from mmplugins.evaluation.results.files import Results
from mmplugins.evaluation.results.readings import reading
from mmplugins.evaluation.results.rows import CONFIDENCE, REFERENCE, Row
from mmplugins.evaluation.sizes import MODES
from mmplugins.evaluation.statistics.intervals import covers

CURVES = ("shift", "border", "block", "class")  # axes of too many points for a table
NUMBERS = ("set", "shift", "none")  # one table: of sets, of the reference, and of all shifts
# What differences and noise are told of; all others are in the CSV.
CARD = ("PC", "sAP", "mASSC", "self-mIoU", "AP", "mIoU", "AP min/M(0)", "mIoU min/M(0)")
LEVELS = ("backbone", "encoder", "decode_head")
FAR = "8-inf"  # patches, where an affinity is no mere neighbourhood


def summary(results: Results) -> str:
    """The headline values of a recipe, its differences from others, and the noise floor."""
    first, headline = results.rows[0], [row for row in results.rows if _is_headline(row)]
    lines = [
        f"# {results.name}",
        "",
        f"{first.images} images; {CONFIDENCE:.0%} intervals in brackets ({covers(first.runs)}); "
        "↑ more is better, ↓ less is better; % is times 100.",
    ]
    for title, group in _grouped(headline, _table_of):
        table = _levels if group[0].level == "feature" else _values
        lines += ["", f"## {title}", "", *table(group)]
    if any(_is_on_card(each.row) for each in results.differences):
        lines += ["", differences_table(results.name, results.differences)]
    noise = [each for each in results.noise if _is_on_card(each.row)]
    if noise := [each for each in noise if each.row.level != "affinity"]:
        lines += ["", "## one checkpoint, run again", "", *_noise(noise)]
    return "\n".join(lines) + "\n"


def differences_table(name: str, differences: Sequence[Difference]) -> str:
    """Of one recipe from others, in what matters most."""
    own = [each for each in differences if _is_on_card(each.row)]
    return "\n".join([f"## {name} less others", "", *_differences(own)])


def _is_headline(row: Row) -> bool:
    in_table = row.axis not in CURVES or row.point == REFERENCE
    return in_table and reading(row.metric).headline


def _is_on_card(row: Row) -> bool:
    if row.axis in MODES:  # of the sizes what DiD is told of
        return row.metric in ("AP delta", "mIoU delta") and row.point in ("0.5", "1.5", "2")
    if row.axis == "sizes":
        return row.metric.startswith(("AP Res", "mIoU Res"))
    if row.metric == "AUROC":
        return row.point == FAR
    if row.metric in ("FES", "FES_resampled"):
        return row.axis == "set" and row.part.startswith(LEVELS)
    return row.metric in CARD and _is_headline(row)


def _table_of(row: Row) -> str:
    return row.level if row.axis in NUMBERS else f"{row.level}, by {row.axis}"


def _grouped(things: Iterable, key: Callable) -> list[tuple]:
    """Groups in the order in which they first appear."""
    groups: dict = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return list(groups.items())


def _values(rows: Sequence[Row]) -> list[str]:
    """A line for each metric of each part, a column for each point."""
    points = list(dict.fromkeys(row.point for row in rows))
    lines = []
    for (metric, part), group in _grouped(rows, lambda row: (row.metric, row.part)):
        of_point = {row.point: _span(row) for row in group}
        lines.append([_name(metric), part, *(of_point.get(point, "") for point in points)])
    return _table(["metric", "part", *points], lines)


def _levels(rows: Sequence[Row]) -> list[str]:
    """A line for each level of the network, a column for each metric and point."""
    columns = list(dict.fromkeys((row.metric, row.point) for row in rows))
    lines = []
    for part, group in _grouped(rows, lambda row: row.part):
        found = {(row.metric, row.point): _span(row) for row in group}
        lines.append([part, *(found.get(column, "") for column in columns)])
    titles = [_name(metric) + f" {point}" * (point != "all") for metric, point in columns]
    return _table(["level", *titles], lines)


def _differences(differences: Sequence[Difference]) -> list[str]:
    header = ["metric", "part", "of", "less", "difference", "p", "p (Holm)", "detectable"]
    return _table(
        header,
        [
            [
                *(_name(each.row.metric), each.row.part, _point(each.row), each.other),
                *(_span(each.row), _p(each.p), _p(each.p_holm)),
                reading(each.row.metric).text(each.detectable),
            ]
            for each in differences
        ],
    )


def _noise(noise: Sequence[Noise]) -> list[str]:
    lines = [
        [
            *(_name(each.row.metric), each.row.part, _point(each.row), each.cause),
            *(_span(each.row), reading(each.row.metric).text(each.floor)),
        ]
        for each in noise
    ]
    return _table(["metric", "part", "of", "what", "difference", "noise floor"], lines)


def _name(metric: str) -> str:
    read = reading(metric)
    return " ".join(part for part in (metric, read.arrow, "%" if read.percent else "") if part)


def _point(row: Row) -> str:
    return f"{row.axis} {row.point}" if row.axis in MODES else str(row.point)


def _span(row: Row) -> str:
    return reading(row.metric).span(row.value, row.low, row.high)


def _p(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(header)
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *lines)]
