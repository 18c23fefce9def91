"""Run lengths made and moved without drawing, against COCO's own code on bitmaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_masks

from mmplugins.evaluation.predictions.run_lengths import encoded, moved


def of_coco(bitmap):
    return coco_masks.encode(np.asfortranarray(bitmap.astype(np.uint8)))


bitmaps = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda s: arrays(bool, s))


@given(bitmaps)
def test_runs_are_those_of_coco(bitmap):
    assert encoded(bitmap[None]) == [of_coco(bitmap)]


@pytest.mark.parametrize("width", [8, 24, 30])  # eight pixels at a time, and one
def test_many_masks_at_once(width, generator):
    bitmaps = generator.random((6, 20, width)) < 0.2
    bitmaps[1] = False
    bitmaps[2] = True
    bitmaps[3, :, 5:] = False
    bitmaps[4, 3:9] = False
    assert encoded(bitmaps) == [of_coco(each) for each in bitmaps]
    assert encoded(bitmaps[:0]) == []


@given(bitmaps, st.integers(-9, 9), st.integers(-9, 9))
def test_moved_masks_are_those_of_moved_bitmaps(bitmap, dy, dx):
    height, width = bitmap.shape
    padded = np.pad(bitmap, ((9, 9), (9, 9)))
    expected = padded[9 - dy : 9 - dy + height, 9 - dx : 9 - dx + width]
    mask = of_coco(bitmap)
    assert moved([mask], dy, dx) == [of_coco(expected)]
    assert moved([{**mask, "counts": mask["counts"].decode()}], dy, dx) == [of_coco(expected)]


def test_long_runs(generator):
    """Numbers of several characters, of either sign, at the start and at the end."""
    bitmap = np.zeros((700, 900), bool)
    bitmap[200:500, 300:600] = generator.random((300, 300)) < 0.5
    for dy, dx in [(1, 0), (-200, -300), (199, 299), (-3, 250)]:
        expected = np.roll(bitmap, (dy, dx), (0, 1))
        assert moved([of_coco(bitmap)], dy, dx) == [of_coco(expected)]
