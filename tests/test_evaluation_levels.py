"""Feature levels of the hosts' own models, and errors that follow from what they are made of."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from tool_runs import DETECTION, SEGMENTATION

from mmplugins.evaluation.features.errors import corresponding, feature_error
from mmplugins.evaluation.features.levels import feature_levels
from mmplugins.evaluation.shifts import Frame

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")


@pytest.fixture(params=["mmdet", "mmseg"])
def model(request, monkeypatch, tmp_path):
    monkeypatch.setattr(DefaultScope, "_instance_dict", DefaultScope._instance_dict.copy())
    file = tmp_path / "config.py"
    file.write_text({"mmdet": DETECTION, "mmseg": SEGMENTATION}[request.param])

    def build(encodings):
        cfg = Config.fromfile(file)
        cfg.model.backbone.position_encodings = encodings
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).eval()
        for parameter in model.backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return model

    return build


def errors(model, shift=(16, 32), border=0):
    x, frame = torch.randn(2, 3, 96, 128), Frame("roll")
    levels = [feature_levels(model, view) for view in (x, frame.view(x, shift))]
    return {
        name: feature_error(
            [
                corresponding(
                    *pair, shift, stride=128 // level.shape[-1], frame=frame, border=border
                )
                for pair in zip(level, levels[1][name], strict=True)
            ]
        ).fee
        for name, level in levels[0].items()
        if all(part % (128 // level.shape[-1]) == 0 for part in shift)
    }


def test_every_level_is_there_in_its_size(model):
    built = model([])
    x = torch.randn(1, 3, 96, 128)
    levels = feature_levels(built, x)
    names = list(levels)
    assert names[:3] == ["blocks.0", "blocks.1", "backbone.0"]
    assert levels["blocks.0"].shape[-2:] == (6, 8)
    features = built.extract_feat(x)
    for number, expected in enumerate(features):
        assert torch.equal(levels[f"neck.{number}"], expected)
    heads = {name.partition(".")[0] for name in names} - {"blocks", "backbone", "neck"}
    assert heads == {"rpn_head" if hasattr(built, "rpn_head") else "decode_head"}
    hooks = [hook for module in built.modules() for hook in module._forward_hooks.values()]
    assert not hooks


def test_without_encoding_the_backbone_is_exact_and_the_neck_is_not(model):
    """Whole patches around the border: only the zeros that the neck's convolutions add tell."""
    measured = errors(model([]))
    assert max(measured[name] for name in ("blocks.0", "blocks.1", "backbone.0")) < 1e-5
    assert max(error for name, error in measured.items() if name.startswith("neck")) > 1e-3


def test_a_learned_table_shows_from_the_first_block_on(model):
    measured = errors(model([dict(type="LearnedAPE")]))
    assert min(measured[name] for name in ("blocks.0", "blocks.1", "backbone.0")) > 1e-2


def test_training_mode_is_refused(model):
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        feature_levels(model([]).train(), torch.randn(1, 3, 64, 64))
