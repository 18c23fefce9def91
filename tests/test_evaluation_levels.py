"""Feature levels of the hosts' own models, and errors that follow from what they are made of."""

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from tool_runs import DETECTION, SEGMENTATION

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.features.errors import corresponding, feature_error
from mmplugins.evaluation.features.levels import (
    equivariance_period,
    feature_levels,
    level_strides,
    token_layers,
    watching,
)
from mmplugins.evaluation.features.lie import lie_sums
from mmplugins.evaluation.shifts import Frame

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from mmdet.structures import DetDataSample
from mmseg.structures import SegDataSample

VIEW = (96, 128)
FACTS = dict(img_shape=VIEW, ori_shape=VIEW, batch_input_shape=VIEW, scale_factor=(1.0, 1.0))


@pytest.fixture
def host(monkeypatch):
    """Build a model of one of the hosts."""
    monkeypatch.setattr(DefaultScope, "_instance_dict", DefaultScope._instance_dict.copy())

    def build(cfg, scope):
        init_default_scope(scope)
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(cfg))
        model.eval()  # which Swin returns nothing of
        return model

    return build


@pytest.fixture(params=["mmdet", "mmseg"])
def model(request, host, tmp_path):
    file = tmp_path / "config.py"
    file.write_text({"mmdet": DETECTION, "mmseg": SEGMENTATION}[request.param])

    def build(encodings, **backbone):
        cfg = Config.fromfile(file)
        cfg.model.backbone.update(position_encodings=encodings, **backbone)
        model = host(cfg.model, cfg.default_scope)
        for parameter in model.backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return model

    return build


def samples(model, count=1):
    kind = SegDataSample if hasattr(model, "decode_head") else DetDataSample
    return [kind(metainfo=dict(FACTS)) for _ in range(count)]


def levels_of(model, x):
    return dict(feature_levels(model, x, samples(model, len(x))))


def errors(model, shift=(16, 32), border=0):
    x, frame = torch.randn(2, 3, *VIEW), Frame("roll")
    levels = [levels_of(model, view) for view in (x, frame.view(x, shift))]
    strides = level_strides(levels[0], VIEW)
    return {
        name: feature_error(
            [
                corresponding(*pair, shift, stride=strides[name], frame=frame, border=border)
                for pair in zip(level, levels[1][name], strict=True)
            ]
        ).fee
        for name, level in levels[0].items()
        if strides[name] and all(part % strides[name] == 0 for part in shift)
    }


def test_every_level_is_there_in_its_size(model):
    built = model([])
    x = torch.randn(1, 3, *VIEW)
    levels = levels_of(built, x)
    assert list(levels)[:3] == ["blocks.0", "blocks.1", "backbone.0"]
    assert levels["blocks.0"].shape == (1, 16, 6, 8)
    features = built.extract_feat(x)
    for number, expected in enumerate(features):
        assert torch.equal(levels[f"neck.{number}"], expected)
    heads = {name: m for name, m in levels.items() if "head" in name}
    if hasattr(built, "decode_head"):
        assert torch.equal(heads.pop("decode_head"), built(x, mode="tensor"))
    else:
        for number, expected in enumerate(built.rpn_head(features)[0]):
            assert torch.equal(heads.pop(f"rpn_head.{number}"), expected)
    assert not heads
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in built.modules())


def test_each_pass_fills_the_levels_anew(model):
    """Those of the pass that predicts, and nothing of the one before."""
    built = model([])
    pictures = 255 * torch.rand(2, 3, *VIEW)
    with watching(built) as levels:
        for picture in pictures:
            levels["stale"] = picture
            built.test_step(dict(inputs=[picture], data_samples=samples(built)))
            x = built.data_preprocessor(dict(inputs=[picture], data_samples=samples(built)))
            own = levels_of(built, x["inputs"])
            assert list(levels) == list(own)
            assert all(torch.equal(levels[name], own[name]) for name in own)
            assert not any(level.requires_grad for level in levels.values())


@pytest.mark.parametrize("model", ["mmseg"], indirect=True)
def test_every_level_has_a_lie_derivative(model):
    built = model([])
    x = torch.nn.functional.interpolate(torch.randn(1, 3, 6, 8), VIEW, mode="bicubic")
    sums = lie_sums(lambda view: feature_levels(built, view, samples(built)), x)
    strides = level_strides(levels_of(built, x), VIEW)
    assert list(sums) == [f"lie/{name}" for name, stride in strides.items() if stride]
    assert all(np.isfinite(each).all() and (each > 0).all() for each in sums.values())


@pytest.mark.parametrize("model", ["mmseg"], indirect=True)
def test_an_auxiliary_head_is_not_taken_for_the_decode_head(model):
    built = model([])
    features = built.extract_feat(torch.randn(1, 3, *VIEW))
    with watching(built) as levels:
        built.auxiliary_head(features)
        assert not levels
        expected = built.decode_head.forward(features)
        built.auxiliary_head(features)
    assert torch.equal(levels["decode_head"], expected)


@pytest.mark.parametrize("model", ["mmseg"], indirect=True)
def test_crops_one_by_one_are_refused(model):
    built = model([])
    built.test_cfg.update(mode="slide", crop_size=(64, 64), stride=(32, 32))
    with pytest.raises(InputError, match=r"several crops.*--levels pred,task.*mode='whole'"):
        levels_of(built, torch.randn(1, 3, *VIEW))


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
        levels_of(model([]).train(), torch.randn(1, 3, 64, 64))


RESNET = dict(type="ResNet", depth=18, norm_cfg=dict(type="BN"), init_cfg=None)


def test_a_dense_head_of_one_stage_gives_its_scores(host):
    head = dict(type="RetinaHead", num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1)
    neck = dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=8, num_outs=5)
    test_cfg = dict(score_thr=0.5, nms_pre=9, max_per_img=9, nms=dict(type="nms", iou_threshold=1))
    cfg = dict(type="RetinaNet", backbone=RESNET, neck=neck, bbox_head=head, test_cfg=test_cfg)
    built = host(cfg, "mmdet")
    x = torch.randn(1, 3, *VIEW)
    levels = levels_of(built, x)
    for number, expected in enumerate(built._forward(x)[0]):
        assert torch.equal(levels[f"bbox_head.{number}"], expected)
    assert "bbox_head.5" not in levels
    # 96 x 128 cannot be cut into cells of 64 pixels; the neck makes 2 x 2 of them.
    strides = level_strides(levels, VIEW)
    assert [strides[f"bbox_head.{number}"] for number in range(5)] == [4, 8, 16, 32, None]
    assert equivariance_period(built, strides) == 32


def test_tokens_of_several_maps_are_no_level(host):
    attention = dict(embed_dims=256, num_levels=2, dropout=0.0, batch_first=True)
    ffn = dict(embed_dims=256, feedforward_channels=8)
    layers = dict(self_attn_cfg=attention, ffn_cfg=ffn)
    cfg = dict(
        type="DeformableDETR",
        num_queries=3,
        num_feature_levels=2,
        backbone=dict(RESNET, out_indices=(2, 3)),
        neck=dict(type="ChannelMapper", in_channels=[256, 512], out_channels=256, num_outs=2),
        encoder=dict(num_layers=1, layer_cfg=layers),
        decoder=dict(
            num_layers=1,
            post_norm_cfg=None,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=256, num_heads=8, batch_first=True),
                cross_attn_cfg=attention,
                ffn_cfg=ffn,
            ),
        ),
        positional_encoding=dict(num_feats=128, normalize=True, offset=-0.5),
        bbox_head=dict(
            type="DeformableDETRHead",
            num_classes=3,
            loss_cls=dict(type="FocalLoss", use_sigmoid=True),
        ),
        test_cfg=dict(max_per_img=3),
    )  # fmt: skip
    built = host(cfg, "mmdet")
    assert set(token_layers(built)) == {"encoder.0"}
    names = levels_of(built, torch.randn(1, 3, *VIEW)).keys()
    assert names == {"backbone.0", "backbone.1", "neck.0", "neck.1"}


@pytest.mark.parametrize(
    ("shape", "view", "stride"),
    [
        ((6, 8), (96, 128), 16),
        ((6, 8), (96, 120), None),
        ((6, 8), (48, 128), None),
        ((7, 8), (100, 128), None),
        ((96, 128), (96, 128), 1),
    ],
)
def test_a_stride_is_the_same_on_both_sides(shape, view, stride):
    assert level_strides({"map": torch.zeros(1, 1, *shape)}, view) == {"map": stride}


@pytest.mark.parametrize("model", ["mmdet"], indirect=True)
def test_windows_are_part_of_the_period(model):
    x = torch.randn(1, 3, *VIEW)
    for options, expected in [
        ({}, 64),  # the coarsest map of the neck
        (dict(window_size=(3, 5), global_blocks=[]), 64 * 3 * 5),
        (dict(window_size=(3, 5), global_blocks=[0, 1]), 64),
    ]:
        built = model([], **options)
        strides = level_strides(levels_of(built, x), VIEW) | {"neck.4": 64}
        assert equivariance_period(built, strides) == expected


@pytest.mark.parametrize("scope", ["mmdet", "mmseg"])
def test_so_are_those_of_the_hosts_swin(host, scope):
    backbone = dict(
        type="SwinTransformer", embed_dims=8, depths=(2, 2), num_heads=(1, 1), window_size=3,
        strides=(4, 2), out_indices=(1,),
    )  # fmt: skip
    built = torch.nn.Module()
    built.backbone = host(backbone, scope)
    (features,) = built.backbone(torch.randn(1, 3, *VIEW))
    strides = level_strides({"backbone.0": features}, VIEW)
    assert equivariance_period(built, strides) == 8 * 3
