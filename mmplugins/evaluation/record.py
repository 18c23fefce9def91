"""What the pass over one image leaves behind: all that a metric needs, and nothing of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Integer

from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.predictions.detections import Detections


@dataclass(frozen=True, eq=False)
class Objects:
    """The true objects of an image.

    Attributes:
        found: boxes, labels and masks, as if a detector had found them with score 1.
        crowd: which are crowds, of which any number may be found.
        area: in pixels of the original image, as COCO's small, medium and large are.
    """

    found: Detections
    crowd: Bool[np.ndarray, " n"]
    area: Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Record:
    """One image: predictions in the coordinates of each view, truth in those of the reference.

    Attributes:
        image: its id.
        scene: where the content lies.
        scale: (y, x) pixels of the network's input in a pixel of the original image.
        views: predictions of the reference and of each shift: detections, or label maps of
            [1 + S, H, W].
        truth: likewise; 255 is to be ignored; None where nothing is known.
        sums: anything else that was added up in the pass, by name.
    """

    image: str
    scene: Scene
    scale: tuple[float, float]
    views: Sequence[Detections] | Integer[np.ndarray, "V H W"]
    truth: Objects | Integer[np.ndarray, "H W"] | None = None
    sums: Mapping[str, np.ndarray] = field(default_factory=dict)
