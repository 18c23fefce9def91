"""Total variation of what is believed of two views, against loops, and known answers."""

import math

import numpy as np
import pytest
import torch
from segmentation_records import plan_of

from mmplugins.evaluation.predictions import total_variation
from mmplugins.evaluation.predictions.total_variation import TotalVariation


def slow(reference, shifted, shift, core, counted, *, circular):
    (top, left, bottom, right), (_, height, width) = core, reference.shape
    total = count = 0
    for y in range(top, bottom):
        for x in range(left, right):
            if not counted[y - top, x - left]:
                continue
            v, u = y + shift[0], x + shift[1]
            v, u = (v % height, u % width) if circular else (v, u)
            beliefs = []
            for logits in (reference[:, y, x].tolist(), shifted[:, v, u].tolist()):
                powers = [math.exp(logit - max(logits)) for logit in logits]
                beliefs.append([power / sum(powers) for power in powers])
            total += sum(abs(p - q) for p, q in zip(*beliefs, strict=True)) / 2
            count += 1
    return total, count


@pytest.mark.parametrize("part", [1, 400, 2**20])
@pytest.mark.parametrize("circular", [False, True])
def test_sums_are_those_of_a_loop_whatever_the_parts(circular, part, monkeypatch):
    monkeypatch.setattr(total_variation, "_CACHED", part)
    reference, shifted = torch.randn(2, 6, 18, 21, dtype=torch.float64) * 30
    core = (0, 0, 18, 21) if circular else (3, 4, 14, 19)
    counted = torch.rand(core[2] - core[0], core[3] - core[1]) < 0.8
    ours = TotalVariation(reference, core, counted, circular=circular)
    for shift in ((2, -4), (-3, 2), (0.0, 1.0)):
        whole = tuple(int(step) for step in shift)
        expected = slow(reference, shifted, whole, core, counted, circular=circular)
        assert ours.sums(shifted, shift) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", ["roll", "window", "canvas"])
def test_moved_logits_are_at_no_distance_and_a_wrong_sign_shows(mode):
    plan = plan_of(mode, [(8, -4), (1, 3), (-3, 3)])
    logits = torch.randn(7, 64, 72)
    views = plan.views(logits, torch.zeros(7))
    scene = plan.scene(64, 72)
    counted = torch.ones(scene.core[2] - scene.core[0], scene.core[3] - scene.core[1]) > 0
    ours = TotalVariation(views[0], scene.core, counted, circular=mode == "roll")
    for view, shift in zip(views[1:], plan.shifts, strict=True):
        total, count = ours.sums(view, shift)
        assert count == counted.numel()
        assert total / count < 1e-7
    total, count = ours.sums(views[2], (-1, 3))
    assert total / count > 0.1


def test_opposite_beliefs_are_at_distance_one():
    one, other = torch.zeros(2, 3, 4, 5)
    one[0], other[2] = 1000, 1000
    counted = torch.ones(4, 5) > 0
    ours = TotalVariation(one, (0, 0, 4, 5), counted)
    assert ours.sums(other, (0, 0)) == (20, 20)
    assert ours.sums((one + other), (0, 0)) == (10, 20)
    assert ours.sums(one, (0, 0)) == (0, 20)
    assert ours.sums(one, (0.5, 0)) == (0, 0)


def test_half_precision_is_summed_in_single():
    reference, shifted = torch.randn(2, 150, 16, 16).bfloat16()
    counted = torch.ones(16, 16) > 0
    half, double = (
        TotalVariation(reference.to(dtype), (0, 0, 16, 16), counted).sums(shifted.to(dtype), (0, 0))
        for dtype in (torch.bfloat16, torch.float64)
    )
    np.testing.assert_allclose(half, double, rtol=1e-6)


def test_misuse_is_refused():
    logits, counted = torch.zeros(3, 8, 9), torch.ones(4, 4) > 0
    with pytest.raises(ValueError, match=r"core \(2, 2, 6, 7\) is not of 4 x 4 pixels"):
        TotalVariation(logits, (2, 2, 6, 7), counted)
    with pytest.raises(ValueError, match="one class"):
        TotalVariation(logits[:1], (2, 2, 6, 6), counted)
    ours = TotalVariation(logits, (2, 2, 6, 6), counted)
    with pytest.raises(ValueError, match=r"core \(2, 2, 6, 6\) under shift \(3, 0\) leaves 8 x 9"):
        ours.sums(logits, (3, 0))
