"""Which sizes of every image tell how a model does at others than it was trained at."""

from dataclasses import dataclass
from math import lcm

from torch import nn

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.engine import testing
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.inference.strides import strides_of
from mmplugins.evaluation.plan import Fill
from mmplugins.evaluation.sizes import MODES, SHAPES, TRAINED, SizePlan, SizeSet
from mmplugins.evaluation.views import WHOLE

RATIOS = (0.5, 0.625, 0.75, 0.875, 1, 1.25, 1.5, 1.75, 2)  # that a range of sizes stands for
PIXELS = 16  # from here on a size is no ratio
ANY = 1.0  # stands for a short side that is not known yet
TOKENS = ("backbone", "blocks", "encoder")  # levels whose cells position is about


@dataclass(frozen=True)
class SizeProtocol:
    """What is done to every model alike; `tools/resolution.py --help` tells of each.

    Raises:
        InputError: options that do not go together.
    """

    sizes: str = "0.5:2"
    modes: tuple[str, ...] = ("resize", "extent")
    subset: int | tuple[str, ...] | None = None
    seed: int = 0
    divisor: int | None = None
    fill: Fill = "reflect"
    amp: bool = False

    def __post_init__(self):
        if not self.modes:
            raise InputError("--mode: name one at least")
        if unknown := [mode for mode in self.modes if mode not in MODES]:
            raise InputError(f"--mode: no `{unknown[0]}`; there are {', '.join(MODES)}")
        if "slide" in self.modes and "resize" not in self.modes:
            raise InputError("--mode slide is told against resize: name that, too")
        parsed(self.sizes, ANY)

    @property
    def observed(self) -> tuple[str, ...]:
        """Nothing: predictions say it all."""
        return ()

    def check(self, pictures: Pictures) -> None:
        """Refuse data that cannot be measured like this.

        Raises:
            InputError: it cannot.
        """
        if "slide" in self.modes and pictures.detection:
            raise InputError("--mode slide is how segmenters look at crops; detectors do not")

    def plan(self, model: nn.Module, pictures: Pictures) -> SizePlan:
        """The views.

        Raises:
            InputError: the training size is not among the sizes, a mode has no other one, or the
                divisor is not known.
        """
        ratios = parsed(self.sizes, pictures.short_side)
        within = {"extent": lambda r: r >= 1, "crop": lambda r: r <= 1, "slide": lambda r: r > 1}
        sets = []
        for mode in self.modes:
            kept = [r for r in ratios if within.get(mode, lambda _: True)(r)]
            points = tuple(SHAPES) if mode == "aspect" else tuple(f"{r:g}" for r in kept)
            if len(points) < (1 if mode == "slide" else 2):
                which = {"resize": "beside", "crop": "below"}.get(mode, "above")
                raise InputError(f"--mode {mode} needs a size {which} the training size")
            sets.append(SizeSet(mode, points))
        divisor = self.divisor or divisor_of(model, pictures)
        if self.divisor and divisor % (least := divisor_of(model, pictures, self.divisor)):
            raise InputError(
                f"--divisor {divisor}: tokens cover pictures in multiples of {least} pixels, and "
                "what is padded would differ from size to size"
            )
        return SizePlan(tuple(sets), divisor, self.fill)


def parsed(text: str, short_side: float | None) -> list[float]:
    """Ratios to the training size: of `0.5:2`, of `0.5,1,2`, or of short sides `400,800,1200`.

    Args:
        text: as the user gave it.
        short_side: of the test pipeline's size in pixels; None where it has none.

    Raises:
        InputError: it cannot be read, or the training size is missing.
    """
    try:
        sizes = [float(size) for size in text.split(":" if ":" in text else ",")]
        if ":" in text:
            low, high = sizes
    except ValueError:
        raise InputError(f"--sizes: `{text}` is neither like 0.5:2 nor like 0.5,1,2") from None
    if any(not 0 < size < float("inf") for size in sizes):
        raise InputError(f"--sizes: `{text}` has a size that is none")
    trained, in_pixels = 1.0, any(size >= PIXELS for size in sizes)
    if in_pixels:
        if short_side is None:
            raise InputError(
                f"--sizes {text} are pixels, but the test pipeline names no size in pixels: give "
                "ratios to the training size, like 0.5,1,2"
            )
        trained = short_side
    if ":" in text:
        sizes = [ratio * trained for ratio in RATIOS if low <= ratio * trained <= high]
    if trained not in sizes and not (in_pixels and trained == ANY):
        which = f"a short side of {trained:g} pixels" if in_pixels else TRAINED
        raise InputError(
            f"--sizes {text}: the training size, {which}, is missing, which all others are told "
            "against"
        )
    return sorted({float(f"{size / trained:g}") for size in sizes})  # as they will be written


def divisor_of(model: nn.Module, pictures: Pictures, unknown: int | None = None) -> int:
    """What sides must be multiples of, so that tokens cover a picture and nothing is padded.

    Args:
        model: whose tokens.
        pictures: of its test data.
        unknown: what to take where it cannot be read off the model.

    Raises:
        InputError: how many pixels a token covers is not known.
    """
    with testing(model, WHOLE):
        strides = strides_of(model, pictures)
    cells = [stride for name, stride in strides.items() if stride and name.startswith(TOKENS)]
    if not cells and unknown:
        return unknown
    if not cells:
        raise InputError("how many pixels a token covers is not known: name a --divisor in pixels")
    preprocessor = model.data_preprocessor
    of_test = getattr(preprocessor, "test_cfg", None) or {}
    if of_test.get("size"):
        raise InputError(
            f"the model pads every picture to {of_test['size']}: take `size` out of its "
            "data_preprocessor.test_cfg"
        )
    padded = getattr(preprocessor, "pad_size_divisor", None), of_test.get("size_divisor")
    return lcm(*cells, *(divisor for divisor in padded if divisor))
