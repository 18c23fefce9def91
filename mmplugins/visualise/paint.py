"""From maps to pixels: which colours, scaled to which range."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgba

BLANK = "#d8d8d8"  # patches that cannot be read
QUERY = "#ff2a2a"


@dataclass(frozen=True)
class Kind:
    """A quantity that is drawn, and how.

    Attributes:
        name: of the quantity.
        meaning: of its colours.
        colours: matplotlib's name of them, from the smallest value to the largest.
        unit: of printed ranges.
        factor: from the maps to that unit.
    """

    name: str
    meaning: str
    colours: str
    unit: str = ""
    factor: float = 1.0

    def range(self, values: np.ndarray) -> str:
        """Smallest to largest, in words."""
        low, high = self.factor * np.nanmin(values), self.factor * np.nanmax(values)
        if low == high:
            return f"{_short(low)}{self.unit} everywhere"
        return f"{_short(low)} … {_short(high)}{self.unit}"

    def paint(self, values: np.ndarray) -> np.ndarray:
        """RGBA of a map scaled to its own range; blank where it is NaN, middling if constant."""
        low, high = np.nanmin(values), np.nanmax(values)
        scaled = (values - low) / (high - low) if high > low else 0 * values + 0.5
        colours = colormaps[self.colours].with_extremes(bad=BLANK)
        return colours(np.ma.masked_invalid(scaled))


ATTENTION = Kind("attention", "probability: bright is large", "inferno", " %", 100.0)
BIAS = Kind("bias", "logits: bright is large, attended to more", "viridis")
DISTANCE = Kind("bias", "logits: white is small, as figure 4 of SaPE2 draws 'near'", "gray_r")


def mosaic(maps: Mapping[tuple[int, int], np.ndarray], kind: Kind) -> np.ndarray:
    """RGBA of the maps of many queries, laid out as the queries lie, each with its patch marked.

    Every map is scaled to its own range; white lines part them.
    """
    height, width = next(iter(maps.values())).shape
    ys, xs = (sorted(set(places)) for places in zip(*maps, strict=True))
    gap = max(1, height // 14)
    pixels = np.ones((len(ys) * (height + gap) - gap, len(xs) * (width + gap) - gap, 4))
    for (y, x), values in maps.items():
        top, left = ys.index(y) * (height + gap), xs.index(x) * (width + gap)
        tile = pixels[top : top + height, left : left + width]
        tile[:] = kind.paint(values)
        tile[y, x] = to_rgba(QUERY)
    return pixels


def _short(value: float) -> str:
    """Two or three digits."""
    if value == 0:
        return "0"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")
