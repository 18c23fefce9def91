"""Randomness as a function of place, not of history: what makes a resumed run repeat exactly.

A sample's augmentation depends on (seed, number of the draw), whichever worker makes it and in
whatever order; dropout and sampled proposals depend on (seed, iteration, rank). So a run that was
killed at any point and resumed reaches the weights of one that was not, and the number of workers
does not change a result. In a config:

    custom_hooks = [dict(type='SeedIterationHook')]
    sampler = dict(type='SeededSampler', shuffle=True)      # SeededInfiniteSampler by iterations
    train_pipeline = [dict(type='SeedSample'), ...]
"""

import itertools
import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS, TRANSFORMS
from mmengine.runner import Runner

# First numbers of the two kinds of seeds: a draw and an iteration never share one.
DRAW, ITERATION = 1, 2


def seed_everything(*numbers: int) -> None:
    """Seed Python, NumPy and torch (with its devices) by a hash of `numbers`, all >= 0."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the hosts' transforms use NumPy's global state
    torch.manual_seed(seed)


class Draw(int):
    """An index into a dataset that knows which draw it is: `place` = (seed, number of the draw)."""

    place: tuple[int, int]

    def __new__(cls, index: int, place: tuple[int, int]):
        """Take an `index`, and remember its `place`."""
        draw = super().__new__(cls, index)
        draw.place = place
        return draw

    def __reduce__(self):
        """Keep the place on the way to a worker."""
        return Draw, (int(self), self.place)


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's `DefaultSampler`, its indices as draws: for loops by epochs."""

    def __iter__(self) -> Iterator[Draw]:
        """This rank's share of the epoch."""
        numbers = itertools.count(self.epoch * self.total_size + self.rank, self.world_size)
        for index, number in zip(super().__iter__(), numbers, strict=False):
            yield Draw(index, (self.seed, number))


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """mmengine's `InfiniteSampler`, its indices as draws: for loops by iterations."""

    def _infinite_indices(self) -> Iterator[Draw]:
        for number, index in enumerate(super()._infinite_indices()):
            yield Draw(index, (self.seed, number))


@TRANSFORMS.register_module()
class SeedSample:
    """The first transform of a training pipeline: seeds those after it by the sample's draw.

    mmengine hands the sampler's index down as `sample_idx`. The substitute for a sample that a
    later transform refused has a plain index; it goes on with the randomness of the draw.
    """

    def __call__(self, results: dict) -> dict:
        """Leave `results` as they are."""
        if isinstance(draw := results["sample_idx"], Draw):
            seed_everything(DRAW, *draw.place)
        return results


@HOOKS.register_module()
class SeedIterationHook(Hook):
    """Seeds each training iteration by (seed, iteration, rank).

    Raises:
        TypeError: the training data are not drawn by a seeded sampler, or their dataset is a
            wrapper, or does not begin with `SeedSample`.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuse data whose augmentation would depend on history."""
        loader = runner.train_dataloader
        sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
        if not isinstance(sampler, SeededSampler | SeededInfiniteSampler):
            raise TypeError(
                "SeedIterationHook promises exact resuming, so train_dataloader.sampler must be "
                f"SeededSampler or SeededInfiniteSampler, not {type(sampler).__name__}: set it, "
                "with SeedSample in front of the pipeline, or take the hook out of custom_hooks"
            )
        # A wrapper gives its dataset plain indices: the samples would not be seeded.
        transforms = getattr(getattr(loader.dataset, "pipeline", None), "transforms", None)
        if not transforms or not isinstance(transforms[0], SeedSample):
            raise TypeError(
                "SeedIterationHook promises exact resuming, so train_dataloader.dataset must be a "
                "plain dataset whose pipeline begins with SeedSample, which this "
                f"{type(loader.dataset).__name__} is not: change it, or take the hook out of "
                "custom_hooks"
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seed dropout, drop path and sampled proposals."""
        seed_everything(ITERATION, runner.seed, runner.iter, get_rank())
