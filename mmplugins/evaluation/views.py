"""A picture of a dataset, and one view of it as a network is shown it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Size = tuple[int, int]  # height, width
WHOLE = {"mode": "whole"}  # a segmenter's test_cfg: all of a picture at once


@dataclass(frozen=True, eq=False)
class Picture:
    """One image.

    Attributes:
        image: its id.
        pixels: [3, h, w] as the data preprocessor is given them.
        scale: (y, x) pixels of `pixels` in one of the original image.
        labels: [H, W] of a segmenter's truth, in pixels of any size.
        annotations: of a detector's truth in COCO's form, in pixels of the original image.
        original: [3, H, W] before the test pipeline's resizing, where that was asked for.
        resampling: `interpolation` and `backend` of that resizing, as mmcv has them.
    """

    image: str
    pixels: Tensor
    scale: tuple[float, float]
    labels: Tensor | None = None
    annotations: Sequence[dict] | None = None
    original: Tensor | None = None
    resampling: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class View:
    """What the network is shown, and what its predictions are the coordinates of.

    Attributes:
        pixels: [3, h, w].
        shown: height and width that the host is told of the picture in it.
        size: what the host scales its predictions to.
        origin: (y, x) that their (0, 0) has in the coordinates of the record.
        frame: that label maps and masks are put into; as they are without.
        valid: [h, w], where the content lies; None if the network is not to know.
        test_cfg: what a segmenter is told otherwise than by its config.
    """

    pixels: Tensor
    shown: Size
    size: Size
    origin: tuple[int, int] = (0, 0)
    frame: Size | None = None
    valid: Tensor | None = None
    test_cfg: Mapping[str, Any] = field(default_factory=dict)
