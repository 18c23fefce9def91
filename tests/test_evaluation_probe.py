"""The position probe and semantic affinity, on features and maps of known content."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmplugins.evaluation.features.affinity import IGNORE, affinity, patch_labels
from mmplugins.evaluation.features.probe import position_r2


def places(height, width):
    y, x = (torch.linspace(-1, 1, 2 * n + 1, dtype=torch.float64)[1::2] for n in (height, width))
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


def maps(count=8, height=6, width=9, channels=5):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(channels, height, width, generator=generator, dtype=torch.float64)
        for _ in range(count)
    ]


def test_a_place_that_is_written_is_read():
    mixed = torch.randn(7, 2, dtype=torch.float64)
    written = [
        torch.einsum("cd,dhw->chw", mixed, places(*size)) + 3.0
        for size in [(6, 9), (4, 4), (8, 5), (6, 9)]
    ]
    assert position_r2(written, ridge=1e-9) == pytest.approx(1, abs=1e-6)


def test_noise_tells_no_place():
    assert position_r2(maps(40)) < 0.05


def test_half_a_place_is_half_read():
    """With one coordinate alone, of two of equal spread, R^2 is one half."""
    rows = [torch.stack([places(9, 9)[0]]) for _ in range(4)]
    assert position_r2(rows, ridge=1e-9) == pytest.approx(0.5, abs=1e-6)


def test_what_only_one_image_tells_does_not_count():
    """A code of the place that is drawn anew for each image is of no use in another."""
    private = [torch.einsum("cd,dhw->chw", torch.randn(5, 2).double(), places(6, 9)) for _ in "ab"]
    assert position_r2(private) < 0.9


def test_constant_features_tell_nothing():
    assert position_r2([torch.ones(3, 4, 4)] * 4) == pytest.approx(0, abs=1e-9)


def test_probes_name_what_is_missing():
    with pytest.raises(ValueError, match="others to test, not 1"):
        position_r2(maps(1))
    with pytest.raises(ValueError, match="single cell have no place"):
        position_r2([torch.ones(3, 1, 1)] * 2)


def slow_affinity(values, labels, low, high):
    height, width = labels.shape
    alike, unlike = [], []
    for i in range(height * width):
        for j in range(height * width):
            (yi, xi), (yj, xj) = divmod(i, width), divmod(j, width)
            a, b = labels[yi, xi], labels[yj, xj]
            if i != j and IGNORE not in (a, b) and low < math.dist((yi, xi), (yj, xj)) <= high:
                (alike if a == b else unlike).append(values[i, j])
    wins = sum((a > b) + 0.5 * (a == b) for a in alike for b in unlike)
    return wins, len(alike) * len(unlike)


@given(
    labels=st.lists(st.sampled_from([0, 1, 2, IGNORE]), min_size=12, max_size=12),
    levels=st.integers(2, 50),
)
def test_affinity_equals_loops_over_pairs_of_pairs(labels, levels):
    labels = np.array(labels).reshape(3, 4)
    values = np.random.default_rng(levels).integers(0, levels, (12, 12)).astype(float)
    edges = (0, 1.5, 3, math.inf)
    result = affinity(values, labels, edges=edges)
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        assert (result.wins[index], result.pairs[index]) == slow_affinity(values, labels, low, high)


def test_known_affinities():
    labels = np.array([[0, 0, 1], [1, 0, 1]])
    same = (labels.ravel()[:, None] == labels.ravel()).astype(float)
    one = affinity(same, labels, edges=(0, math.inf))
    assert one.auroc == [1.0]
    assert affinity(-same, labels, edges=(0, math.inf)).auroc == [0.0]
    assert affinity(np.ones((6, 6)), labels, edges=(0, math.inf)).auroc == [0.5]
    both = one + affinity(-same, labels, edges=(0, math.inf))
    assert both.auroc == [0.5]
    assert np.isnan(affinity(same, np.zeros_like(labels)).auroc).all()


def test_affinity_names_what_does_not_fit():
    with pytest.raises(ValueError, match="do not belong to 2 x 3 labelled patches"):
        affinity(np.ones((5, 5)), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="edges of bins must rise"):
        affinity(np.ones((6, 6)), np.zeros((2, 3), int), edges=(0, 4, 4))


def test_labels_of_patches():
    labels = np.array([[1, 1, 2, 2, 7], [1, 3, 2, IGNORE, 7], [4, 4, 5, 6, 7]])
    expected = [[1, 2, IGNORE], [IGNORE, IGNORE, IGNORE]]
    assert patch_labels(labels, 2).tolist() == expected
    assert patch_labels(labels, 1).tolist() == labels.tolist()
    assert patch_labels(np.array([[1, 2]]), 2, purity=0.5).tolist() == [[IGNORE]]
    with pytest.raises(ValueError, match=r"from 0.5 to 1, not 0.3"):
        patch_labels(labels, 2, purity=0.3)
