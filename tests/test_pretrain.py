"""Pretraining as DeiT does it, and what comes out becomes the backbone of a detector."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope, init_default_scope
from PIL import Image
from tool_runs import needs_mmpretrain

from mmplugins.engine.seeding import Draw

pytestmark = [pytest.mark.family, needs_mmpretrain]
CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def _scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back the scope that a config sets for the whole process."""
    monkeypatch.setattr(DefaultScope, "_instance_dict", DefaultScope._instance_dict.copy())


def leaf(pattern: str) -> Config:
    (file,) = CONFIGS.glob(pattern)
    return Config.fromfile(file)


def classifier(encoding: str) -> torch.nn.Module:
    cfg = leaf(f"pretrain/vit-mini16-{encoding}_*.py")
    init_default_scope(cfg.default_scope)
    model = MODELS.build(deepcopy(cfg.model))
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize("encoding", ["ape", "irpe-k", "sape2"])
def test_backbone_moves_whole_to_a_detector_at_another_grid(encoding: str, tmp_path: Path) -> None:
    trained = classifier(encoding)
    for parameter in trained.parameters():  # also those that start from zero
        torch.nn.init.normal_(parameter, std=0.02)
    if encoding == "ape":
        torch.nn.init.constant_(trained.backbone.get_parameter("pos.-1.learnedape.table"), 0.5)
    file = tmp_path / "epoch_10.pth"
    torch.save({"state_dict": trained.state_dict()}, file)

    cfg = leaf(f"mask_rcnn/mask-rcnn_vit-mini16-{encoding}_*_synthetic-160x224.py")
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(file), prefix="backbone.")
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    ours, theirs = backbone.state_dict(), trained.backbone.state_dict()
    assert ours.keys() == theirs.keys()
    resized = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert resized == ({"pos.-1.learnedape.table"} if encoding == "ape" else set())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() - resized)
    for name in resized:  # bicubic weights sum to one
        torch.testing.assert_close(ours[name], torch.full_like(ours[name], 0.5))


def test_mmpretrains_registry_builds_the_backbone_and_classes_come_of_its_mean() -> None:
    from mmpretrain.registry import MODELS as THEIRS

    cfg = leaf("pretrain/vit-mini16-peg_*.py")
    torch.manual_seed(0)
    backbone = THEIRS.build(deepcopy(cfg.model.backbone)).eval()
    model = classifier("peg")
    model.backbone.load_state_dict(backbone.state_dict())
    images = torch.randn(2, 3, 80, 64)  # neither the size it is made for
    with torch.no_grad():
        (last,) = backbone(images)
        assert last.shape == (2, 128, 5, 4)
        expected = model.head.fc(last.mean(dim=(2, 3)))
        torch.testing.assert_close(model(images, mode="tensor"), expected)
        scores = torch.stack([s.pred_score for s in model(images, mode="predict")])
    torch.testing.assert_close(scores, expected.softmax(dim=1))


def test_imagenet_pipelines_give_squares_that_depend_on_the_draw_alone(tmp_path: Path) -> None:
    cfg = leaf("pretrain/vit-s16-nope_*.py")
    init_default_scope(cfg.default_scope)
    file = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 300, 3), np.uint8)).save(file)

    def draw(phase: str, number: int) -> torch.Tensor:
        pipeline = Compose(cfg[f"{phase}_dataloader"].dataset.pipeline)
        sample = dict(img_path=str(file), gt_label=3, sample_idx=Draw(0, (0, number)))
        return pipeline(sample)["inputs"]

    for phase in ("train", "val"):
        first = draw(phase, 0)
        assert (first.shape, first.dtype) == ((3, 224, 224), torch.uint8)
        assert torch.equal(draw(phase, 0), first)
        assert torch.equal(draw(phase, 1), first) == (phase == "val")


def test_schedule_is_deits() -> None:
    cfg = leaf("pretrain/vit-s16-nope_*.py")
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedulers = []
    for entry in deepcopy(cfg.param_scheduler):
        assert entry.pop("convert_to_iter_based")
        kind = PARAM_SCHEDULERS.get(entry.pop("type"))
        schedulers.append(kind.build_iter_from_epoch(optimizer, **entry, epoch_length=2))
    rates = []
    for _ in range(2 * cfg.train_cfg.max_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(1e-6)
    assert rates.index(max(rates)) in (9, 10)  # the end of epoch 5
    assert max(rates) == pytest.approx(1e-3)
    assert rates[305] == pytest.approx((1e-3 + 1e-5) / 2, rel=0.01)  # half of the cosine
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)
