"""Random objects and detections, and what COCO's own code makes of them."""

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation.statistics.weighted import Matches

CLASSES = (1, 2, 3, 4, 5)  # no image has an object of class 4, none a detection of 5 either


def random_scene(generator: np.random.Generator, ties: bool) -> tuple[list[dict], list[dict]]:
    """Objects and detections of one image: hits, misses, doubles, crowds, small and large ones."""
    objects, detections = [], []
    for _ in range(generator.integers(0, 7)):
        box = [
            *generator.uniform(0, 300, 2),
            *generator.choice([12, 40, 150]) * generator.uniform(0.7, 1.4, 2),
        ]
        category = int(generator.choice(CLASSES[:3], p=[0.6, 0.35, 0.05]))
        crowd = int(generator.random() < 0.1)
        objects.append(
            {"bbox": box, "category_id": category, "iscrowd": crowd, "area": box[2] * box[3]}
        )
        for _ in range(generator.integers(0, 3)):
            moved = np.array(box) + np.array([*box[2:], *box[2:]]) * generator.normal(0, 0.08, 4)
            detections.append({"bbox": moved.tolist(), "category_id": category})
    for _ in range(generator.integers(0, 4)):
        box = [*generator.uniform(0, 300, 2), *generator.uniform(5, 200, 2)]
        detections.append({"bbox": box, "category_id": int(generator.choice(CLASSES[:4]))})
    # Scores that tie do so between images; copies of two that tie in one image have no one order.
    levels = np.arange(1, 60) / 60 if ties else generator.random(60)
    scores = generator.choice(levels, len(detections), replace=False)
    for detection, score in zip(detections, scores, strict=True):
        detection["score"] = float(score)
    return objects, detections


def coco_of(scenes: list[tuple[list[dict], list[dict]]]) -> COCOeval:
    """The evaluator of these images, evaluated and accumulated."""
    truth, images = COCO(), range(1, len(scenes) + 1)
    placed = [
        [{**thing, "image_id": image} for image in images for thing in scenes[image - 1][kind]]
        for kind in (0, 1)
    ]
    truth.dataset = {
        "info": {},
        "images": [{"id": image} for image in images],
        "categories": [{"id": category} for category in CLASSES],
        "annotations": [{**thing, "id": index} for index, thing in enumerate(placed[0], 1)],
    }
    truth.createIndex()
    evaluator = COCOeval(truth, truth.loadRes(placed[1]), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def matches_of(evaluator: COCOeval, area: str = "all") -> list[Matches]:
    """The matches of each category, with images in the order of `evaluator.params.imgIds`."""
    parameters = evaluator.params
    shape = (-1, len(parameters.areaRng), len(parameters.imgIds))
    cells = np.array(evaluator.evalImgs, dtype=object).reshape(shape)
    thresholds = len(parameters.iouThrs)
    of_area = cells[:, parameters.areaRngLbl.index(area)]
    return [_matches(of_category.tolist(), thresholds) for of_category in of_area]


def _matches(cells: list[dict | None], thresholds: int) -> Matches:
    known = [(index, cell) for index, cell in enumerate(cells) if cell is not None]
    truths = np.zeros(len(cells))
    for index, cell in known:
        truths[index] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
    nothing = np.zeros((thresholds, 0), bool)
    return Matches(
        np.array([index for index, cell in known for _ in cell["dtIds"]], int),
        np.array([score for _, cell in known for score in cell["dtScores"]], float),
        np.concatenate([nothing, *(cell["dtMatches"] != 0 for _, cell in known)], axis=1),
        np.concatenate([nothing, *(cell["dtIgnore"] != 0 for _, cell in known)], axis=1),
        truths,
    )
