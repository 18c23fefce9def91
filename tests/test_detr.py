"""The DETR detectors beside mmdet's own."""

import copy

import pytest
import torch

import mmplugins.registry

pytest.importorskip("mmdet")
from mmdet.registry import MODELS as HOST_MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

pytestmark = pytest.mark.family
SHAPES = [(96, 128), (64, 100)]


@pytest.fixture(autouse=True)
def _mmdet_scope():
    register_all_modules()


def config(kind, **options):
    conditional = kind.endswith("ConditionalDETR")
    dims = 256 if conditional else 32  # whose decoder knows no other
    attention = dict(embed_dims=dims, num_heads=4, dropout=0.1, batch_first=True)
    ffn = dict(embed_dims=dims, feedforward_channels=64, num_fcs=2, ffn_drop=0.1)
    cross = dict(embed_dims=dims, num_heads=4, attn_drop=0.1, cross_attn=True)
    decoder_attention = (
        dict(embed_dims=dims, num_heads=4, attn_drop=0.1) if conditional else attention
    )
    return dict(
        type=kind,
        num_queries=7,
        data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=1),
        backbone=dict(type="ResNet", depth=18, num_stages=4, out_indices=(3,)),
        neck=dict(
            type="ChannelMapper", in_channels=[512], kernel_size=1, out_channels=dims, num_outs=1,
            act_cfg=None,
        ),
        encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
        decoder=dict(
            num_layers=2,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=decoder_attention,
                cross_attn_cfg=cross if conditional else attention,
                ffn_cfg=ffn,
            ),
        ),
        positional_encoding=dict(num_feats=dims // 2, normalize=True),
        bbox_head=dict(
            type="ConditionalDETRHead" if conditional else "DETRHead",
            num_classes=5,
            embed_dims=dims,
            loss_cls=dict(type="FocalLoss", use_sigmoid=True)
            if conditional
            else dict(type="CrossEntropyLoss", bg_cls_weight=0.1, class_weight=1.0),
        ),
        train_cfg=dict(
            assigner=dict(
                type="HungarianAssigner",
                match_costs=[
                    dict(type="FocalLossCost" if conditional else "ClassificationCost", weight=1.0),
                    dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                    dict(type="IoUCost", iou_mode="giou", weight=2.0),
                ],
            )
        ),
        **options,
    )  # fmt: skip


def build(kind, encodings=None, **options):
    cfg = config(kind, **options)
    if encodings is not None:
        cfg["encoder"].update(position_encodings=encodings, grid=(3, 4))
    torch.manual_seed(0)
    model = HOST_MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model.eval()


def batch(shapes=SHAPES):
    """Images of different sizes, padded to the largest, with the objects of each."""
    torch.manual_seed(3)
    height, width = (max(sides) for sides in zip(*shapes, strict=True))
    images, samples = torch.zeros(len(shapes), 3, height, width), []
    for image, (h, w) in zip(images, shapes, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(h, w),
                batch_input_shape=(height, width),
                scale_factor=(1, 1),
                ori_shape=(h, w),
            )
        )
        boxes = torch.tensor([[4.0, 5.0, 40.0, 50.0], [10.0, 20.0, 60.0, 60.0]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 3]))
        samples.append(sample)
    return images, samples


def raw(model, images, samples):
    """Logits and boxes of every decoder layer."""
    with torch.no_grad():
        return model.bbox_head(**model.forward_transformer(model.extract_feat(images), samples))


def close(a, b):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["DETR", "ConditionalDETR"])
@pytest.mark.parametrize("shapes", [SHAPES, [(96, 128)]], ids=["padded", "whole"])
def test_with_detr_sine_it_is_the_host(kind, shapes):
    """Same keys, same outputs."""
    stock, ours = build(kind), build(f"mmplugins.{kind}", [dict(type="DetrSine")])
    ours.load_state_dict(stock.state_dict())
    close(raw(ours, *batch(shapes)), raw(stock, *batch(shapes)))


def test_without_encodings_the_encoder_has_no_position_but_the_decoder_has():
    with_sine, without = (
        build("mmplugins.DETR", [dict(type="DetrSine")]),
        build("mmplugins.DETR", []),
    )
    neither = build("mmplugins.DETR", [], decoder_pos=False)
    for model in (without, neither):
        model.load_state_dict(with_sine.state_dict())
    outputs = [raw(model, *batch())[0] for model in (with_sine, without, neither)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    assert (outputs[1] - outputs[2]).abs().max() > 1e-3


ENCODINGS = [
    [],
    [dict(type="DetrSine"), dict(type="IRPE", ratio=2.0)],
    [dict(type="SaPE2")],
    [dict(type="PEG"), dict(type="SaPE2")],
]


@pytest.mark.parametrize("encodings", ENCODINGS, ids=lambda e: "+".join(c["type"] for c in e))
def test_padding_changes_nothing(encodings):
    """The encoder's memory of an image is the same alone and padded in a batch."""
    model = build("mmplugins.DETR", encodings)
    for module in model.encoder.modules():
        for parameter in getattr(module, "pos", torch.nn.Module()).parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    feat = torch.randn(2, 32, 3, 4)
    _, samples = batch([(96, 128), (64, 96)])
    memories = []
    for index, crop in [(slice(0, 2), (3, 4)), (slice(1, 2), (2, 3))]:
        maps = feat[index, :, : crop[0], : crop[1]].contiguous()
        some = samples[index]
        for sample in some:
            sample.set_metainfo(dict(batch_input_shape=(crop[0] * 32, crop[1] * 32)))
        inputs, _ = model.pre_transformer((maps,), some)
        memories.append(model.forward_encoder(**inputs)["memory"].unflatten(1, crop))
    torch.testing.assert_close(memories[0][1:, :2, :3], memories[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("encodings", ENCODINGS, ids=lambda e: "+".join(c["type"] for c in e))
def test_every_parameter_learns_from_a_padded_batch(encodings):
    model = build("mmplugins.DETR", encodings).train()
    losses = model.loss(*batch())
    sum(value for name, value in losses.items() if "loss" in name).backward()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []


def test_the_hosts_xavier_leaves_encodings_alone():
    model = build("mmplugins.DETR", [dict(type="IRPE")])
    assert not model.encoder.layers[0].self_attn.pos["irpe"].sides["k"].tables["product"].any()


def test_parameter_count_of_the_paper():
    """DETR R50 with iRPE 9 x 9 on k: 81 vectors of 32 in each of six layers."""
    model = build("mmplugins.DETR", [dict(type="DetrSine"), dict(type="IRPE", ratio=2.0)])
    tables = [p for n, p in model.named_parameters() if ".pos.irpe." in n]
    assert [tuple(t.shape) for t in tables] == 2 * [(1, 8, 81)]


def test_an_unknown_encoder_option_is_named():
    cfg = config("mmplugins.DETR")
    cfg["encoder"]["position_encoding"] = []
    with pytest.raises(TypeError, match="position_encoding"):
        HOST_MODELS.build(cfg)


def test_an_option_of_the_hosts_attention_is_never_ignored():
    cfg = config("mmplugins.DETR")
    cfg["encoder"]["layer_cfg"]["self_attn_cfg"]["bias"] = False
    with pytest.raises(TypeError, match="bias"):
        HOST_MODELS.build(cfg)


def test_registered_in_our_scope():
    assert mmplugins.registry.MODELS.get("mmplugins.ConditionalDETR").__module__.startswith(
        "mmplugins"
    )
