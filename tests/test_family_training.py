"""One training step of each pipeline's own config, under whichever OpenMMLab family is there."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import InstanceData, PixelData
from tool_runs import needs_mmpretrain

pytestmark = pytest.mark.family
CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def _scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back the scope that a config sets for the whole process."""
    monkeypatch.setattr(DefaultScope, "_instance_dict", DefaultScope._instance_dict.copy())


def build(pattern: str) -> BaseModel:
    """Build the first leaf that matches, without downloading weights."""
    config = Config.fromfile(min(CONFIGS.glob(pattern)))
    init_default_scope(config.default_scope)
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    model.init_weights()
    return model.train()


def detection_batch() -> dict:
    """Two images of unequal size, so that the batch is padded; the second without objects."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    batch = {"inputs": [], "data_samples": []}
    for (height, width), objects in (((96, 128), 2), ((80, 112), 0)):
        masks = torch.zeros(objects, height, width, dtype=torch.uint8)
        masks[:, 10:60, 20:90] = 1
        boxes = torch.tensor([[20.0, 10, 90, 60]]).repeat(objects, 1)
        size = dict(img_shape=(height, width), ori_shape=(height, width))
        sample = DetDataSample(metainfo=dict(**size, scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(
            labels=torch.zeros(objects, dtype=torch.int64),
            bboxes=HorizontalBoxes(boxes),
            masks=BitmapMasks(masks.numpy(), height=height, width=width),
        )
        sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(boxes[:0]))
        batch["inputs"].append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        batch["data_samples"].append(sample)
    return batch


def segmentation_batch() -> dict:
    from mmseg.structures import SegDataSample

    labels = torch.randint(0, 11, (2, 1, 96, 128))
    labels[:, :, :8] = 255  # ignored
    return {
        "inputs": list(torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)),
        "data_samples": [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels],
    }


def classification_batch() -> dict:
    from mmpretrain.structures import DataSample

    return {
        "inputs": list(torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)),
        "data_samples": [DataSample().set_gt_label(label) for label in (0, 3)],
    }


@pytest.mark.parametrize(
    ("pattern", "batch"),
    [
        pytest.param("mask_rcnn/*-t16-sape2_*nuclei*.py", detection_batch, id="mask_rcnn"),
        pytest.param("detr/*-irpe-k_*.py", detection_batch, id="detr"),
        pytest.param("conditional_detr/*-sape2_*.py", detection_batch, id="conditional_detr"),
        pytest.param("upernet/*-t16-sape2_*camvid*.py", segmentation_batch, id="upernet"),
        pytest.param(
            "pretrain/*-mini16-sape2_*.py",
            classification_batch,
            id="pretrain",
            marks=needs_mmpretrain,
        ),
    ],
)
def test_one_step_moves_every_position_parameter(pattern: str, batch: Callable[[], dict]) -> None:
    model = build(pattern)
    before = {name: value.clone() for name, value in model.named_parameters() if ".pos." in name}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logs = model.train_step(batch(), wrapper)
    assert torch.isfinite(logs["loss"])
    assert before
    for name, value in model.named_parameters():
        assert torch.isfinite(value).all(), name
        assert name not in before or not torch.equal(value, before[name]), name
