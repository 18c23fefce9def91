"""How much of a patch's place can be read off its features: a linear probe across images.

    (y, x) in [-1, 1]^2 ~ W f + b,     W by ridge regression on some images,
    R^2 = 1 - sum |prediction - place|^2 / sum |place - mean|^2      on the others

1: the place is written in the features; 0 or below: no line through them tells it in a new image.
https://arxiv.org/abs/2001.08248 asks the same of convolutions.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def position_r2(
    maps: Sequence[Float[Tensor, "C h w"]], *, ridge: float = 1e-3, seed: int = 0
) -> float:
    """R^2 of a probe that is trained on one half of the images and tested on the other.

    Args:
        maps: features of each image, of any size, but with the same channels.
        ridge: penalty, as a part of the features' mean variance.
        seed: of the halves.

    Raises:
        ValueError: fewer than two images, or maps of a single cell, which have no place.
    """
    if len(maps) < 2:
        raise ValueError(f"a probe needs images to train on and others to test, not {len(maps)}")
    if all(each.shape[1] * each.shape[2] == 1 for each in maps):
        raise ValueError("maps of a single cell have no place to tell")
    order = torch.randperm(len(maps), generator=torch.Generator().manual_seed(seed)).tolist()
    half = (len(maps) + 1) // 2
    trained, tested = (
        [torch.cat(part) for part in zip(*(_cells(maps[i]) for i in images), strict=True)]
        for images in (order[:half], order[half:])
    )
    features, places = trained
    mean, middle = features.mean(0), places.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / len(centred)
    # Features that are all alike have no variance: any penalty will do.
    penalty = ridge * covariance.diagonal().mean().item() or 1.0
    target = centred.T @ (places - middle) / len(centred)
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    weights = torch.linalg.solve(covariance + penalty * eye, target)

    features, places = tested
    missed = (features - mean) @ weights + middle - places
    total = (places - places.mean(0)).square().sum()
    return (1 - missed.square().sum() / total).item()


def _cells(each: Float[Tensor, "C h w"]) -> tuple[Float[Tensor, "n C"], Float[Tensor, "n 2"]]:
    """Features and places of all cells; the middle of the map is (0, 0)."""
    each = each.double()
    y, x = (
        (2 * torch.arange(side, dtype=each.dtype, device=each.device) + 1) / side - 1
        for side in each.shape[1:]
    )
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
    return each.flatten(1).T, places.flatten(0, 1)
