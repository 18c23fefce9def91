"""What the scenes promise: their families ask exactly what they claim to ask."""

import numpy as np
import pytest
from shapely import Polygon, box, unary_union

from mmplugins.datasets import motifs
from mmplugins.datasets.families import FAMILY_OF_CLASS, SEG_CLASSES
from mmplugins.datasets.parts import LOOKS, Part, paint
from mmplugins.datasets.scenes import arrange, ground, make_scene, pieces, render

HEIGHT, WIDTH = 160, 224
COIN_DECIDES_POSITION = [motifs.vertical, motifs.horizontal, motifs.distance, motifs.location]


def rng_of(seed):
    return np.random.default_rng(seed)


def drawn(parts, dy=64, dx=80, height=320, width=480):
    canvas = np.full((height, width, 3), 90.0)
    for part in parts:
        paint(canvas, part.moved(dy, dx))
    return canvas


def bag_of_patches(picture, side):
    height, width = (length // side for length in picture.shape[:2])
    patches = picture.reshape(height, side, width, side, 3).swapaxes(1, 2)
    return sorted(patch.tobytes() for patch in patches.reshape(height * width, -1))


@pytest.mark.parametrize("motif", COIN_DECIDES_POSITION)
@pytest.mark.parametrize("side", [16, 8, 4])
def test_both_members_of_a_pair_hold_the_same_patches(motif, side):
    for seed in range(10):
        rng = rng_of(seed)
        one, other = motif(rng, HEIGHT, WIDTH)
        dy, dx = (int(v) for v in rng.integers(140, 156, 2))  # any place on the patch grid
        pictures = [drawn(parts, dy, dx) for parts in (one, other)]
        assert not np.array_equal(*pictures)
        bags = [bag_of_patches(picture, side) for picture in pictures]
        assert bags[0] == bags[1]


def test_appearance_is_told_by_patches():
    pictures = [drawn(parts) for parts in motifs.appearance(rng_of(0), HEIGHT, WIDTH)]
    assert bag_of_patches(pictures[0], 16) != bag_of_patches(pictures[1], 16)


def test_crosses_in_pair_and_array_are_equal_in_every_patch():
    for seed in range(10):
        parts, _ = motifs.repetition(rng_of(seed), HEIGHT, WIDTH)
        views = {bytes(drawn([part._replace(y=part.y % 16, x=part.x % 16)])) for part in parts}
        assert len(views) == 1
        assert {part.category for part in parts} == {"cross_in_pair", "cross_in_array"}


def gap(one, other):
    """Pixels between two boxes, along the axis that parts them most."""
    top, left, bottom, right = np.array(one.box)
    y0, x0, y1, x1 = np.array(other.box)
    return max(y0 - bottom, top - y1, x0 - right, left - x1)


@pytest.mark.parametrize("motif", [*COIN_DECIDES_POSITION, motifs.repetition])
def test_what_decides_the_class_lies_out_of_reach_of_the_box(motif):
    for seed in range(50):
        for parts in motif(rng_of(seed), HEIGHT, WIDTH):
            for index, part in enumerate(parts):
                for other in parts[index + 1 :]:
                    assert gap(part, other) >= motifs.REACH


def test_groups_of_crosses_lie_further_apart_than_their_members():
    for seed in range(50):
        parts, _ = motifs.repetition(rng_of(seed), HEIGHT, WIDTH)
        groups = [
            [part for part in parts if part.category == category]
            for category in ("cross_in_pair", "cross_in_array")
        ]
        assert [len(group) for group in groups] in ([2, 3], [2, 4])
        for group in groups:
            for part in group:
                others = [gap(part, other) for other in group if other != part]
                assert min(others) == 24
        assert min(gap(a, b) for a in groups[0] for b in groups[1]) >= 56


def test_relations_are_what_the_class_says():
    checks = {
        "hexagon_above": lambda t, m: t.y < m.y,
        "hexagon_below": lambda t, m: t.y > m.y,
        "hexagon_left": lambda t, m: t.x < m.x,
        "hexagon_right": lambda t, m: t.x > m.x,
        "hexagon_near": lambda t, m: abs(t.y - m.y) + abs(t.x - m.x) == 64,
        "hexagon_far": lambda t, m: abs(t.y - m.y) + abs(t.x - m.x) == 112,
    }
    seen = set()
    for seed in range(20):
        for motif in (motifs.vertical, motifs.horizontal, motifs.distance):
            for target, marker in motif(rng_of(seed), HEIGHT, WIDTH):
                assert marker.category is None
                assert checks[target.category](target, marker)
                seen.add(target.category)
    assert seen == set(checks)


@pytest.mark.parametrize("width", [224, 232, 300])
def test_location_depends_on_the_half_alone(width):
    looks = set()
    for seed in range(150):
        for part in arrange(rng_of(seed), HEIGHT, width):
            if part.look == "star":
                assert part.category == ("star_left" if part.x < width / 2 else "star_right")
                looks.add(part.look)
    assert looks == {"star"}


def test_the_coin_is_fair_and_no_hexagon_lacks_its_diamond():
    categories, diamonds = [], []
    for seed in range(800):
        parts = arrange(rng_of(seed), HEIGHT, WIDTH)
        categories += [part.category for part in parts if part.category]
        diamonds += [part for part in parts if part.category is None]
    for one, other in (
        ("hexagon_above", "hexagon_below"),
        ("hexagon_left", "hexagon_right"),
        ("hexagon_near", "hexagon_far"),
        ("star_left", "star_right"),
    ):
        ones, others = categories.count(one), categories.count(other)
        assert abs(ones - others) < 3.5 * np.sqrt(ones + others)
        assert ones + others > 200
    assert sum(name.startswith("hexagon") for name in categories) == len(diamonds)


def test_ground_is_the_same_everywhere():
    mean = np.mean([ground(rng_of(seed), 64, 96).mean(axis=-1) for seed in range(400)], axis=0)
    halves = mean[:32], mean[32:], mean[:, :48], mean[:, 48:], mean[8:-8, 8:-8]
    assert np.ptp([half.mean() for half in halves]) < 3  # of 255; a vignette would show


def test_a_scene_depends_on_its_key_alone():
    scenes = [make_scene([3, 1, 7], HEIGHT, WIDTH) for _ in range(2)]
    assert np.array_equal(scenes[0].image, scenes[1].image)
    assert not np.array_equal(scenes[0].image, make_scene([3, 1, 8], HEIGHT, WIDTH).image)
    assert not np.array_equal(scenes[0].image, make_scene([4, 1, 7], HEIGHT, WIDTH).image)


@pytest.mark.parametrize("look", LOOKS)
def test_a_part_looks_the_same_wherever_it_is(look):
    part = Part(look, 40, 40, 36, seed=1)
    pictures = [drawn([part], dy, dx, 128, 128) for dy, dx in ((0, 0), (7, 30))]
    assert np.array_equal(np.roll(pictures[0], (7, 30), (0, 1)), pictures[1])
    assert pictures[0].std() > 0


def test_hidden_parts_are_cut_out_of_polygons_and_labels():
    star = Part("star", 80, 80, 48, 1, category="star_left")
    disk = Part("striped_disk", 80, 80, 96, 2, category="striped_disk")
    scene = render(rng_of(0), np.full((HEIGHT, WIDTH, 3), 90.0), [disk, star])
    by_name = {instance.category: instance for instance in scene.instances}
    assert not (by_name["star_left"].mask & by_name["striped_disk"].mask)[70:90, 70:90].any()
    assert len(by_name["striped_disk"].polygons) == 2  # the star's hole is cut open
    assert scene.labels[80, 80] == 1 + SEG_CLASSES.index("star_left")
    assert scene.labels[80, 40] == 1 + SEG_CLASSES.index("striped_disk")
    assert scene.labels[5, 5] == 1 + SEG_CLASSES.index("clutter")


def test_polygons_agree_with_labels():
    agreed = total = 0
    for index in range(30):
        scene = make_scene([0, 0, index], HEIGHT, WIDTH)
        for instance in scene.instances:
            label = 1 + SEG_CLASSES.index(instance.category)
            agreed += (scene.labels[instance.mask] == label).sum()
            total += instance.mask.sum()
    assert 0.98 < agreed / total < 1  # outlines cross pixels


def test_pieces_have_no_holes():
    ring = box(0, 0, 20, 20).difference(box(5, 5, 8, 8)).difference(box(12, 12, 15, 15))
    found = [Polygon(piece) for piece in pieces(ring)]
    assert len(found) > 1
    assert unary_union(found).symmetric_difference(ring).area == pytest.approx(0, abs=0.1)
    assert sum(polygon.area for polygon in found) == pytest.approx(ring.area, abs=0.1)


def test_every_class_is_drawn():
    drawn_classes = {
        part.category for seed in range(100) for part in arrange(rng_of(seed), HEIGHT, WIDTH)
    }
    assert drawn_classes == {None, *FAMILY_OF_CLASS}
