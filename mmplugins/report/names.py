"""How models and numbers are written."""

import math
import re
from collections.abc import Sequence
from itertools import takewhile

from mmplugins.evaluation.results.readings import Reading
from mmplugins.evaluation.results.rows import Row
from mmplugins.report.runs import Model

LONG = 24  # letters of a name that tables and legends can do with


def names(models: Sequence[Model]) -> dict[str, str]:
    """Of each model's name what tells it from the others, where the whole is long.

    `mask-rcnn_vit-ape_1x`, `mask-rcnn_vit-rope_1x` -> `ape`, `rope`.
    """
    full = [model.name for model in models]
    if len(full) == 1 or max(map(len, full)) <= LONG:
        return {name: name for name in full}
    words = [re.findall(r"[^-_]+[-_]*", name) for name in full]
    first = _alike(words)
    last = _alike([own[first:][::-1] for own in words])
    short = ["".join(own[first : len(own) - last]).strip("-_") for own in words]
    return dict(zip(full, short if all(short) else full, strict=True))


def _alike(words: Sequence[Sequence[str]]) -> int:
    """How many words at the start all have in common."""
    return len([*takewhile(lambda same: len({*same}) == 1, zip(*words, strict=False))])


def listed(texts: Sequence[str]) -> str:
    """`a, b and c`."""
    *first, last = texts or [""]
    return f"{', '.join(first)} and {last}" if first else last


def signed(read: Reading, value: float) -> str:
    """A difference: `+4.3`."""
    if math.isnan(value):
        return read.text(value)
    return f"{'−' if value < 0 else '+'}{read.text(abs(value), digits=2)}"  # noqa: RUF001


def minus(text: str) -> str:
    """With minus signs instead of hyphens before digits."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)  # noqa: RUF001


def span(read: Reading, row: Row, digits: int = 3) -> str:
    """An interval, where it is defined."""
    if math.isnan(row.low) or math.isnan(row.high):
        return ""
    return minus(f"[{read.text(row.low, digits)}, {read.text(row.high, digits)}]")
