"""The instrument measures itself: models of known verdict, and faults that it must notice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mmplugins.evaluation.equivariance import equivariance_error, error_between
from mmplugins.evaluation.selftest.oracles import (
    PATCH,
    Pooled,
    TinyCNN,
    TinyViT,
    TorusBias,
    TorusRoPE,
    windows,
)
from mmplugins.evaluation.shifts import Frame, Shift

EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}
VISIBLE = 1e-3  # what is not equivariant, is not by more than this
ROLL = Frame("roll")
CANVAS = Frame("masked_canvas", 4 * PATCH)  # two patches off, even shifted
BY_PATCHES: Shift = (PATCH, 2 * PATCH)
Expected = Literal["exact", "not exact", "noticed"]


@dataclass(frozen=True)
class Verdict:
    """A row of the table.

    Attributes:
        part: under what kind of shift.
        name: of the model, or of the fault.
        expected: what it must be.
        double: relative error in float64.
        single: in float32.
    """

    part: str
    name: str
    expected: Expected
    double: float
    single: float

    @property
    def passed(self) -> bool:
        """Whether both errors are what is expected."""
        if self.expected == "exact":
            return self.double <= EXACT[torch.float64] and self.single <= EXACT[torch.float32]
        return min(self.double, self.single) >= VISIBLE


@dataclass(frozen=True)
class Oracle:
    """A model, and whether it is exact: how `selftest` gets to a `Verdict`."""

    name: str
    exact: bool
    make: Callable[[], Callable]
    shift: Shift = BY_PATCHES
    stride: int = PATCH
    frame: Frame = ROLL
    border: int = 0
    size: int = 8 * PATCH

    def error(self, dtype: torch.dtype) -> float:
        """FEE under its shift."""
        torch.manual_seed(0)
        fn = self.make()
        fn = fn.to(dtype) if isinstance(fn, nn.Module) else fn
        return equivariance_error(
            fn,
            _pictures(self.size, dtype),
            [self.shift],
            stride=self.stride,
            frame=self.frame,
            border=self.border,
        )[self.shift]


def encoding(*types: str, **options: object) -> Callable[[], TinyViT]:
    """Makes a ViT with encodings of `types`, the first with `options`."""
    first, *others = types
    return lambda: TinyViT([dict(type=first, **options), *(dict(type=t) for t in others)])


def unmasked(make: Callable[[], nn.Module]) -> Callable[[], Callable]:
    """Makes a model that takes padding for content."""

    def build() -> Callable:
        model = make()
        return lambda x, valid: model.to(x.dtype)(x)

    return build


ROLLED = [
    Oracle("no encoding", True, TinyViT),
    Oracle("relative bias on a torus", True, lambda: TinyViT(torus=TorusBias)),
    Oracle("RoPE on a torus", True, lambda: TinyViT(torus=TorusRoPE)),
    Oracle("PEG, circular", True, encoding("PEG", padding_mode="circular")),
    Oracle("PEG, zeros", False, encoding("PEG")),
    Oracle("learned APE", False, encoding("LearnedAPE")),
    Oracle("sine and cosine", False, encoding("SinCos2D")),
    Oracle("DETR's sine", False, encoding("DetrSine")),
    Oracle("relative bias", False, encoding("RelativePositionBias")),
    Oracle("log-spaced bias", False, encoding("LogCPB")),
    Oracle("RoPE", False, encoding("RoPE")),
    Oracle("iRPE on q, k and v", False, encoding("IRPE", on="qkv")),
    Oracle("CoPE", False, encoding("CoPE", num_positions=200)),
    Oracle("SaPE2", False, encoding("SaPE2")),
    Oracle("windows, by a window", True, lambda: TinyViT(pairs=windows(4)), (4 * PATCH, 4 * PATCH)),
    Oracle("windows, by a patch", False, lambda: TinyViT(pairs=windows(4)), (0, PATCH)),
    Oracle(
        "shifted windows, by a window",
        True,
        lambda: TinyViT(pairs=windows(4, shift=2)),
        (4 * PATCH, 4 * PATCH),
    ),
    Oracle(
        "shifted windows with Swin's mask, by a window",
        False,
        lambda: TinyViT(pairs=windows(4, shift=2, cut=True)),
        (4 * PATCH, 4 * PATCH),
    ),
    Oracle("CNN of stride 4, circular", True, lambda: TinyCNN("circular")),
    Oracle("CNN of stride 4, zeros", False, lambda: TinyCNN("zeros")),
    Oracle("pooling over all", True, lambda: Pooled(1), (1, 2), 1),
    Oracle("pooling over 1, 2, 3 and 6", False, lambda: Pooled(1, 2, 3, 6), (1, 2), 1),
]
FRACTIONS = [
    Oracle("identity", True, nn.Identity, (0.5, 0.25), 1, size=33),
    Oracle(
        "circular convolution",
        True,
        lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"),
        (0.5, 0.5),
        1,
        size=33,
    ),
    Oracle("ReLU", False, nn.ReLU, (0.5, 0.5), 1, size=33),
    Oracle("GELU", False, nn.GELU, (0.5, 0.5), 1, size=33),
]
WINDOWED = [
    Oracle(
        "CNN of stride 4, zeros, off the border",
        True,
        lambda: TinyCNN("zeros"),
        frame=Frame("window", 2 * PATCH),
        border=1,
        size=16 * PATCH,
    )
]
ON_CANVAS = [
    Oracle(name, exact, make, frame=CANVAS)
    for name, exact, make in [
        ("no encoding", True, TinyViT),
        ("relative bias", True, encoding("RelativePositionBias")),
        ("log-spaced bias", True, encoding("LogCPB")),
        ("RoPE", True, encoding("RoPE")),
        ("PEG, zeros", True, encoding("PEG")),
        ("DETR's sine", True, encoding("DetrSine")),
        ("iRPE on q, k and v", True, encoding("IRPE", on="qkv")),
        ("CoPE", True, encoding("CoPE", num_positions=200)),
        ("SaPE2", True, encoding("SaPE2")),
        ("learned APE", False, encoding("LearnedAPE")),
        ("sine and cosine", False, encoding("SinCos2D")),
    ]
]
# To these, padding of one colour is the same wherever the content lies.
BLIND_TO_PADDING = ("no encoding", "PEG, zeros")
PADDING_COUNTS = [
    Oracle(oracle.name, oracle.name in BLIND_TO_PADDING, unmasked(oracle.make), frame=CANVAS)
    for oracle in ON_CANVAS
]
PARTS = {
    "rolled": ROLLED,
    "rolled by a fraction of a pixel": FRACTIONS,
    "window": WINDOWED,
    "masked canvas": ON_CANVAS,
    "canvas, mask ignored": PADDING_COUNTS,
}
FAULTS: dict[str, Shift] = {  # what is claimed when BY_PATCHES is done
    "wrong sign": (-PATCH, -2 * PATCH),
    "swapped axes": (2 * PATCH, PATCH),
    "one cell too far": (2 * PATCH, 2 * PATCH),
}


def selftest() -> Iterator[Verdict]:
    """Every row, as soon as it is measured."""
    for part, oracles in PARTS.items():
        for oracle in oracles:
            errors = oracle.error(torch.float64), oracle.error(torch.float32)
            yield Verdict(part, oracle.name, "exact" if oracle.exact else "not exact", *errors)
    for name, claimed in FAULTS.items():
        errors = _faulty(claimed, torch.float64), _faulty(claimed, torch.float32)
        yield Verdict("shifted back", name, "noticed", *errors)


@torch.no_grad()
def _faulty(claimed: Shift, dtype: torch.dtype) -> float:
    """The error of an exact model whose features are shifted back in another way."""
    torch.manual_seed(0)
    model, x = TinyViT().to(dtype), _pictures(8 * PATCH, dtype)
    reference, shifted = model(x), model(ROLL.view(x, BY_PATCHES))
    return error_between(reference, shifted, claimed, stride=PATCH, frame=ROLL)


def _pictures(size: int, dtype: torch.dtype) -> Tensor:
    """Two smooth pictures: in white noise, all errors below a pixel look like chance."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    waves = torch.fft.fftfreq(size, dtype=torch.float64)
    low = torch.exp(-(waves[:, None] ** 2 + waves**2) / (2 * 0.15**2))
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * low).real
    return (smooth / smooth.std()).to(dtype)
