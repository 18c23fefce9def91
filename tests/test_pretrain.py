"""What was pretrained as a classifier becomes the backbone of a detector."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from tool_runs import needs_mmpretrain

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
