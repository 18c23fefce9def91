"""How many pixels of the network's input a cell of each of its levels is."""

import torch
from torch import nn

from mmplugins.evaluation.features.levels import feature_levels, level_strides
from mmplugins.evaluation.inference.pictures import Pictures

# Of an empty picture that strides are read from. Powers of two first: 448 pixels make 4 cells of a
# stride of 128, as of one of 112.
SIDES = (512, 896)


def strides_of(model: nn.Module, pictures: Pictures) -> dict[str, int | None]:
    """Pixels of a cell of every level, read from an empty picture."""
    for side in SIDES:
        sample = pictures.sample(
            dict(img_shape=(side, side), ori_shape=(side, side), scale_factor=(1.0, 1.0))
        )
        data = model.data_preprocessor(
            dict(inputs=[torch.zeros(3, side, side)], data_samples=[sample])
        )
        levels = feature_levels(model, data["inputs"], data["data_samples"])
        strides = level_strides(levels, (side, side))
        if all(strides.values()):
            break
    return strides
