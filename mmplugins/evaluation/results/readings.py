"""How numbers of each metric are read: which way is good, in what unit, and of how many digits."""

import math
from dataclasses import dataclass
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


READINGS = {
    "FEE": Reading("relative error of features: 0 is exact, √2 is chance", "down", headline=False),
    "FES": Reading("skill of features: 1 is exact, 0 is chance", "up"),
    "RET@1": Reading(
        "patches found again among all: 100 is exact", "up", percent=True, headline=False
    ),
    "EQ-dB": Reading("features, -20 log10 of their error: more is better", "up", headline=False),
    "POS-R2": Reading("absolute position read out of features: 0 is none"),
    "LEE": Reading("Lie derivative: 0 is exact", "down", headline=False),
    "AUROC": Reading("same class told from different class: 50 is chance", "up", percent=True),
    "PC": Reading("objects found again: 100 is exact", "up", percent=True),
    "mAISC": Reading("masks found again at IoU 0.9: 100 is exact", "up", percent=True),
    "matched IoU": Reading("overlap of matched objects: 100 is exact", "up", percent=True),
    "sAP": Reading("AP of one view against the other: 100 is exact", "up", percent=True),
    "mASSC": Reading("pixels of the same class: 100 is exact", "up", percent=True),
    "self-mIoU": Reading("mIoU of one view against the other: 100 is exact", "up", percent=True),
    "CD": Reading("drift of centres over the size of objects: 0 is exact", "down"),
    "SRD": Reading("drift of sizes and aspects, in logarithms: 0 is exact", "down"),
    "SD": Reading("drift of scores: 0 is exact", "down"),
    "FR": Reading("objects lost under some shift: 0 is exact", "down", percent=True),
    "TV": Reading("total variation of class probabilities: 0 is exact", "down"),
    "AP": Reading("average precision: 100 is best", "up", percent=True),
    "mIoU": Reading("mean IoU: 100 is best", "up", percent=True),
    "rPS": Reading("mean under shift, percent of unshifted: 100 loses nothing", "up"),
}
UNKNOWN = Reading("")


def reading(metric: str) -> Reading:
    """Of a metric; variants such as AP50 are read as what they start with."""
    known = [name for name in READINGS if metric.startswith(name)]
    return READINGS[max(known, key=len)] if known else UNKNOWN
