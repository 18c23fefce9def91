"""The ViT backbone: timm's numbers, any image size, windows, and the hosts' protocols."""

import copy

import pytest
import timm
import torch
from layers import CASES, case_id

from mmplugins.models.vit import ViT
from mmplugins.registry import MODELS

pytestmark = pytest.mark.family
SMALL = dict(embed_dims=32, depth=3, num_heads=2)
MIXED = [dict(type="SaPE2"), dict(type="LearnedAPE"), dict(type="PEG", after=(-1, 1))]


def build(**options):
    options = {"arch": SMALL, "img_size": (64, 80), "out_indices": (2,), **options}
    return ViT(**options).eval()


@pytest.mark.parametrize("with_cls_token", [False, True])
def test_timm_loads_by_name_and_gives_the_same(with_cls_token):
    torch.manual_seed(0)
    stock = timm.models.VisionTransformer(
        img_size=(64, 80), embed_dim=32, depth=3, num_heads=2, num_classes=0,
        pos_embed="none", class_token=with_cls_token, global_pool="",
    ).double().eval()  # fmt: skip
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = build(with_cls_token=with_cls_token).double()
    ours.load_state_dict(stock.state_dict())
    image = torch.randn(2, 3, 64, 80, dtype=torch.float64)
    expected = stock(image)[:, int(with_cls_token) :].transpose(1, 2).unflatten(2, (4, 5))
    torch.testing.assert_close(ours(image)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cfg", CASES, ids=case_id)
@pytest.mark.parametrize("options", [{}, {"window_size": (2, 3), "global_blocks": (1,)}])
def test_any_image_size(cfg, options):
    model = build(position_encodings=[cfg], out_indices=(0, 2), **options)
    for height, width in [(64, 80), (65, 130), (1, 33), (15, 300)]:
        maps = model(torch.randn(1, 3, height, width))
        assert [m.shape for m in maps] == 2 * [(1, 32, -(-height // 16), -(-width // 16))]
        assert all(m.isfinite().all() for m in maps)


def test_no_pixel_is_dropped():
    model, image = build(), torch.randn(1, 3, 65, 81)
    changed = image.clone()
    changed[..., -1, -1] += 1
    assert not torch.equal(model(image)[0], model(changed)[0])


def test_checkpointing_changes_nothing():
    image = torch.randn(1, 3, 64, 80)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = build(position_encodings=MIXED, with_cp=with_cp).train()
        model(image)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_every_parameter_learns():
    """Or distributed training would need find_unused_parameters."""
    prefix = dict(with_cls_token=True, num_registers=2)
    model = build(position_encodings=MIXED, out_indices=(0, 2), init_values=0.5, **prefix).train()
    sum(out.square().sum() for out in model(torch.randn(1, 3, 64, 80))).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_init_weights_keeps_the_encodings_own():
    model = build(position_encodings=[dict(type="IRPE"), dict(type="PEG")])
    model.init_weights()
    assert not model.blocks[0].attn.pos["irpe"].sides["k"].tables["product"].any()
    assert 0.2 < model.pos["0"]["peg"].layers[0].conv.weight.std() < 0.8
    assert model.blocks[1].mlp.fc1.weight.std() < 0.03


def test_a_checkpoint_of_another_size_loads():
    large = build(position_encodings=MIXED, img_size=(96, 48))
    model = build(position_encodings=MIXED)
    model.load_state_dict(large.state_dict())
    image = torch.randn(1, 3, 64, 80)
    torch.testing.assert_close(model(image), large(image))


def test_layer_depths():
    model = build(position_encodings=MIXED, with_cls_token=True)
    depths = {
        name: model.get_layer_depth(f"backbone.{name}", "backbone.")[0]
        for name, _ in model.named_parameters()
    }
    assert depths["cls_token"] == depths["patch_embed.proj.weight"] == 0
    assert depths["pos.-1.learnedape.table"] == 0
    assert depths["blocks.0.norm1.weight"] == 1
    assert depths["pos.1.peg.layers.0.conv.weight"] == 2
    assert depths["blocks.1.attn.pos.sape2.table_x"] == 2
    assert depths["norm.weight"] == 4
    assert model.get_layer_depth("neck.conv.weight", "backbone.") == (4, 5)


def test_builds_from_the_registry_without_touching_the_config():
    cfg = dict(type="mmplugins.ViT", arch=dict(SMALL), out_indices=(2,), position_encodings=MIXED)
    before = copy.deepcopy(cfg)
    MODELS.build(cfg)
    assert cfg == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(position_encodings=[dict(type="SaPE3")]), "unknown position encoding `SaPE3`.*SaPE2"),
        (
            dict(position_encodings=[dict(type="SaPE2", num_position=3)]),
            "SaPE2 has no option `num_position`, did you mean `num_positions`",
        ),
        (dict(position_encodings=dict(type="SaPE2")), "is a list of dict.*not {'type'"),
        (dict(position_encodings=["SaPE2"]), "is a list of dict.*holds 'SaPE2'"),
        (dict(position_encodings=[dict(type="PEG", after=(3,))]), "blocks are 0 to 2"),
        (dict(arch=dict(SMALL, num_heads=3)), r"embed_dims \(32\) must be divisible by num_heads"),
        (dict(arch="huge"), "unknown arch `huge`: use tiny, small, base"),
        (dict(arch=dict(embed_dim=32)), "arch: give embed_dims, depth, num_heads, not embed_dim"),
        (dict(img_size=(64,)), r"one side or \(height, width\)"),
        (dict(window_size=2, global_blocks=(1, 3)), "global_blocks .* must lie in 0..2"),
        (dict(position_encodings=[dict(type="PEG", after=())]), "must be a list of block indices"),
        (dict(position_encodings=[dict(type=dict)]), "dict is no TokenEncoding or Attention"),
        (dict(out_indices=(0, 1)), "must lie in 0..2 and end there"),
        (dict(out_indices=(2, 0)), "must rise"),
        (dict(window_size=7, with_cls_token=True), "with_cls_token=False and num_registers=0, or"),
        (dict(window_size=7, num_registers=1), "with_cls_token=False and num_registers=0, or"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        build(**options)
