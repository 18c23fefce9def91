"""How much of a patch's place can be read off its features: a linear probe across images.

    (y, x) in [-1, 1]^2 ~ W f + b,     W by ridge regression on some images,
    R^2 = 1 - sum |prediction - place|^2 / sum |mean place there - place|^2     on the others

1: the place is written in the features; 0 or below: no line through them tells it in other images.
https://arxiv.org/abs/2001.08248 asks the same of convolutions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmplugins.evaluation.measures import Measure, fixed
from mmplugins.evaluation.statistics.resampling import Statistic, ratio_of_sums

CELLS = 32  # of an image and level
PREFIX = "probe/"
CONTENT_FREE = ("constant", "noise")
RIDGE = 1e-3

Sample = tuple[Float[Tensor, "_ C"], Float[Tensor, "_ 2"]]  # features, places


def sample_of(level: Float[Tensor, "C h w"]) -> Sample:
    """Features and places of all cells; the middle of the map is (0, 0)."""
    y, x = ((2 * torch.arange(side) + 1) / side - 1 for side in level.shape[1:])
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
    return level.flatten(1).T, places.flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe: features [n, C] to places [n, 2]."""

    weight: Float[Tensor, "C 2"]
    mean: Float[Tensor, " C"]
    middle: Float[Tensor, " 2"]

    @classmethod
    def fit(cls, samples: Sequence[Sample], ridge: float = RIDGE) -> "Probe":
        """By ridge regression; `ridge` is a part of the features' mean variance."""
        features, places = (torch.cat(part).double() for part in zip(*samples, strict=True))
        mean, middle = features.mean(0), places.mean(0)
        centred = features - mean
        covariance = centred.T @ centred / len(centred)
        # Features that are all alike have no variance: any penalty will do.
        penalty = ridge * covariance.diagonal().mean().item() or 1.0
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        target = centred.T @ (places - middle) / len(centred)
        return cls(torch.linalg.solve(covariance + penalty * eye, target), mean, middle)

    def errors(self, sample: Sample) -> tuple[float, float]:
        """Squares of what the probe misses, and of what is missed without features."""
        features, places = (part.double() for part in sample)
        missed = (features - self.mean) @ self.weight + self.middle - places
        return missed.square().sum().item(), (places - self.middle).square().sum().item()


def position_r2(
    maps: Sequence[Float[Tensor, "C _ _"]], *, ridge: float = RIDGE, seed: int = 0
) -> float:
    """R^2 of a probe that is trained on one half of the images and tested on the other.

    Args:
        maps: features of each image, of any size, but with the same channels.
        ridge: penalty, as a part of the features' mean variance.
        seed: of the halves.

    Raises:
        ValueError: fewer than two images, or maps of a single cell, which have no place.
    """
    if all(each.shape[1] * each.shape[2] == 1 for each in maps):
        raise ValueError("maps of a single cell have no place to tell")
    return _r2([sample_of(each.cpu()) for each in maps], ridge, seed)(
        np.ones((1, len(maps)))
    ).item()


def probe_measures(sums: Sequence[Mapping[str, np.ndarray]], *, seed: int = 0) -> list[Measure]:
    """POS-R2 of each level, from what the pass kept of each image.

    Weights count the images that the probe is tested on; it is not trained again. A single image
    leaves none to test.
    """
    if len(sums) < 2:
        return []
    measures = []
    for name in (name for name in sums[0] if name.startswith(PREFIX)):
        if not all(name in of_image for of_image in sums):
            continue
        samples = [
            (torch.from_numpy(of_image[name][:, :-2]), torch.from_numpy(of_image[name][:, -2:]))
            for of_image in sums
        ]
        statistic = _r2(samples, RIDGE, seed)
        level = name.removeprefix(PREFIX)
        measures.append(Measure("feature", "POS-R2", level, "none", ("all",), statistic))
    return measures


def content_free_measures(known: Mapping[str, np.ndarray]) -> list[Measure]:
    """POS-R2 on pictures that show nothing, constant or noise: place without any content.

    Args:
        known: R^2 by name, constant/LEVEL and noise/LEVEL.
    """
    measures = []
    for name, value in known.items():
        kind, _, level = name.partition("/")
        if kind in CONTENT_FREE:
            measures.append(fixed("feature", f"POS-R2 {kind}", level, value.item()))
    return measures


def _r2(samples: Sequence[Sample], ridge: float, seed: int) -> Statistic:
    """[b, 1]: trained on one half, tested on the weighted other."""
    count = len(samples)
    if count < 2:
        raise ValueError(f"a probe needs images to train on and others to test, not {count}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    half = (count + 1) // 2
    probe = Probe.fit([samples[i] for i in order[:half]], ridge)
    errors = np.zeros((2, 1, count))
    for i in order[half:]:
        errors[:, 0, i] = probe.errors(samples[i])
    missed = ratio_of_sums(*errors)
    return lambda weights: 1 - missed(weights)
