"""What there is to say of every registered encoding, read off the classes themselves."""

import inspect
from dataclasses import dataclass
from types import UnionType
from typing import Literal, Union, get_args, get_origin

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmplugins.grid import TokenGrid
from mmplugins.models.vit import ViT
from mmplugins.position_encodings.base import AttentionEncoding, PositionEncoding
from mmplugins.registry import POSITION_ENCODINGS, position_encoding_class

BEGIN, END = (
    "<!-- table: python tools/list_encodings.py --markdown README.md -->",
    "<!-- /table -->",
)
PLACES = {
    "inputs": "inputs of q and k",
    "rotate": "q and k",
    "logit_bias": "logits",
    "context": "values",
}
HEADER = [
    *("encoding", "acts on", "reads", "parameters", "multiply-adds", "growing as"),
    *("exact under shifts of", "same when padded", "at another grid", "source"),
]


@dataclass(frozen=True)
class Entry:
    """One encoding with its default options, in a ViT-S/16 for 224 pixels.

    Attributes:
        name: as registered.
        place: where it acts.
        reads: what it depends on.
        parameters: of all layers together.
        multiply_adds: added by all layers, as a part of those of the whole ViT.
        cost: those of one layer, in symbols.
        shifts: whole-patch shifts that commute with it.
        padding_free: whether an image is encoded alike alone and padded.
        other_grid: what happens at another grid.
        source: URL of the paper.
    """

    name: str
    place: str
    reads: str
    parameters: int
    multiply_adds: float
    cost: str
    shifts: str
    padding_free: bool
    other_grid: str
    source: str

    def cells(self) -> list[str]:
        """Texts in the order of `HEADER`."""
        return [
            self.name,
            self.place,
            self.reads,
            f"{self.parameters:,}",
            f"+{self.multiply_adds:.2%}" if self.multiply_adds else "0",
            self.cost,
            self.shifts or "-",
            "yes" if self.padding_free else "no",
            self.other_grid,
            self.source.removeprefix("https://"),
        ]


def entries() -> list[Entry]:
    """One for each registered encoding, by name."""
    POSITION_ENCODINGS.import_from_location()
    plain = _costs(_vit_small([]))
    return [_entry(name, *plain) for name in sorted(POSITION_ENCODINGS.module_dict, key=str.lower)]


def markdown() -> str:
    """The table of the README."""
    rows = [HEADER, ["---"] * len(HEADER)]
    rows += [[f"`{entry.name}`", *entry.cells()[1:]] for entry in entries()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def rewrite(text: str) -> str:
    """`text` with a fresh table between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"\n{END}")
    if not end:
        raise ValueError(f"no lines `{BEGIN}` and `{END}` to put the table between")
    return f"{before}{begin}{markdown()}{end}{after}"


def options(name: str) -> list[tuple[str, str, str]]:
    """(option, default, choices or type) of one encoding."""
    encoding = position_encoding_class(dict(type=name), POSITION_ENCODINGS)
    rows = []
    for option, parameter in inspect.signature(encoding).parameters.items():
        if option != "dims":
            rows.append((option, repr(parameter.default), _kind(parameter.annotation)))
    return rows


def _kind(annotation: object) -> str:
    """The choices of a `Literal`, the members of a union, the name of a type."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType, Literal):
        return " | ".join(str(a) if origin is Literal else _kind(a) for a in args)
    if annotation is type(None):
        return "None"
    plain = inspect.isclass(annotation) and not args
    return annotation.__name__ if plain else str(annotation).rpartition(".")[2]


def _entry(name: str, plain_parameters: int, plain_multiply_adds: int) -> Entry:
    vit = _vit_small([dict(type=name)])
    parameters, multiply_adds = _costs(vit)
    encoding = next(m for m in vit.modules() if isinstance(m, PositionEncoding))
    return Entry(
        name=name,
        place=_place(encoding),
        reads=encoding.reads,
        parameters=parameters - plain_parameters,
        multiply_adds=multiply_adds / plain_multiply_adds - 1,
        cost=encoding.cost,
        shifts=", ".join(sorted(encoding.equivariant)),
        padding_free=encoding.padding_free,
        other_grid=encoding.other_grid,
        source=encoding.source,
    )


def _place(encoding: PositionEncoding) -> str:
    """The hooks it overrides, or the blocks it comes after."""
    if isinstance(encoding, AttentionEncoding):
        changed = [
            hook
            for hook in PLACES
            if getattr(type(encoding), hook) is not getattr(AttentionEncoding, hook)
        ]
        if "context" in changed and encoding.context(TokenGrid(1, 1)) is None:
            changed.remove("context")  # which depends on options
        return ", ".join(PLACES[hook] for hook in changed)
    first, *_ = encoding.after
    return "tokens before block 0" if first == -1 else f"tokens after block {first}"


def _vit_small(encodings: list[dict]) -> ViT:
    with torch.device("meta"):  # shapes alone
        return ViT("small", position_encodings=encodings, kernel="eager").eval()


def _costs(vit: ViT) -> tuple[int, int]:
    """Parameters; multiply-adds of products and convolutions for an image of 224 x 224 pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        vit(torch.empty(1, 3, 224, 224, device="meta"))
    return sum(p.numel() for p in vit.parameters()), counter.get_total_flops() // 2
