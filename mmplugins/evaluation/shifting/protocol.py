"""Which views of every image tell how far a model is from commuting with translations."""

from dataclasses import dataclass
from math import lcm

from torch import nn

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.features.levels import equivariance_period
from mmplugins.evaluation.inference.padding import check_told
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.inference.strides import strides_of
from mmplugins.evaluation.plan import Fill, Plan, ShiftSet, select
from mmplugins.evaluation.shifting.suite import LEVELS
from mmplugins.evaluation.shifts import Mode, shift_set

PADDING = 32  # what data preprocessors pad to; views are multiples of it


@dataclass(frozen=True)
class ShiftProtocol:
    """What is done to every model alike; `tools/equivariance.py --help` tells of each.

    Raises:
        InputError: options that do not go together.
    """

    mode: Mode = "canvas"
    shifts: tuple[str, ...] = ("pgrid", "sub")
    levels: tuple[str, ...] = ("feat", "pred", "task")
    subset: int | tuple[str, ...] | None = None
    seed: int = 0
    period: int | None = None
    max_shift: float = 128
    count: int = 16
    edge: int | None = None
    fill: Fill = "mean"
    amp: bool = False

    def __post_init__(self):
        for option in ("shifts", "levels"):
            if not getattr(self, option):
                raise InputError(f"--{option}: name one at least")
        if unknown := [level for level in self.levels if level not in LEVELS]:
            raise InputError(f"--levels: no `{unknown[0]}`; there are {', '.join(LEVELS)}")
        if "frac" in self.shifts and self.mode != "roll":
            raise InputError("--shifts frac: fractions of a pixel need --mode roll")
        if "lie" in self.levels and "feat" not in self.levels:
            raise InputError("--levels lie is of features: name feat, too")
        if "lie" in self.levels and self.mode == "masked_canvas":
            raise InputError("--levels lie rolls pictures, padding and all: use another --mode")

    @property
    def observed(self) -> tuple[str, ...]:
        """What the pass has to add up."""
        return tuple(level for level in ("feat", "affinity", "lie") if level in self.levels)

    def check(self, pictures: Pictures) -> None:
        """Refuse data that cannot be measured like this.

        Raises:
            InputError: it cannot.
        """
        rolled = self.mode == "roll" and pictures.detection
        if rolled and {"pred", "task"} & {*self.levels}:
            raise InputError(
                "--mode roll cuts objects in two at the border: measure a detector with "
                "--levels feat there, or in --mode canvas or window"
            )

    def plan(self, model: nn.Module, pictures: Pictures) -> Plan:
        """See `make_plan`."""
        return make_plan(self, model, pictures)


def make_plan(protocol: ShiftProtocol, model: nn.Module, pictures: Pictures) -> Plan:
    """The views that a protocol asks of a model.

    Raises:
        InputError: no shift is left of a set, or the options do not go together.
    """
    if protocol.mode == "masked_canvas":
        check_told(model)
    strides = _strides(protocol, model, pictures)
    period = protocol.period or equivariance_period(model, strides)
    sets = []
    for name in protocol.shifts:
        side = min(pictures[0].pixels.shape[-2:])
        try:
            every = shift_set(
                name, period=period, side=side, count=protocol.count, seed=protocol.seed
            )
        except ValueError as error:
            raise InputError(f"--shifts: {error}") from error
        kept = select(dict.fromkeys(shift for shift in every if any(shift)), protocol.max_shift)
        if not kept:
            raise InputError(
                f"--shifts {name}: the period is {period} pixels, and no shift is within "
                f"--max-shift {protocol.max_shift:g}: raise it, or name another --period"
            )
        sets.append(ShiftSet(name, kept))
    edge = protocol.edge
    if edge is None:
        edge = 16 if protocol.mode == "window" else 0
    divisor = lcm(period, PADDING, *(stride for stride in strides.values() if stride))
    try:
        return Plan(protocol.mode, tuple(sets), period, divisor, edge, protocol.fill)
    except ValueError as error:
        raise InputError(str(error)) from error


def _strides(
    protocol: ShiftProtocol, model: nn.Module, pictures: Pictures
) -> dict[str, int | None]:
    """Where they are needed: to compare features, and to know the period."""
    if protocol.period and not protocol.observed:
        return {}
    try:
        return strides_of(model, pictures)
    except InputError as error:
        if protocol.observed:
            raise
        raise InputError(
            f"the period of {type(model).__name__}, which looks at a picture in several crops, is "
            "not known: name a --period in pixels"
        ) from error
