"""What a layout is: the names and shapes in which one project keeps the weights of one family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mmplugins.checkpoints.moves import LayoutError, Moves, State

# Heads of the models, by C, whose heads have not 64 dimensions: ViT-H, g and G of
# https://arxiv.org/abs/2106.04560, SoViT-400m, and g-opt of https://arxiv.org/abs/2502.14786
LARGE = {1152: 16, 1280: 16, 1408: 16, 1536: 16, 1664: 16}
Family = Literal["vit", "detr", "twins"]


@dataclass(frozen=True)
class Options:
    """What neither names nor shapes tell.

    Attributes:
        grid: (height, width) in patches of the training grid; by default a square.
        num_heads: h, which no shape tells; by default C / 64, or that of `LARGE`.
        cls_token: False leaves the class token, and all tokens like it, behind.
        method: of iRPE, where its tables do not tell: euclidean or quantisation.
        ratio: of iRPE, where it is not the published one for that number of buckets.
        classes: of a detector; checked, and 91 keeps the rows that COCO's ids leave unused.
        operand: of SaPE2, which the authors' code has changed without renaming.
        encodings: configs of the encodings in the weights to be written; None: not known.
    """

    grid: tuple[int, int] | None = None
    num_heads: int | None = None
    cls_token: bool = True
    method: Literal["euclidean", "quantisation"] | None = None
    ratio: float | None = None
    classes: int | None = None
    operand: Literal["k", "q"] = "k"
    encodings: Sequence[dict] | None = None

    def heads(self, embed_dims: int) -> int:
        """`num_heads`, or as many as models of that width have.

        Raises:
            LayoutError: which option to name.
        """
        heads = self.num_heads or LARGE.get(embed_dims) or max(embed_dims // 64, 1)
        if embed_dims % heads:
            raise LayoutError(
                f"{embed_dims} dimensions do not make {heads} heads: give --num-heads"
            )
        return heads


@dataclass(frozen=True)
class Layout:
    """One project's names for one family.

    Attributes:
        name: as on the command line.
        family: layouts of one family have a common form that all are read to and written from:
            `vit`, our ViT's names; `detr`, those of mmdet, with our encodings; `twins`, timm's.
        about: whose it is.
        encodings: types of the encodings it can express; None for all.
        marks: whether a state dict is in this layout.
        read: moves all to the common form, and returns the configs of the encodings.
        write: moves all from the common form.
        entry: where its project looks for the weights in a file.
    """

    name: str
    family: Family
    about: str
    encodings: frozenset[str] | None
    marks: Callable[[State], bool]
    read: Callable[[Moves, Options], list[dict]]
    write: Callable[[Moves, Options], None]
    entry: str = "model"


@dataclass(frozen=True)
class Converted:
    """What a conversion gives.

    Attributes:
        source: name of the layout it was in.
        state: the weights in the other layout.
        encodings: configs of the encodings they are made for.
        left: {name: why} of what was left behind.
    """

    source: str
    state: State
    encodings: list[dict] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def expressible(options: Options, kind: str, **able: tuple) -> dict | None:
    """The config of the encoding `kind` that is to be written, if it is known.

    Args:
        options: `encodings` is read.
        kind: a type.
        able: values of the encoding's options that the layout can express, our default first.

    Raises:
        LayoutError: an option with another value.
    """
    for encoding in options.encodings or ():
        if encoding["type"] == kind:
            for name, values in able.items():
                if encoding.get(name, values[0]) not in values:
                    can = " or ".join(map(repr, values))
                    raise LayoutError(f"{kind} there has {name}={can}, not {encoding[name]!r}")
            return encoding
    return None
