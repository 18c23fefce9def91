"""Pictures of a config's test dataset as the network is given them, with the truth about them.

Pictures are taken after the test pipeline's resizing and before any padding; the pipeline's own
`Pad` steps are left out. The truth is drawn once, in the frame of the reference view.
"""

import hashlib
from collections.abc import Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import BaseDataElement
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from torch import Tensor
from torch.nn import functional as F

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.record import Objects
from mmplugins.evaluation.views import Picture

IGNORE = 255


class Pictures:
    """The test dataset of a config of mmdet or mmseg, image by image.

    Args:
        cfg: whose `test_dataloader` is read.
        originals: give pictures before the pipeline's resizing, too.

    Raises:
        InputError: the config has none or is a classifier's, detections are asked of annotations in
            another form than COCO's, or a segmenter has more classes than a byte can tell.
    """

    def __init__(self, cfg: Config, *, originals: bool = False):
        if not cfg.get("test_dataloader"):
            raise InputError("the config has no test_dataloader to take images from")
        if cfg.default_scope not in ("mmdet", "mmseg"):
            raise InputError(
                "predictions are those of detectors (mmdet) and segmenters (mmseg), and the config "
                f"is of {cfg.default_scope}: name one that has this backbone"
            )
        datasets = import_module(f"{cfg.default_scope}.datasets")
        init_default_scope(cfg.default_scope)
        options = deepcopy(cfg.test_dataloader.dataset)
        if "pipeline" not in options:
            kind = _name(options.type)
            raise InputError(f"test_dataloader.dataset: name one with a pipeline, not {kind}")
        options.pipeline = [step for step in options.pipeline if _name(step["type"]) != "Pad"]
        self.detection = cfg.default_scope == "mmdet"
        structures = import_module(f"{cfg.default_scope}.structures")
        self._sample = structures.DetDataSample if self.detection else structures.SegDataSample
        with redirect_stdout(StringIO()):  # pycocotools tells how long it takes
            self._dataset = DATASETS.build(options)
        steps = options.pipeline
        self._resizing = [step for step in steps if "Resize" in _name(step["type"])]
        unresized = [step for step in steps if step not in self._resizing]
        self._unresized = Compose(unresized) if originals else None
        own = getattr(type(self._dataset), "COCOAPI", None)  # LVIS and panoptics have others
        if self.detection and own is not datasets.CocoDataset.COCOAPI:
            raise InputError(f"{_name(options.type)}: truth is read in COCO's form, by CocoDataset")
        if not self.detection and len(self.classes) > IGNORE:
            raise InputError(
                f"{_name(options.type)}: {len(self.classes)} classes, but label maps are kept in "
                f"bytes, of which {IGNORE} is no class"
            )

    def __len__(self) -> int:
        return len(self._dataset)

    @cached_property
    def ids(self) -> list[str]:
        """Of all images: COCO's, or the path of the file below the folder of images."""
        infos = [self._dataset.get_data_info(index) for index in range(len(self))]
        if self.detection:
            return [str(info["img_id"]) for info in infos]
        folder = Path(self._dataset.data_prefix["img_path"])
        return [Path(info["img_path"]).relative_to(folder).as_posix() for info in infos]

    @cached_property
    def fingerprint(self) -> str:
        """Of a detector's annotations; of a segmenter's classes and images."""
        if self.detection:
            return hashlib.sha256(Path(self._dataset.ann_file).read_bytes()).hexdigest()
        return hashlib.sha256(repr([*self.classes, *self.ids]).encode()).hexdigest()

    @cached_property
    def strata(self) -> list[int]:
        """By how many objects an image has, a quarter each; all alike of a segmenter."""
        if not self.detection:
            return [0] * len(self)
        infos = (self._dataset.get_data_info(index) for index in range(len(self)))
        objects = [len(info["instances"]) for info in infos]
        return np.searchsorted(np.quantile(objects, (0.25, 0.5, 0.75)), objects).tolist()

    @property
    def short_side(self) -> float | None:
        """Pixels that the test pipeline resizes the shorter side to; None where it names none."""
        scale = next((step["scale"] for step in self._resizing if step.get("scale")), None)
        return min(scale) if isinstance(scale, tuple | list) else scale

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, by label."""
        return self._dataset.metainfo["classes"]

    def __getitem__(self, index: int) -> Picture:
        packed = self._dataset[index]
        sample = packed["data_samples"]
        x_scale, y_scale = sample.metainfo.get("scale_factor", (1.0, 1.0))
        picture = Picture(self.ids[index], packed["inputs"], (float(y_scale), float(x_scale)))
        if self._unresized:
            unresized = self._unresized(self._dataset.get_data_info(index))
            resampling = self._resampling
            picture = replace(picture, original=unresized["inputs"], resampling=resampling)
        if self.detection:
            number = self._dataset.get_data_info(index)["img_id"]
            return replace(picture, annotations=self._annotations.imgToAnns[number])
        truth = sample.get("gt_sem_seg")
        return picture if truth is None else replace(picture, labels=truth.data[0])

    def sample(self, info: dict) -> BaseDataElement:
        """What the host's models are given beside a picture."""
        return self._sample(metainfo=info)

    def truth(self, picture: Picture, scene: Scene) -> Objects | np.ndarray | None:
        """The truth in the frame of the reference view."""
        if self.detection:
            known = self._dataset.cat2label
            wanted = [a for a in picture.annotations if a["category_id"] in known]
            return _objects(wanted, known, picture, scene)
        if picture.labels is None:
            return None
        labels = picture.labels.long()
        # As in mmseg, what is no class is not asked for.
        return _label_map(labels.masked_fill(labels >= len(self.classes), IGNORE), scene)

    @property
    def _resampling(self) -> dict[str, str]:
        """Of the test pipeline's resizing; the same by mmcv without."""
        named = {n: v for step in self._resizing for n, v in step.items() if isinstance(v, str)}
        return {name: named[name] for name in ("interpolation", "backend") if name in named}

    @cached_property
    def _annotations(self) -> COCO:
        with redirect_stdout(StringIO()):
            return COCO(self._dataset.ann_file)


def _name(kind: str | type) -> str:
    """Of a class in a config, with or without a scope, or the class itself."""
    return kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__


def _label_map(labels: Tensor, scene: Scene) -> np.ndarray:
    """Drawn at the size of the content, by the nearest pixel; 255 beyond the content."""
    content = _resized(labels, scene)
    return _in_view(content, scene, outside=IGNORE).numpy().astype(np.uint8)


def _objects(
    annotations: Sequence[dict], labels: dict[int, int], picture: Picture, scene: Scene
) -> Objects:
    """Boxes and masks scaled, then moved to where the content lies."""
    (y, x), (top, left) = picture.scale, scene.content[:2]
    boxes = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes = boxes * [x, y, x, y] + [left, top, left, top]
    drawn = bool(annotations) and all(a.get("segmentation") for a in annotations)
    return Objects(
        found=Detections(
            boxes,
            np.ones(len(boxes)),
            np.array([labels[a["category_id"]] for a in annotations], int),
            [_mask(a["segmentation"], picture, scene) for a in annotations] if drawn else None,
        ),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], bool),
        area=np.array([a["area"] for a in annotations], float),
    )


def _mask(segmentation: list | dict, picture: Picture, scene: Scene) -> dict:
    """Run lengths in the reference view, of polygons or run lengths of the original image.

    Both are drawn in the frame of the content, so that they are the same in every mode.
    """
    if isinstance(segmentation, list):
        (y, x), (top, left, bottom, right) = picture.scale, scene.content
        polygons = [
            (np.reshape(points, (-1, 2)) * [x, y]).ravel().tolist() for points in segmentation
        ]
        drawn = coco_masks.frPyObjects(polygons, bottom - top, right - left)
        segmentation = coco_masks.merge(drawn)
    if isinstance(segmentation["counts"], list):
        segmentation = coco_masks.frPyObjects(segmentation, *segmentation["size"])
    content = _resized(torch.from_numpy(coco_masks.decode(segmentation)), scene)
    view = _in_view(content, scene, outside=0).numpy().astype(np.uint8)
    return coco_masks.encode(np.asfortranarray(view))


def _resized(labels: Tensor, scene: Scene) -> Tensor:
    top, left, bottom, right = scene.content
    size = bottom - top, right - left
    if tuple(labels.shape) == size:
        return labels
    return F.interpolate(labels[None, None].float(), size, mode="nearest-exact")[0, 0].long()


def _in_view(content: Tensor, scene: Scene, *, outside: int) -> Tensor:
    """Where the content covers the view; negative padding cuts off what lies beyond."""
    top, left, bottom, right = scene.content
    height, width = scene.view
    return F.pad(content, (left, width - right, top, height - bottom), value=outside)
