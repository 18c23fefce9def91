"""Learned tables as pictures: what they hold at another grid than that of their training."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmplugins.grid import is_known

Resize = Literal["bicubic", "bicubic_antialias", "bilinear"]


def resize_picture(
    picture: Float[Tensor, "B C H W"], *, height: int, width: int, mode: Resize
) -> Float[Tensor, "B C h w"]:
    """`picture` stretched to `height` x `width`, borders upon borders, in fp32 or better.

    A picture that has the size already stays as it is. Only `bicubic_antialias` averages over all
    that a smaller picture cannot show; the others read four or two places a side.
    """
    if is_known(height, width) and picture.shape[2:] == (height, width):
        return picture
    resized = F.interpolate(
        picture.to(torch.promote_types(picture.dtype, torch.float32)),
        size=(height, width),
        mode=mode.removesuffix("_antialias"),
        align_corners=False,
        antialias=mode.endswith("_antialias"),
    )
    return resized.to(picture.dtype)


def read_nearest(
    picture: Float[Tensor, "B C H W"], *, height: int, width: int, centred: bool = False
) -> Float[Tensor, "B C h w"]:
    """`picture` at its own places, nothing stretched; beyond its border, the border continues.

    Places count from the top left or, if `centred`, from the middle of pictures with odd sides.
    """
    for dim, size in ((2, height), (3, width)):
        have = picture.shape[dim]
        offset = (have - size) // 2 if centred else 0
        places = (torch.arange(size, device=picture.device) + offset).clamp(0, have - 1)
        picture = picture.index_select(dim, places)
    return picture
