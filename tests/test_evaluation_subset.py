"""Subsets of images: nested, the same on every machine, and of images that there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.subset import subset

IDS = [f"{number:012}" for number in range(40)]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_subsets_are_nested_and_follow_from_seed_and_ids(smaller, larger, seed):
    smaller, larger = sorted((smaller, larger))
    few, many = (subset(IDS, count, seed=seed) for count in (smaller, larger))
    assert len(few) == smaller
    assert {*few} <= {*many}
    assert few == sorted(few)
    order = [*reversed(IDS)]
    assert {order[i] for i in subset(order, smaller, seed=seed)} == {IDS[i] for i in few}


def test_subsets_of_other_seeds_are_others():
    assert len({tuple(subset(IDS, 10, seed=seed)) for seed in range(8)}) == 8
    assert subset(IDS) == list(range(40))
    assert subset(IDS, [IDS[7], IDS[3], IDS[7]]) == [3, 7]


@given(st.lists(st.integers(0, 3), min_size=40, max_size=40), st.integers(1, 40), st.integers(0, 5))
def test_subsets_have_their_share_of_every_stratum(strata, count, seed):
    chosen = subset(IDS, count, seed=seed, strata=strata)
    for stratum in set(strata):
        share = strata.count(stratum) * count / len(IDS)
        # Each of up to four strata is at most one off where their turns fall together.
        assert abs([strata[i] for i in chosen].count(stratum) - share) < 2
    fewer = subset(IDS, max(1, count // 2), seed=seed, strata=strata)
    assert {*fewer} <= {*chosen}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (41, "a subset of 41 images: the dataset has 40"),
        (0, "a subset of 0 images"),
        (
            [IDS[0], "12", "x"],
            r"no image 12 in the test dataset \(2 of 3 ids are unknown\); its ids",
        ),
    ],
)
def test_subsets_that_there_are_not(wanted, said):
    with pytest.raises(InputError, match=said):
        subset(IDS, wanted)
