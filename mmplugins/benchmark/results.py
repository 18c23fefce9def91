"""What was measured as records, and those as a table."""

import statistics
from collections.abc import Sequence

from mmplugins.benchmark.cases import PLAIN, STRAIGHTFORWARD, Row, Shape
from mmplugins.benchmark.comparison import Cell
from mmplugins.benchmark.layers import STEPS

BACKWARD = "forward + backward"
LEAST = 1e6  # bytes: of fewer, pages that nobody asked for are too large a part


def time_ratio(mine: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the quotients of times of the same round."""
    quotients = [a / b for a, b in zip(mine, others, strict=True)]
    low = high = median = statistics.median(quotients)
    if len(quotients) > 1:
        low, _, high = statistics.quantiles(quotients, n=4, method="inclusive")
    return dict(median=median, low=low, high=high)


def records(name: str, shape: Shape, cells: Sequence[Cell]) -> list[dict]:
    """One flat record for each cell, with its ratios to plain attention and straightforward."""
    by_name = {(cell.row, cell.step): cell for cell in cells}
    found = []
    for cell in cells:
        record = dict(
            shape=name,
            size=str(shape),
            tokens=shape.height * shape.width,
            encoding=cell.row.encoding,
            form=cell.row.form,
            step=cell.step,
            seconds=cell.seconds,
            peak_bytes=cell.peak_bytes,
            note=cell.note,
        )
        others = {"plain": PLAIN, STRAIGHTFORWARD: Row(cell.row.encoding, STRAIGHTFORWARD)}
        for what, row in others.items():
            other = by_name.get((row, cell.step))
            timed = other and other.seconds and cell.seconds
            counted = other and cell.peak_bytes and (other.peak_bytes or 0) >= LEAST
            record[f"time_of_{what}"] = time_ratio(cell.seconds, other.seconds) if timed else None
            record[f"memory_of_{what}"] = cell.peak_bytes / other.peak_bytes if counted else None
        found.append(record)
    return found


def markdown(rows: Sequence[dict]) -> str:
    """A table for each shape: ratios to plain attention, and to the straightforward form."""
    return "\n\n".join(
        _table([row for row in rows if row["shape"] == name])
        for name in dict.fromkeys(row["shape"] for row in rows)
    )


def _table(rows: Sequence[dict]) -> str:
    plain = {row["step"]: row for row in rows if row["encoding"] == PLAIN.encoding}
    costs = "; ".join(f"{step} {_cost(row)}" for step, row in plain.items())
    lines = [
        f"### {rows[0]['shape']}: {rows[0]['size']}",
        "",
        f"Plain attention: {costs}. Others as ratios to it: medians [quartiles] of times, peaks of "
        "memory; the last two columns as ratios to the straightforward form.",
        "",
        "| encoding | form | forward: time | memory | forward + backward: time | memory "
        "| of straightforward: time | memory |",
        "|" + "---|" * 8,
    ]
    cells = {(row["encoding"], row["form"], row["step"]): row for row in rows}
    for encoding, form in dict.fromkeys(name[:2] for name in cells):
        found = [cells[encoding, form, step] for step in STEPS]
        ratios = [part for row in found for part in _ratios(row, "plain")]
        if form != STRAIGHTFORWARD:
            ratios += _ratios(cells[encoding, form, BACKWARD], STRAIGHTFORWARD)
        else:
            ratios += ["", ""]
        lines.append(f"| {encoding} | {form} | {' | '.join(ratios)} |")
    notes = [
        f"- {r['encoding']} ({r['form']}), {r['step']}: {r['note']}" for r in rows if r["note"]
    ]
    return "\n".join(lines + [""] * bool(notes) + notes)


def _cost(row: dict) -> str:
    peak = row["peak_bytes"]
    time = f"{1000 * statistics.median(row['seconds']):.3g} ms" if row["seconds"] else "-"
    return time + ("" if peak is None else f", {peak / 1e6:.3g} MB")


def _ratios(row: dict, what: str) -> tuple[str, str]:
    time, memory = row[f"time_of_{what}"], row[f"memory_of_{what}"]
    return (
        "" if time is None else f"{time['median']:.2f} [{time['low']:.2f}, {time['high']:.2f}]",
        "" if memory is None else f"{memory:.2f}",
    )
