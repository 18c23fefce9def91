"""Score cards and differences as tables, for the page, for Markdown and as CSV."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmplugins.evaluation.results.comparison import Difference
from mmplugins.evaluation.results.readings import Reading
from mmplugins.report.cards import Card, Cell, Column, certain, sign
from mmplugins.report.names import minus, names, signed, span
from mmplugins.report.runs import Model
from mmplugins.report.verdict import Verdict, p_text

NONE = "–"  # noqa: RUF001
MARKS = {
    ("better", True): "▲",
    ("better", False): "△",
    ("worse", True): "▼",
    ("worse", False): "▽",
}
BEST = "★"
LEGEND = (
    "Brackets: 95 % intervals. Beside {base}: ▲ better, ▼ worse; △ ▽ likewise, but not certain: "
    "p ≥ 0.05, adjusted for the models compared (Holm); no mark: the interval of the difference "
    "holds 0, or was not measured. ★ better than every other model, with p adjusted for all "
    "pairs."
)
COST = "not in the results: measure again, with the checkpoint's training log beside it"
PARAMETERS = "not in the results: measure again with tools/resolution.py or tools/equivariance.py"
CSV = ("model", "measure", "metric", "part", "axis", "point", "less", "value", "low", "high")
CSV_MORE = ("p", "p_holm", "detectable", "images", "runs")


@dataclass(frozen=True)
class Entry:
    """A cell as it is printed; `order` is what the column is sorted by, None of what is missing."""

    text: str
    small: str = ""
    order: float | None = None
    marks: Sequence[tuple[str, str]] = ()
    says: str = ""


@dataclass(frozen=True)
class Head:
    """Of a column: its title, that in plain words, its unit, and what exactly it is."""

    title: str
    plain: str = ""
    unit: str = ""
    says: str = ""


@dataclass(frozen=True)
class Line:
    """A model's cells."""

    model: str
    label: str
    base: bool
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Table:
    """Lines of models below heads."""

    heads: Sequence[Head]
    lines: Sequence[Line]


def score_table(card: Card) -> Table:
    """Values, and what a model costs."""
    heads = [*map(_head, card.columns), *COSTS]
    lines = [
        _line(
            card,
            model,
            [_value(card, card.cell(model, c), c) for c in card.columns] + _costs(model),
        )
        for model in card.models
    ]
    return Table(heads, lines)


def difference_table(card: Card) -> Table | None:
    """Differences from the baseline, where there are any."""
    columns = [c for c in card.columns if any(card.beside(m, c) for m in card.others)]
    lines = [
        _line(card, model, [_difference(card.cell(model, column), column) for column in columns])
        for model in card.others
    ]
    return Table([*map(_head, columns)], lines) if columns else None


def markdown(title: str, verdict: Verdict, card: Card) -> str:
    """Of the verdict and both tables."""
    lines = [f"# {_escape(title)}", "", _escape(verdict.text), "", "## Score card", ""]
    lines += _table(score_table(card))
    if card.baseline:
        base = _escape(names(card.models)[card.baseline.name])
        lines += ["", LEGEND.format(base=base)]
        if table := difference_table(card):
            lines += ["", f"## Less {base}", "", *_table(table)]
    return "\n".join(lines) + "\n"


def as_csv(card: Card) -> str:
    """A line for each value, and for each difference from the baseline."""
    lines = []
    for model in card.models:
        for column in card.columns:
            cell = card.cell(model, column)
            if cell.row and not column.relative:
                lines.append(_record(model, column, cell.row))
            if cell.beside:
                more = {name: getattr(cell.beside, name) for name in ("p", "p_holm", "detectable")}
                less = {"less": card.baseline.name, **more}
                lines.append(_record(model, column, cell.beside.row) | less)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*CSV, *CSV_MORE], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _number(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _head(column: Column) -> Head:
    read = column.read
    unit = " ".join(part for part in ("%" * read.percent, read.arrow) if part)
    return Head(column.title, column.plain, unit, column.says)


def _line(card: Card, model: Model, entries: Sequence[Entry]) -> Line:
    return Line(model.name, names(card.models)[model.name], model is card.baseline, entries)


def _value(card: Card, cell: Cell, column: Column) -> Entry:
    if cell.row is None:
        return Entry(NONE, says=cell.missing)
    text = column.read.text(cell.row.value)
    marks = [(BEST, "better than every other model")] if cell.best else []
    if cell.beside and sign(cell.beside) != "same":
        marks.append(_mark(cell.beside, names(card.models)[card.baseline.name], column.read))
    return Entry(minus(text), span(column.read, cell.row), cell.row.value, marks)


def _mark(difference: Difference, base: str, read: Reading) -> tuple[str, str]:
    way, number = sign(difference), signed(read, difference.row.value)
    interval = span(read, difference.row, 2)
    says = f"{way} than {base}: {number} {interval}, {p_text(difference.p_holm)}"
    return MARKS[way, certain(difference)], says


def _difference(cell: Cell, column: Column) -> Entry:
    if cell.beside is None:
        return Entry(NONE, says=cell.missing or "not compared: measure again with --against")
    row = cell.beside.row
    small = f"{span(column.read, row, 2)} {p_text(cell.beside.p_holm)}".strip()
    way = sign(cell.beside)
    marks = [(MARKS[way, certain(cell.beside)], way)] if way != "same" else []
    return Entry(signed(column.read, row.value), small, row.value, marks)


COSTS = (
    Head("parameters", "whole model"),
    Head("parameters", "encodings alone"),
    Head("training", "time, iterations", says="on the device that trained it"),
)


def _costs(model: Model) -> list[Entry]:
    counts = model.origin("model") or {}
    entries = [
        Entry(_count(counts[name]), order=counts[name])
        if counts.get(name) is not None
        else Entry(NONE, says=PARAMETERS)
        for name in ("parameters", "encoding_parameters")
    ]
    runs = [run for run in model.origin("training") or () if run]
    iterations, seconds = (
        [run[name] for run in runs if run.get(name)] for name in ("iterations", "seconds")
    )
    if not iterations and not seconds:
        return [*entries, Entry(NONE, says=COST)]
    texts = [_duration(_mean(seconds))] * bool(seconds)
    texts += [f"{_count(round(_mean(iterations)))} iterations"] * bool(iterations)
    order = _mean(seconds or iterations)
    runs_each = f"mean of {len(runs)} training runs" if len(runs) > 1 else ""
    return [*entries, Entry(texts[0], " ".join(texts[1:]), order, says=runs_each)]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _count(number: int) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= 10 * size or (unit == "M" and number >= size):
            return f"{number / size:.3g} {unit}"
    return str(number)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _record(model: Model, column: Column, row) -> dict[str, Any]:
    metric, part, axis, point = column.key
    facts = dict(metric=metric, part=part, axis=axis, point=point)
    numbers = {name: getattr(row, name) for name in ("value", "low", "high", "images", "runs")}
    return {"model": model.name, "measure": column.title, **facts, **numbers}


def _number(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _table(table: Table) -> list[str]:
    rows = [["model", *(f"{head.title} {head.unit}".strip() for head in table.heads)]]
    rows.append(["---"] * len(rows[0]))
    for line in table.lines:
        texts = [
            " ".join(filter(None, (each.text, each.small, *(mark for mark, _ in each.marks))))
            for each in line.entries
        ]
        rows.append([_escape(line.label), *texts])
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    return "".join(f"\\{letter}" if letter in "\\`*_|[]" else letter for letter in text)
