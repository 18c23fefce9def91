"""Records of detectors that are good at some things, without a model."""

from contextlib import redirect_stdout
from io import StringIO

import numpy as np
from detection_scenes import detections, with_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.record import Objects, Record

SIZE = (192, 256)


def plan_of(*shifts, mode="canvas", period=8, edge=0):
    """One set of all shifts."""
    return Plan(mode, (ShiftSet("some", tuple(shifts)),), period, divisor=8, edge=edge)


def objects(generator, scene, count, classes=3, crowds=False):
    """Boxes on whole pixels in the content, of all of COCO's sizes."""
    top, left, bottom, right = scene.content
    size = generator.choice([10, 40, 110], (count, 2)) + generator.integers(0, 8, (count, 2))
    corner = generator.integers([left, top], [right, bottom] - size + 1)
    boxes = np.concatenate([corner, corner + size], axis=1)
    found = detections(boxes, np.ones(count), generator.integers(0, classes, count))
    crowd = (generator.random(count) < 0.15) & crowds
    return Objects(with_masks(found, (0, 0, *scene.view)), crowd, size.prod(axis=1).astype(float))


def truthful(truth, shift, scene, generator):
    """Finds what is there, wherever it is."""
    return truth.found.shifted(*shift)


def noisy(truth, shift, scene, generator):
    """Finds most of what is there, more or less, and some things more, all in the content."""
    a = truth.found
    kept = generator.random(len(a)) < 0.85
    boxes = a.boxes[kept] + generator.integers(-4, 5, (kept.sum(), 4))
    labels = np.where(generator.random(kept.sum()) < 0.1, 0, a.labels[kept])
    more = generator.integers(0, 3)
    top, left, bottom, right = scene.content
    corner = generator.integers([left, top], [right - 30, bottom - 30], (more, 2))
    boxes = np.concatenate([boxes, np.concatenate([corner, corner + 30], axis=1)])
    boxes = boxes.clip([left, top] * 2, [right, bottom] * 2)
    labels = np.concatenate([labels, generator.integers(0, 3, more)])
    found = detections(boxes, generator.random(len(boxes)), labels).shifted(*shift)
    return with_masks(found, (0, 0, *scene.view))


def records_of(plan, detector, *, images=6, seed=0, scale=(1.0, 1.0), count=8, **options):
    """One record an image; `detector` is given truth, shift, scene and a generator."""
    generator = np.random.default_rng(seed)
    scene = plan.scene(*SIZE)
    records = []
    for image in range(images):
        truth = objects(generator, scene, count, **options)
        views = [detector(truth, shift, scene, generator) for shift in [(0, 0), *plan.shifts]]
        records.append(Record(str(image), scene, scale, views, truth))
    return records


def own_stats(records, view, back, kind):
    """The six figures as COCO's code prints them, in pixels of the original image."""
    scale_y, scale_x = records[0].scale
    truth, found = [], []
    for image, record in enumerate(records):
        a, b = record.truth.found, record.views[view].shifted(*back)
        for rows, side in ((truth, a), (found, b)):
            for row, box in enumerate(side.boxes / [scale_x, scale_y, scale_x, scale_y]):
                one = {
                    "image_id": image,
                    "category_id": int(side.labels[row]),
                    "score": float(side.scores[row]),
                }
                if kind == "mask":
                    one["segmentation"] = side.masks[row]
                if kind == "box" or side is a:
                    one["bbox"] = [*box[:2], *(box[2:] - box[:2])]
                if side is a:
                    crowd = int(record.truth.crowd[row])
                    area = float(record.truth.area[row])
                    one |= {"id": len(truth) + 1, "iscrowd": crowd, "area": area}
                rows.append(one)
    coco = COCO()
    height, width = records[0].scene.view
    coco.dataset = {
        "info": {},
        "images": [{"id": n, "height": height, "width": width} for n in range(len(records))],
        "categories": [{"id": n} for n in range(3)],
        "annotations": truth,
    }
    with redirect_stdout(StringIO()):
        coco.createIndex()
        result = COCOeval(coco, coco.loadRes(found), {"box": "bbox", "mask": "segm"}[kind])
        result.evaluate()
        result.accumulate()
        result.summarize()
    return result.stats[:6]
