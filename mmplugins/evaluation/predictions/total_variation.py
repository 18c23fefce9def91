"""Total variation between what a segmenter believes of two views, in the pass over an image.

    TV = sum over O of 1/2 |q - q_T|_1,  q the softmax over classes at p, q_T at p + shift

Logits of ADE20K are 150 numbers a pixel, too many to keep: this alone of what segmenters are
measured by is added up while the model runs. The distributions of the reference are formed once,
and those of a shifted view in parts that fit a cache, on the device where the logits are.
https://en.wikipedia.org/wiki/Total_variation_distance_of_probability_measures
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmplugins.evaluation.predictions.label_maps import whole
from mmplugins.evaluation.shifts import Rectangle, Shift

# Numbers of a part: a processor's cache holds that many, and any other device wants large parts.
_CACHED, _LARGE = 2**18, 2**26


class TotalVariation:
    """Of one image, from the logits of its reference view.

    Args:
        reference: logits, of any floating type.
        core: what to compare, in the reference's frame.
        counted: which pixels of the core count.
        circular: whether views are rolled.

    Raises:
        ValueError: one class, which hosts do not take the softmax of, or a core of other pixels.
    """

    def __init__(
        self,
        reference: Float[Tensor, "C H W"],
        core: Rectangle,
        counted: Bool[Tensor, "h w"],
        *,
        circular: bool = False,
    ) -> None:
        if len(reference) == 1:
            raise ValueError("logits of one class are no distribution over classes")
        self.core, self.circular = core, circular
        self.counted = counted.to(reference.device)
        self.reference = [_softmax(rows) for rows in self._rows(reference, (0, 0))]

    def sums(self, shifted: Float[Tensor, "C H W"], shift: Shift) -> tuple[float, int]:
        """The sum over pixels that count, and their number; of parts of a pixel nothing and 0.

        Raises:
            ValueError: the shift moves the core out of view.
        """
        if not whole(shift):
            return 0.0, 0
        pairs = zip(self.reference, self._rows(shifted, shift), strict=True)
        distances = [_softmax(rows).sub_(reference).abs_().sum(0) for reference, rows in pairs]
        total = torch.cat(distances)[self.counted].sum(dtype=torch.float64) / 2
        return float(total), int(self.counted.sum())

    def _rows(self, logits: Float[Tensor, "C H W"], shift: Shift) -> Iterator[Tensor]:
        """The core's content in a view, some rows at a time."""
        (dy, dx), (classes, height, width) = (int(part) for part in shift), logits.shape
        (top, left, bottom, right), (high, wide) = self.core, self.counted.shape
        if (high, wide) != (bottom - top, right - left):
            raise ValueError(f"core {self.core} is not of {high} x {wide} pixels")
        inside = 0 <= top + dy < bottom + dy <= height and 0 <= left + dx < right + dx <= width
        if not (self.circular or inside):
            raise ValueError(f"core {self.core} under shift {(dy, dx)} leaves {height} x {width}")
        limit = _CACHED if logits.device.type == "cpu" else _LARGE
        for places in (torch.arange(top, bottom) + dy).split(max(1, limit // (classes * wide))):
            if self.circular:
                rows = logits.index_select(1, (places % height).to(logits.device))
                yield rows.roll(-dx, 2)[..., left:right]
            else:
                yield logits[:, places[0] : places[-1] + 1, left + dx : right + dx]


def _softmax(logits: Float[Tensor, "C h w"]) -> Float[Tensor, "C h w"]:
    return logits.softmax(0, torch.promote_types(logits.dtype, torch.float32))
