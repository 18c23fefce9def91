"""All numbers of segmenters against loops over the pixels of full records."""

import itertools
import math

import numpy as np
import pytest
from segmentation_records import CLASSES, IGNORED, MODES, pieces, plan_of, record_of, values

SHIFTS = ((8, 0), (-3, 4), (0, -7))
ZONES = 5


class Tally:
    """Places of each class in two label maps, over images and shifts; means of shares of images."""

    def __init__(self):
        self.first, self.second, self.agree = {}, {}, {}

    def add(self, image, place, first, second):
        self.first.setdefault(first, set()).add((image, place))
        self.second.setdefault(second, set()).add((image, place))
        self.agree.setdefault(image, []).append(first == second)

    def ious(self):
        for label in range(CLASSES):
            first, second = self.first.get(label, set()), self.second.get(label, set())
            yield len(first & second) / len(first | second) if first | second else math.nan

    def miou(self):
        known = [iou for iou in self.ious() if not math.isnan(iou)]
        return sum(known) / len(known) if known else math.nan

    def share(self):
        shares = [sum(each) / len(each) for each in self.agree.values()]
        return sum(shares) / len(shares) if shares else math.nan


def near_a_border(labels, y, x, *, bounds, circular):
    """Whether a pixel less than 4 away has a neighbour of another label within the bounds."""
    top, left, bottom, right = bounds
    height, width = bottom - top, right - left

    def label(v, u):
        if circular:
            return labels[v % height, u % width]
        return labels[v, u] if top <= v < bottom and left <= u < right else None

    for v, u in itertools.product(range(y - 3, y + 4), range(x - 3, x + 4)):
        if math.hypot(v - y, u - x) < 4 and label(v, u) is not None:
            around = {label(v - 1, u), label(v + 1, u), label(v, u - 1), label(v, u + 1)}
            if around - {None, label(v, u)}:
                return True
    return False


def zone(y, x, height, width):
    """By the side of the smallest of the five frames around the centre that holds the point."""
    out = max(abs((y + 0.5) / height - 0.5), abs((x + 0.5) / width - 0.5))
    return next(i for i in reversed(range(ZONES)) if out <= 0.5 - i / (2 * ZONES))


def slow(records, plan):
    circular, canvas = plan.mode == "roll", "canvas" in plan.mode
    shifts = [(0, 0), *plan.shifts]
    said, right = [Tally() for _ in shifts], [Tally() for _ in shifts]
    inner, outer = [Tally() for _ in shifts], [Tally() for _ in shifts]
    zones, placed, unmoved = ([Tally() for _ in range(ZONES)] for _ in range(3))
    for n, record in enumerate(records):
        (height, width), truth = record.scene.view, record.truth
        top, left, bottom, right_ = record.scene.content
        bounds = max(top, 0), max(left, 0), min(bottom, height), min(right_, width)
        core = record.scene.core
        for y, x in itertools.product(range(bounds[0], bounds[2]), range(bounds[1], bounds[3])):
            if truth[y, x] == IGNORED:
                continue
            at, label = (y, x), record.views[0][y, x]
            in_zone = zone(
                y - bounds[0], x - bounds[1], bounds[2] - bounds[0], bounds[3] - bounds[1]
            )
            zones[in_zone].add(n, at, truth[at], label)
            if not (core[0] <= y < core[2] and core[1] <= x < core[3]):
                continue
            band = near_a_border(record.views[0], y, x, bounds=bounds, circular=circular)
            for s, (dy, dx) in enumerate(shifts):
                there = record.views[s][(y + dy) % height, (x + dx) % width]
                said[s].add(n, at, label, there)
                (inner if band else outer)[s].add(n, at, label, there)
                right[s].add(n, at, truth[at], there)
                if canvas and s:
                    in_zone = zone(y + dy, x + dx, height, width)
                    placed[in_zone].add(n, (s, at), truth[at], there)
                    unmoved[in_zone].add(n, (s, at), truth[at], label)
    found = {
        "mASSC": [tally.share() for tally in said[1:]],
        "mASSC-in": [tally.share() for tally in outer[1:]],
        "mASSC-bd": [tally.share() for tally in inner[1:]],
        "self-mIoU": [tally.miou() for tally in said[1:]],
        "mIoU": [tally.miou() for tally in right],
        "IoU": list(right[0].ious()),
        "zone mIoU": [tally.miou() for tally in zones],
    }
    mean = sum(found["zone mIoU"]) / ZONES
    found["zone mIoU variance"] = [sum((100 * (m - mean)) ** 2 for m in found["zone mIoU"]) / ZONES]
    if canvas:
        found["placed zone mIoU"] = [tally.miou() for tally in placed]
        found["unmoved zone mIoU"] = [tally.miou() for tally in unmoved]
        pairs = zip(placed, unmoved, strict=True)
        found["zone effect"] = [there.miou() - here.miou() for there, here in pairs]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_number_is_that_of_a_loop_over_pixels(mode, generator):
    plan = plan_of(mode, SHIFTS, edge=1)

    def model(view):
        noise = generator.integers(0, CLASSES, view.shape)
        return np.where(generator.random(view.shape) < 0.05, noise, view)

    records = []
    for seed, (height, width) in enumerate([(41, 52), (50, 40)]):
        labels = pieces(seed, height, width, side=20)
        truth = labels.copy()
        truth[generator.random(truth.shape) < 0.1] = IGNORED
        records.append(record_of(plan, labels, model, truth=truth))
    found, expected = values(records, plan), slow(records, plan)
    assert set(found) == set(expected)
    for metric, numbers in expected.items():
        np.testing.assert_allclose(found[metric], numbers, rtol=1e-12, err_msg=metric)
    assert 0.8 < found["mASSC"].min() < found["mASSC"].max() < 1
