"""How numbers of each metric are read: which way is good, in what unit, and of how many digits."""

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Reading:
    """How to read a metric.

    Attributes:
        says: what it is, and what its ends mean.
        good: which way, if there is one.
        percent: printed times 100, as papers do.
        headline: belongs in a paper's table; all else is in the CSV.
    """

    says: str
    good: Literal["up", "down"] | None = None
    percent: bool = False
    headline: bool = True

    @property
    def arrow(self) -> str:
        """Which way is good."""
        return {"up": "↑", "down": "↓", None: ""}[self.good]

    @property
    def scale(self) -> float:
        """From values to what is printed."""
        return 100.0 if self.percent else 1.0

    def text(self, value: float, digits: int = 3) -> str:
        """A value as it is printed: one decimal of a percentage, some digits of all else."""
        if math.isnan(value):
            return "-"
        return f"{100 * value:.1f}" if self.percent else f"{value:.{digits}g}"

    def span(self, value: float, low: float, high: float) -> str:
        """A value and its interval, where that is defined."""
        if math.isnan(low) or math.isnan(high):
            return self.text(value)
        return f"{self.text(value)} [{self.text(low)}, {self.text(high)}]"


def _share(says: str, **options: bool) -> Reading:
    return Reading(says, "up", percent=True, **options)


def _error(says: str, **options: bool) -> Reading:
    return Reading(f"{says}: 0 is exact", "down", **options)


READINGS = {
    "FEE": Reading("relative error of features: 0 is exact, √2 is chance", "down", headline=False),
    "dFEE": Reading("error that a block adds to its features", "down", headline=False),
    "FES": Reading("skill of features: 1 is exact, 0 is chance", "up"),
    "RET@1": _share("patches found again among all: 100 is exact", headline=False),
    "EQ-dB": Reading("-20 log10 of the error of features: more is better", "up", headline=False),
    "POS-R2": Reading("absolute position read out of features: 0 is none, 1 is all"),
    "POS-R2 constant": Reading("place read out of a constant picture", headline=False),
    "POS-R2 noise": Reading("place read out of noise", headline=False),
    "bandwidth": Reading("mean frequency of features, cycles a cell", headline=False),
    "LEE": _error("Lie derivative of features", headline=False),
    "AUROC": _share("same class told from different class: 50 is chance, 100 is best"),
    "PC": _share("objects found again: 100 is exact"),
    "PC_": _share("objects found again: 100 is exact", headline=False),
    "mAISC": _share("objects found again at IoU 0.9: 100 is exact"),
    "mIoU_match": _share("overlap of matched objects: 100 is exact"),
    "CD": _error("drift of centres, of the root of the area"),
    "CD_px": _error("drift of centres in pixels", headline=False),
    "SRD": _error("drift of width and height, in logarithms"),
    "SD": _error("drift of scores"),
    "SD_bias": Reading("mean change of scores: 0 is exact", headline=False),
    "FR": Reading("objects lost under some shift: 0 is exact", "down", percent=True),
    "sAP": _share("AP of one view against the other: 100 is exact"),
    "mASSC": _share("pixels of the same class: 100 is exact"),
    "self-mIoU": _share("mIoU of one view against the other: 100 is exact"),
    "TV": _error("total variation of class probabilities"),
    "AP": _share("average precision: 100 is best"),
    "AP+ - AP-": Reading("how far choices of shifts move AP: 0 is exact", "down", percent=True),
    "mIoU": _share("mean IoU: 100 is best"),
    "IoU": _share("IoU of a class: 100 is best", headline=False),
    "zone AP": _share("average precision by place, border to centre"),
    "zone mIoU": _share("mean IoU by place, border to centre"),
    "placed zone": _share("of the same content, put into each place", headline=False),
    "unmoved zone": _share("of the same content, where it was", headline=False),
    "zone effect": _share("placed less unmoved: 0 is exact"),
    "slide-gap": _share("mIoU of whole pictures less that of windows: 0 is no difference"),
}
# What a curve, a row of zones or of sizes comes to, after the metric's name.
NUMBERS: dict[str, dict] = {
    "mean": dict(says="mean under shift"),
    "min/M(0)": dict(says="what the worst shift leaves: 100 loses nothing", percent=True),
    "rPS": dict(says="mean under shift, percent of unshifted", percent=False),
    "delta": dict(says="change by a shift or a size: 0 is none", headline=False),
    "std": dict(says="spread over shifts: 0 is exact", good="down", headline=False),
    "min": dict(says="under the worst shift", headline=False),
    "AUC-shift": dict(says="area under the curve, of unshifted", headline=False),
    "variance": dict(says="variance of percentages: 0 is even", good="down", percent=False),
    "input": dict(says="of objects by their area in pixels of the input", headline=False),
    "relative": dict(says="of that at the training size: 100 loses nothing", headline=False),
    "ResAUC down": dict(says="mean over smaller sizes, of the training size: 100 loses nothing"),
    "ResAUC up": dict(says="mean over larger sizes, of the training size: 100 loses nothing"),
    "peak": dict(says="best size, of the training size", good=None, percent=False),
    "peak/M(1)": dict(says="what the best size gives, of the training size", good=None),
    "RR90": dict(says="largest size that keeps 90 %, of the training size", percent=False),
}


def reading(metric: str) -> Reading:
    """Of a metric; variants such as AP50 are read as what they start with."""
    numbers = [number for number in NUMBERS if metric.endswith(f" {number}")]
    if numbers:
        number = max(numbers, key=len)
        base = metric.removesuffix(f" {number}")
        read = replace(reading(base), **NUMBERS[number])
        return replace(read, headline=read.headline and base in READINGS)
    known = [name for name in READINGS if metric.startswith(name)]
    return READINGS[max(known, key=len)] if known else Reading("")
