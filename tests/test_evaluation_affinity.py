"""Semantic affinity: counts against loops, labels of patches, and what is read from attention."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers import HEIGHT, WIDTH, Model, case_id, tokens
from pycocotools import mask as coco_masks
from test_visualise import layer_and_probs

from mmplugins.evaluation.features.affinity import (
    BACKGROUND,
    EDGES,
    IGNORE,
    affinity,
    affinity_measures,
)
from mmplugins.evaluation.features.levels import watching
from mmplugins.evaluation.features.pairs import affinity_sums, attention_pairs
from mmplugins.evaluation.features.patches import chosen, object_labels, patch_labels
from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.record import Objects
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.grid import TokenGrid
from mmplugins.models.vit import ViT
from mmplugins.visualise.record import recording

CLASSES = st.sampled_from([0, 1, BACKGROUND, IGNORE])


def grid_places(height, width):
    return np.stack(np.divmod(np.arange(height * width), width), axis=-1)


def slow_affinity(values, labels, places, readable, low, high):
    alike, unlike = [], []
    for i, j in itertools.permutations(range(len(labels)), 2):
        a, b = labels[i], labels[j]
        asked = IGNORE not in (a, b) and not a == b == BACKGROUND and readable[i, j]
        if asked and low < math.dist(places[i], places[j]) <= high:
            (alike if a == b else unlike).append(values[i, j])
    wins = sum((a > b) + 0.5 * (a == b) for a in alike for b in unlike)
    return wins, len(alike) * len(unlike)


@given(labels=st.lists(CLASSES, min_size=12, max_size=12), levels=st.integers(2, 50))
def test_affinity_equals_loops_over_pairs_of_pairs(labels, levels):
    generator = np.random.default_rng(levels)
    values = generator.integers(0, levels, (9, 9)).astype(float)
    readable = generator.random((9, 9)) < 0.8
    some = np.sort(generator.permutation(12)[:9])
    labels, places = np.array(labels)[some], grid_places(3, 4)[some]
    edges = (0, 1.5, 3, math.inf)
    wins, pairs = affinity(values, labels, places, readable=readable, edges=edges)
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        expected = slow_affinity(values, labels, places, readable, low, high)
        assert (wins[index], pairs[index]) == expected


def auroc(values, labels):
    wins, pairs = affinity(values, labels, grid_places(2, 3), edges=(0, math.inf))
    return wins / pairs


def test_known_affinities():
    labels = np.array([0, 0, 1, 1, 0, 1])
    same = (labels[:, None] == labels).astype(float)
    assert auroc(same, labels) == [1.0]
    assert auroc(-same, labels) == [0.0]
    assert auroc(np.ones((6, 6)), labels) == [0.5]


def test_edges_must_rise():
    with pytest.raises(ValueError, match="edges of bins must rise"):
        affinity(np.ones((6, 6)), np.zeros(6, int), grid_places(2, 3), edges=(0, 4, 4))


def test_measures_are_those_of_the_images_together():
    generator = np.random.default_rng(0)
    images = [{"affinity/blocks.0/cosine": generator.integers(1, 9, (2, 3)) * 1.0} for _ in "abcd"]
    images[1]["feature/other"] = np.ones(5)
    images[2] = {}  # an image without labels
    (measure,) = affinity_measures(images)
    assert measure.key == (
        "affinity", "AUROC", "blocks.0/cosine", "distance", ("0-4", "4-8", "8-inf")
    )  # fmt: skip
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1]])
    sums = [next(iter(image.values()), np.zeros((2, 3))) for image in images]
    for row, value in zip(weights, measure.statistic(weights), strict=True):
        wins, pairs = sum(w * s for w, s in zip(row, sums, strict=True))
        np.testing.assert_allclose(value, wins / pairs)
    assert Bootstrap(images=4, count=9).estimate(measure.statistic).draws.shape == (9, 3)


def test_labels_of_patches():
    labels = np.array([[1, 1, 2, 2, 7], [1, 3, 2, IGNORE, 7], [4, 4, 5, 6, 7]])
    expected = [[1, 2, IGNORE], [IGNORE, IGNORE, IGNORE]]
    assert patch_labels(labels, 2).tolist() == expected
    assert patch_labels(labels, 1).tolist() == labels.tolist()
    assert patch_labels(np.array([[1, 2]]), 2, purity=0.5).tolist() == [[IGNORE]]
    with pytest.raises(ValueError, match=r"from 0.5 to 1, not 0.3"):
        patch_labels(labels, 2, purity=0.3)


def objects(*drawn, masks=True):
    """Rectangles (label, top, left, bottom, right, crowd) in a view of 6 x 8."""
    lengths, boxes = [], []
    for _, top, left, bottom, right, _ in drawn:
        mask = np.zeros((6, 8), np.uint8, order="F")
        mask[top:bottom, left:right] = 1
        lengths.append(coco_masks.encode(mask))
        boxes.append([left, top, right, bottom])
    labels, crowd = (np.array([each[part] for each in drawn], int) for part in (0, 5))
    boxes = np.reshape(boxes, (-1, 4))
    found = Detections(boxes, np.ones(len(drawn)), labels, lengths if masks else None)
    return Objects(found, crowd.astype(bool), np.ones(len(drawn)))


def test_labels_of_objects():
    scene = Scene(view=(6, 8), content=(1, -2, 9, 7), core=(1, 0, 6, 7))
    truth = objects(
        (3, 1, 0, 3, 2, False),
        (3, 2, 0, 5, 1, False),  # one class may overlap itself
        (4, 4, 0, 6, 2, False),  # another one not
        (4, 1, 4, 3, 6, True),
        (5, 0, 6, 2, 8, False),  # partly beyond the content
    )
    o, n = BACKGROUND, IGNORE
    assert object_labels(truth, scene).tolist() == [
        [n, n, n, n, n, n, n, n],
        [3, 3, o, o, n, n, 5, n],
        [3, 3, o, o, n, n, o, n],
        [3, o, o, o, o, o, o, n],
        [n, 4, o, o, o, o, o, n],
        [4, 4, o, o, o, o, o, n],
    ]
    assert object_labels(objects((1, 0, 0, 2, 2, False), masks=False), scene) is None
    assert (object_labels(objects(masks=False), scene)[1:, :7] == o).all()


@given(st.lists(CLASSES, min_size=40, max_size=40), st.integers(1, 50))
def test_chosen_patches_are_spread_over_classes(labels, most):
    labels = np.array(labels).reshape(5, 8)
    patches = chosen(labels, most)
    assert np.array_equal(patches, np.unique(patches))
    assert np.array_equal(patches, chosen(labels.copy(), most))
    there, taken = Counter(labels.ravel().tolist()), Counter(labels.ravel()[patches].tolist())
    del there[IGNORE]
    assert IGNORE not in taken
    assert len(patches) == min(most, sum(there.values()))
    largest = max(taken.values(), default=0)
    for kind, count in there.items():
        assert taken[kind] in (count, largest, largest - 1)


CASES = [
    [],
    [dict(type="SaPE2")],
    [dict(type="RoPE", coords="normalized")],
    [dict(type="RelativePositionBias"), dict(type="IRPE", on="qkv")],
]


def check_pairs(model, x, grid, *, window, prefix=0, readable=None):
    """Against the probabilities that the model itself attends with, and loops over its windows."""
    layer, probs = layer_and_probs(model, x, grid)
    (rows, columns), across = window, -(-WIDTH // window[1])
    count = len(probs) // 2
    bias = layer.module.terms(layer.x, layer.grid).bias
    patches = np.array([0, 3, 4, 9, 10, 12, 19])
    for image in (0, 1):
        values = attention_pairs(layer, patches, image=image)
        assert values.keys() == ({"attention"} if bias is None else {"attention", "bias"})
        for (i, a), (j, b) in itertools.product(enumerate(patches), repeat=2):
            places = divmod(int(a), WIDTH), divmod(int(b), WIDTH)
            numbers = {y // rows * across + x // columns for y, x in places}
            asked = len(numbers) == 1 and (readable is None or bool(readable[image, a, b]))
            for kind, (pairs, which) in values.items():
                assert which[i, j] == asked
                if asked:
                    number = image * count + numbers.pop() if numbers else number
                    q, k = (prefix + y % rows * columns + x % columns for y, x in places)
                    whole = probs if kind == "attention" else bias.dense().expand_as(probs)
                    torch.testing.assert_close(
                        torch.tensor(pairs[i, j]), whole[number, :, q, k].mean()
                    )


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("cfgs", CASES, ids=lambda cfgs: "+".join(map(case_id, cfgs)))
def test_pairs_are_what_the_layer_computes(cfgs, prefix, float64):
    model, x = Model(cfgs, prefix=prefix), tokens(prefix=prefix)
    grid = TokenGrid(HEIGHT, WIDTH, prefix)
    check_pairs(model, x, grid, window=(HEIGHT, WIDTH), prefix=prefix)


@pytest.mark.parametrize("window", [(3, 2), (2, 4), (7, 9)])
@pytest.mark.parametrize("cfgs", CASES, ids=lambda cfgs: "+".join(map(case_id, cfgs)))
def test_windows_have_pairs_of_their_own(cfgs, window, float64):
    model = Model(cfgs, grid=window, window=window)
    check_pairs(model, tokens(), TokenGrid(HEIGHT, WIDTH), window=window)


def test_pairs_that_are_not_read_are_left_out(float64):
    valid = torch.ones(2, HEIGHT * WIDTH, dtype=torch.bool)
    valid[1, 10:] = False
    mask = torch.rand(1, 1, 20, 20) < 0.8
    mask |= torch.eye(20, dtype=torch.bool)
    grid = TokenGrid(HEIGHT, WIDTH, valid=valid, mask=mask)
    readable = grid.attention_mask[:, 0]
    model = Model([dict(type="IRPE")])
    check_pairs(model, tokens(), grid, window=(HEIGHT, WIDTH), readable=readable)


def test_a_large_bias_is_read_in_parts(monkeypatch, float64):
    model, grid = Model([dict(type="SaPE2")]), TokenGrid(HEIGHT, WIDTH)
    monkeypatch.setattr("mmplugins.evaluation.features.pairs.ROWS", 6)
    check_pairs(model, tokens(), grid, window=(HEIGHT, WIDTH))


class Backbone(torch.nn.Module):
    """What has a backbone, as detectors and segmenters do."""

    def __init__(self, **options):
        super().__init__()
        arch = dict(embed_dims=16, depth=2, num_heads=2)
        self.backbone = ViT(arch, img_size=64, patch_size=8, out_indices=(1,), **options)
        torch.manual_seed(0)
        for parameter in self.backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        self.eval()

    def forward(self, x):
        return self.backbone(x)


def sums_of(model, labels, x):
    with watching(model) as levels, recording(model) as inputs, torch.no_grad():
        model(x)
    maps = {name: level[1] for name, level in levels.items()}
    return affinity_sums(model, maps, inputs, labels, image=1)


def test_features_of_what_looks_alike_tell_it_at_any_distance(float64):
    """Without position, patches of one colour are one: their cosine is 1, others' is less."""
    labels = np.zeros((64, 96), np.uint8)
    labels[:, 40:] = labels[16:32] = 1
    x = torch.randn(2, 1, 1, 1) + torch.tensor(labels)[None, None] * torch.randn(2, 3, 1, 1)
    sums = sums_of(Backbone(), labels, x)
    names = {f"affinity/blocks.{i}/{kind}" for i in (0, 1) for kind in ("cosine", "attention")}
    assert sums.keys() == names
    for block in (0, 1):
        wins, pairs = sums[f"affinity/blocks.{block}/cosine"]
        assert (pairs > 0).all()
        assert len(pairs) == len(EDGES) - 1
        np.testing.assert_array_equal(wins, pairs)


def test_a_bias_that_knows_nothing_is_worth_chance(float64):
    labels = np.random.default_rng(0).integers(0, 3, (8, 12)).repeat(8, 0).repeat(8, 1)
    model = Backbone(
        position_encodings=[dict(type="RelativePositionBias")],
        window_size=(3, 5),
        global_blocks=[1],
    )
    for block in model.backbone.blocks:
        for parameter in block.attn.pos.parameters():
            torch.nn.init.zeros_(parameter)
    sums = sums_of(model, labels, torch.randn(2, 3, 64, 96))
    for block in (0, 1):
        wins, pairs = sums[f"affinity/blocks.{block}/bias"]
        np.testing.assert_array_equal(wins, pairs / 2)
    # Block 0 has windows of 3 x 5 patches, which hold no pair of patches far apart.
    assert not sums["affinity/blocks.0/attention"][1, 2]
    assert sums["affinity/blocks.1/attention"][1, 2]
    assert sums["affinity/blocks.0/cosine"][1, 2]


def test_an_image_without_labels_counts_nothing():
    labels = np.full((64, 64), IGNORE)
    assert sums_of(Backbone(), labels, torch.randn(2, 3, 64, 64)) == {}


def test_tokens_in_half_precision_are_read_in_that_of_the_weights():
    model, grid = Model([]), TokenGrid(HEIGHT, WIDTH)
    with recording(model) as inputs, torch.autocast("cpu", torch.bfloat16):
        model(tokens().bfloat16(), grid)
    layer = inputs[model.blocks[1].attn]
    ((values, _),) = attention_pairs(layer, np.arange(HEIGHT * WIDTH)).values()
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-6)
