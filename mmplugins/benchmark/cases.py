"""Which layers are measured: shapes, encodings and forms."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from mmplugins.benchmark.straightforward import FORMS
from mmplugins.kernels import KernelName
from mmplugins.position_encodings.base import AttentionEncoding
from mmplugins.registry import POSITION_ENCODINGS

BASELINE = "nope"
KERNELS = get_args(KernelName)
STRAIGHTFORWARD = "straightforward"
ENCODINGS = {  # by the names of the config files, or as these would be named
    BASELINE: [],
    "rope-axial": [dict(type="RoPE")],
    "rope-mixed": [dict(type="RoPE", variant="mixed")],
    "rpb": [dict(type="RelativePositionBias")],
    "cpb": [dict(type="LogCPB")],
    "irpe-k": [dict(type="IRPE")],
    "irpe-qk": [dict(type="IRPE", on="qk")],
    "irpe-qkv": [dict(type="IRPE", on="qkv")],
    "irpe-k-cross": [dict(type="IRPE", method="cross")],
    "sape2": [dict(type="SaPE2")],
    "cope": [dict(type="CoPE")],
}


@dataclass(frozen=True)
class Shape:
    """One layer's tokens; `options` are those that configs of this shape give to some types.

    Attributes:
        height: of the grid, in patches.
        width: likewise.
        batch: images, or windows.
        heads: h.
        head_dims: d.
        options: by the type of an encoding.
    """

    height: int
    width: int
    batch: int
    heads: int
    head_dims: int
    options: Mapping[str, Mapping] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.height} x {self.width} patches, "
            f"B {self.batch}, h {self.heads}, d {self.head_dims}"
        )

    def cfgs(self, encoding: str) -> list[dict]:
        """The list of encodings that is called so.

        Raises:
            ValueError: nothing is called so, or it does not act within attention.
        """
        if encoding not in ENCODINGS and not _acts_in_attention(encoding):
            raise ValueError(
                f"no attention encoding `{encoding}`: use {', '.join(ENCODINGS)}, or a registered "
                "class that acts on q, k, the logits or the values; `pipelines` measures others"
            )
        cfgs = ENCODINGS.get(encoding, [dict(type=encoding)])
        return [{**self.options.get(cfg["type"], {}), **cfg} for cfg in cfgs]


DETR = {"IRPE": {"ratio": 2.0}, "RelativePositionBias": {"resize": "clamp"}}
SHAPES = {
    "detr": Shape(25, 38, 2, 8, 32, DETR),  # 800 x 1216 pixels
    "detr-dc5": Shape(50, 76, 2, 8, 32, DETR),
    "windows": Shape(14, 14, 25, 6, 64),  # of 1024 x 1024 pixels
    "vit-224": Shape(14, 14, 8, 6, 64),
    "vit-512": Shape(32, 32, 2, 6, 64),
    "vit-1024": Shape(64, 64, 1, 6, 64),
}


@dataclass(frozen=True)
class Row:
    """One encoding in one form: a kernel of ours, or `straightforward`."""

    encoding: str
    form: str

    def __str__(self) -> str:
        return f"{self.encoding} ({self.form})"


PLAIN = Row(BASELINE, "sdpa")


def shape(text: str) -> Shape:
    """One of `SHAPES` by its name, or any as in 25x38/2/8/32: H x W / B / h / d.

    Raises:
        ValueError: neither.
    """
    if text in SHAPES:
        return SHAPES[text]
    if match := re.fullmatch(r"(\d+)x(\d+)/(\d+)/(\d+)/(\d+)", text):
        numbers = [int(number) for number in match.groups()]
        if min(numbers) > 0:
            return Shape(*numbers)
    raise ValueError(f"shape `{text}`: use {', '.join(SHAPES)}, or HEIGHTxWIDTH/BATCH/HEADS/DIMS")


def rows(encodings: Sequence[str], kernels: Sequence[str], shape: Shape) -> list[Row]:
    """Plain attention first; each of `encodings` by each of `kernels`, and straightforward.

    Raises:
        ValueError: an encoding that does not act within attention.
    """
    found = [PLAIN]
    for encoding in dict.fromkeys(encodings):
        cfgs = shape.cfgs(encoding)
        if not cfgs:
            continue
        found += [Row(encoding, kernel) for kernel in dict.fromkeys(kernels)]
        if len(cfgs) == 1 and cfgs[0]["type"] in FORMS:
            found.append(Row(encoding, STRAIGHTFORWARD))
    return found


def _acts_in_attention(name: str) -> bool:
    """Whether a registered class overrides a hook that comes after the projection of q, k and v."""
    POSITION_ENCODINGS.import_from_location()
    found = POSITION_ENCODINGS.module_dict.get(name, object)
    hooks = "rotate", "logit_bias", "context"
    return issubclass(found, AttentionEncoding) and any(
        getattr(found, hook) is not getattr(AttentionEncoding, hook) for hook in hooks
    )
