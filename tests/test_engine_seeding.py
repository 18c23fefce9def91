"""Augmentation follows the draw, not the worker, the order or what happened before."""

import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, DefaultSampler, RepeatDataset
from mmengine.registry import FUNCTIONS
from torch.utils.data import DataLoader

from mmplugins.engine import (
    SeededInfiniteSampler,
    SeededSampler,
    SeedIterationHook,
    SeedSample,
)
from mmplugins.engine.seeding import Draw, seed_everything


def dice(results: dict) -> tuple[int, float, float, float]:
    """An augmentation that uses all three generators."""
    return results["sample_idx"], random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


class Images(BaseDataset):
    def load_data_list(self) -> list[dict]:
        return [dict(name=str(index)) for index in range(5)]


DATASET = Images(pipeline=[SeedSample(), dice])
INFINITE = SeededInfiniteSampler(DATASET, seed=3)


def load(sampler, workers: int, batches: int) -> list[list[tuple]]:
    collate = FUNCTIONS.get("pseudo_collate")
    loader = DataLoader(DATASET, 2, sampler=sampler, num_workers=workers, collate_fn=collate)
    iterator = iter(loader)
    return [next(iterator) for _ in range(batches)]


def test_draw_is_an_index_that_keeps_its_place_on_the_way_to_a_worker() -> None:
    draw = pickle.loads(pickle.dumps(Draw(4, (0, 9))))
    assert draw == 4
    assert draw.place == (0, 9)


@pytest.mark.parametrize("kind", [SeededSampler, SeededInfiniteSampler])
def test_workers_do_not_change_samples(kind: type) -> None:
    batches = [load(kind(DATASET, seed=3), workers, 3) for workers in (0, 1, 2)]
    assert batches[0] == batches[1] == batches[2]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def epoch(number: int, seed: int = 0) -> list:
        sampler = SeededSampler(DATASET, shuffle=False, seed=seed)
        sampler.set_epoch(number)
        return load(sampler, 0, 3)

    assert epoch(1) == epoch(1)
    assert epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=1)


def test_ranks_share_the_draws_of_one_process() -> None:
    def places(rank: int, world_size: int) -> list[tuple[int, tuple[int, int]]]:
        sampler = SeededSampler(DATASET, seed=0)
        sampler.rank, sampler.world_size = rank, world_size
        sampler.total_size = 6 if world_size == 2 else 5  # rounded up, as mmengine does
        sampler.set_epoch(2 if world_size == 1 else 0)
        return [(int(draw), draw.place) for draw in sampler]

    numbers = sorted(place[1] for rank in range(2) for _, place in places(rank, 2))
    assert numbers == list(range(6))
    assert sorted(place[1] for _, place in places(0, 1)) == list(range(10, 15))


@pytest.mark.skipif(not hasattr(INFINITE, "skip"), reason="this mmengine replays the data instead")
def test_skipped_stream_goes_on_where_it_was() -> None:
    whole = load(SeededInfiniteSampler(DATASET, seed=3), 0, 6)
    INFINITE.skip(4)
    assert load(INFINITE, 2, 4) == whole[2:]


def test_substitute_of_a_refused_sample_stays_with_the_draw() -> None:
    """Whichever dataset index replaces it, the generators are those that the draw seeded."""
    seed = SeedSample()
    drawn = dice(seed(dict(sample_idx=Draw(0, (7, 7)))))
    seed(dict(sample_idx=Draw(0, (7, 7))))
    assert dice(seed(dict(sample_idx=3)))[1:] == drawn[1:]


def test_seeds_of_different_places_differ() -> None:
    values = set()
    for place in [(1, 0, 5), (1, 5, 0), (2, 0, 5), (1, 0, 5, 1)]:
        seed_everything(*place)
        values.add(torch.rand(()).item())
    assert len(values) == 4


class Run:
    """What the hook looks at of a runner."""

    def __init__(self, dataset, sampler: type = SeededSampler):
        self.train_dataloader = DataLoader(dataset, 2, sampler=sampler(dataset, seed=0))


def test_hook_refuses_a_sampler_that_depends_on_history() -> None:
    SeedIterationHook().before_train(Run(DATASET))
    with pytest.raises(TypeError, match=r"must be SeededSampler .*, not DefaultSampler"):
        SeedIterationHook().before_train(Run(DATASET, DefaultSampler))


@pytest.mark.parametrize(
    "dataset",
    [
        ConcatDataset([DATASET, DATASET]),
        RepeatDataset(DATASET, 2),
        Images(pipeline=[dice, SeedSample()]),
        Images(pipeline=[]),
    ],
    ids=["concatenated", "repeated", "seeded late", "not seeded"],
)
def test_hook_refuses_a_dataset_whose_samples_are_not_seeded_first(dataset) -> None:
    with pytest.raises(TypeError, match=f"begins with SeedSample, .* {type(dataset).__name__}"):
        SeedIterationHook().before_train(Run(dataset))
