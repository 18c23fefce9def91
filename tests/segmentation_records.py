"""Records of segmenters whose answers are known: pictures are label maps, models say something."""

import numpy as np
import torch

from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.tasks.segmentation import image_sums, segmentation_measures

CLASSES, IGNORED, OUTSIDE = 5, 255, 4
NAMES = ["sky", "road", "tree", "person", "outside"]
MODES = ("roll", "window", "canvas", "masked_canvas")
SHIFTS = ((8, 0), (0, -8), (-4, 4), (3, 5), (1, -2))


def plan_of(mode, shifts=SHIFTS, *, edge=0):
    return Plan(mode, (ShiftSet("some", tuple(shifts)),), period=4, divisor=8, edge=edge)


def pieces(seed=0, height=72, width=80, side=12):
    """A map of constant squares, neighbours of which may be of one class; OUTSIDE is none's."""
    cells = np.random.default_rng(seed).integers(
        0, OUTSIDE, (height // side + 1, width // side + 1)
    )
    return cells.repeat(side, 0).repeat(side, 1)[:height, :width]


def views_of(plan, labels, outside):
    pictures = plan.views(torch.from_numpy(labels)[None].double(), torch.tensor([float(outside)]))
    return np.stack([picture[0].numpy().astype(np.int64) for picture in pictures])


def record_of(plan, labels, model=lambda view: view, *, truth=None, sums=None):
    """What a model, a function of views of label maps, leaves of a picture that is one."""
    return Record(
        image="some",
        scene=plan.scene(*labels.shape),
        scale=(1.0, 1.0),
        views=np.stack([model(view) for view in views_of(plan, labels, OUTSIDE)]),
        truth=None if truth is None else views_of(plan, truth, IGNORED)[0],
        sums=sums or {},
    )


def values(records, plan, weights=None):
    """The values of every measure, by its name."""
    sums = [image_sums(record, plan, CLASSES) for record in records]
    measures = segmentation_measures(sums, plan, NAMES)
    assert len({measure.key for measure in measures}) == len(measures)
    weights = np.ones((1, len(records))) if weights is None else np.array([weights], float)
    found = {measure.metric: measure.statistic(weights)[0] for measure in measures}
    assert {m.metric: len(m.points) for m in measures} == {m: len(v) for m, v in found.items()}
    return found
