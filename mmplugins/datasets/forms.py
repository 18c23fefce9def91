"""Scenes on disk: COCO's instance annotations and ADE20K's label maps, of the same pictures.

COCO: https://cocodataset.org/#format-data.  ADE20K: https://github.com/CSAILVision/sceneparsing
"""

from pathlib import Path

import numpy as np
from PIL import Image

from mmplugins.datasets.families import CLASSES, FAMILY_OF_CLASS
from mmplugins.datasets.scenes import Instance, Scene

# Image ids of the validation split start where no training split ends.
FIRST_ID = {"train": 1, "val": 1_000_001}
ADE_FOLDER = {"train": "training", "val": "validation"}
DATE = "2026-01-01"  # fixed, so that equal options give equal files


def make_folders(root: Path) -> None:
    """The empty folders of both forms."""
    for split in FIRST_ID:
        (root / "coco" / f"{split}2017").mkdir(parents=True, exist_ok=True)
        for kind in ("images", "annotations"):
            (root / "ade" / kind / ADE_FOLDER[split]).mkdir(parents=True, exist_ok=True)
    (root / "coco" / "annotations").mkdir(exist_ok=True)


def ade_name(split: str, index: int) -> str:
    """Stem of a picture and of its label map."""
    return f"ADE_{split}_{index + 1:08d}"


def write_sample(root: Path, split: str, index: int, scene: Scene) -> dict:
    """Write one scene's picture and label map; returns its COCO `image` and `annotations`."""
    image_id = FIRST_ID[split] + index
    file_name = f"{image_id:012d}.jpg"
    picture = Image.fromarray(scene.image)
    for path in (
        root / "coco" / f"{split}2017" / file_name,
        root / "ade" / "images" / ADE_FOLDER[split] / f"{ade_name(split, index)}.jpg",
    ):
        picture.save(path, quality=85)
    Image.fromarray(scene.labels).save(
        root / "ade" / "annotations" / ADE_FOLDER[split] / f"{ade_name(split, index)}.png"
    )
    height, width = scene.labels.shape
    return {
        "image": {
            "id": image_id,
            "license": 1,
            "file_name": file_name,
            "height": height,
            "width": width,
            "date_captured": f"{DATE} 00:00:00",
        },
        "annotations": [
            {
                "id": 100 * image_id + number,
                "image_id": image_id,
                "category_id": CLASSES.index(instance.category) + 1,
                **annotation(instance),
            }
            for number, instance in enumerate(scene.instances)
        ],
    }


def annotation(instance: Instance) -> dict:
    """Segmentation, area and box [left, top, width, height] of what is visible."""
    y, x = np.nonzero(instance.mask)
    if instance.crowd:
        segmentation = uncompressed_rle(instance.mask)
    else:
        segmentation = [polygon[:, ::-1].ravel().tolist() for polygon in instance.polygons]
    return {
        "segmentation": segmentation,
        "area": float(len(y)),
        "bbox": [float(v) for v in (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)],
        "iscrowd": int(instance.crowd),
    }


def uncompressed_rle(mask: np.ndarray) -> dict:
    """COCO's form of a crowd: run lengths down the columns, the first of zeros."""
    flat = mask.ravel(order="F")
    ends = [*(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    counts = np.diff([0, *ends]).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def coco_dataset(samples: list[dict], description: str) -> dict:
    """The annotation file of one split from what `write_sample` returned."""
    return {
        "info": {
            "description": description,
            "url": "",
            "version": "1.0",
            "year": int(DATE[:4]),
            "contributor": "mmplugins",
            "date_created": DATE.replace("-", "/"),
        },
        "licenses": [
            {
                "id": 1,
                "name": "Apache License 2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            }
        ],
        "images": [sample["image"] for sample in samples],
        "annotations": [entry for sample in samples for entry in sample["annotations"]],
        "categories": [
            {"id": index, "name": name, "supercategory": FAMILY_OF_CLASS[name]}
            for index, name in enumerate(CLASSES, start=1)
        ],
    }
