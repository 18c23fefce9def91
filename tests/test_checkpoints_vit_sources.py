"""Checkpoints of timm's RoPE, mmpretrain and mmseg: ours gives what their classes give."""

import pytest
import timm
import torch

from mmplugins.checkpoints.convert import convert, detect
from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError
from mmplugins.checkpoints.vit import PREFIX_TABLE
from mmplugins.checkpoints.vit_config import vit_config
from mmplugins.registry import MODELS

GRID, SIZE = (3, 4), (24, 32)
OPTIONS = Options(grid=GRID, num_heads=2)
ROPE = "vit_small_patch16_rope{}_224"
pytestmark = pytest.mark.usefixtures("float64")


def drawn(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    return model


def rope(kind, **options):
    tiny = dict(embed_dim=32, depth=2, num_heads=2, patch_size=8, num_classes=5)
    name = ROPE.format(kind)
    return drawn(timm.create_model(name, img_size=SIZE, **tiny, **options).double())


def seg(**options):
    backbones = pytest.importorskip("mmseg.models.backbones", reason="needs mmseg")
    tiny = dict(embed_dims=32, num_layers=2, num_heads=2, patch_size=8, norm_cfg=NORM)
    return drawn(backbones.VisionTransformer(img_size=SIZE, out_indices=1, **tiny, **options))


def pretrain(name="VisionTransformer", **options):
    backbones = pytest.importorskip("mmpretrain.models.backbones", reason="needs mmpretrain")
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=128)
    options = dict(out_type="featmap", img_size=SIZE, patch_size=8) | options
    return drawn(getattr(backbones, name)(arch=arch, **options))


NORM = dict(type="LN", eps=1e-6)
SCALED = dict(layer_scale_init_value=0.1)
HOSTS = {
    "mmseg": lambda: seg(),
    "mmseg with all": lambda: seg(patch_bias=True, final_norm=True),
    "mmseg without bias": lambda: seg(qkv_bias=False, patch_bias=True),
    "mmpretrain": lambda: pretrain(),
    "mmpretrain scaled": lambda: pretrain(**SCALED),
    "mmpretrain of patches": lambda: pretrain(with_cls_token=False, final_norm=False),
    "mmpretrain distilled": lambda: pretrain("DistilledVisionTransformer"),
    "mmpretrain pooled": lambda: pretrain(out_type="avg_featmap", qkv_bias=False),
}


def ours(made):
    model = MODELS.build(vit_config(made.state, made.encodings, OPTIONS)).double().eval()
    model.load_state_dict(made.state)
    return model


def image(size=SIZE):
    batch = torch.randn(2, 3, *size)
    batch[1, :, 13:] = batch[1, :, :, 21:] = 0  # a smaller image, padded
    return batch


def same(made, x, expected, **tolerance):
    torch.testing.assert_close(
        ours(made)(x)[0], expected, **{"rtol": 0, "atol": 1e-10, **tolerance}
    )


def equal(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("kind", ["", "_ape", "_mixed", "_mixed_ape"])
def test_rope_of_timm(kind):
    model, x = rope(kind), image()
    state = model.state_dict()
    name = "timm-rope" if "mixed" in kind else "rope-vit-axial"
    made = convert(state, source=name, options=OPTIONS)
    expected = model.forward_features(x)[:, 1:].mT.unflatten(2, GRID)
    same(made, x, expected, atol=1e-5)  # timm computes rotations in float32
    body = {n: t for n, t in state.items() if not n.startswith("head")}
    equal(convert(state, source=name, to=name, options=OPTIONS).state, body)
    if "mixed" in kind:
        assert detect(state).name == name
        for i in range(2):
            place = f"blocks.{i}.attn.pos.rope.freqs"
            made.state[place] = made.state[place].flip(0)
        with pytest.raises(AssertionError, match="not close"):
            same(made, x, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["", "_mixed"])
def test_rope_of_timm_at_another_size(kind):
    """Learned frequencies go on, at a padded batch too."""
    model, x = rope(kind, dynamic_img_size=True), image((40, 56))
    name = "timm-rope" if kind else "rope-vit-axial"
    made = convert(model.state_dict(), source=name, options=OPTIONS)
    same(made, x, model.forward_features(x)[:, 1:].mT.unflatten(2, (5, 7)), atol=1e-5)


def test_rope_of_timm_and_of_its_authors_are_one():
    state = rope("_mixed_ape").state_dict()
    theirs = convert(state, to="rope-vit", options=OPTIONS).state
    assert theirs["freqs"].shape == (2, 2, 32 // 2)
    assert theirs["freqs_t_x"].tolist() == [0, 1, 2, 3] * 3
    back = convert(theirs, source="rope-vit", to="timm-rope", options=OPTIONS).state
    equal(back, {n: t for n, t in state.items() if not n.startswith("head")})


@pytest.mark.parametrize("name", HOSTS)
def test_hosts_give_the_same_and_get_theirs_back(name):
    model, x = HOSTS[name](), image()
    state, layout = model.state_dict(), name.split()[0]
    made = convert(state, options=OPTIONS)
    assert made.source == layout
    if "pooled" in name:  # the norm of a class, no part of maps
        assert set(made.left) == {"ln2.weight", "ln2.bias"}
        model.out_type = "featmap"
    same(made, x, model(x)[0])
    model.load_state_dict(convert(made.state, to=layout).state, strict="pooled" not in name)
    equal(convert(made.state, to=layout).state, {n: t for n, t in state.items() if n[:3] != "ln2"})


def test_mmseg_without_its_class_token():
    """It keeps the token's weights all the same, and ours are given some."""
    model, x = seg(with_cls_token=False, final_norm=True, patch_bias=True), image()
    patches = Options(grid=GRID, num_heads=2, cls_token=False)
    made = convert(model.state_dict(), options=patches)
    expected = model(x)[0]
    same(made, x, expected)
    with pytest.raises(AssertionError, match="not close"):
        same(convert(model.state_dict(), options=OPTIONS), x, expected)
    model.load_state_dict(convert(made.state, to="mmseg").state)
    assert not model.cls_token.any()
    same(made, x, model(x)[0])


def test_deit3_of_mmpretrain_is_read():
    """Its table has no row for the class token; that of a ViT, to which it is written, has."""
    model, x = pretrain("DeiT3", use_layer_scale=True), image()
    for layer in model.layers:  # its forward pass has ln1 in the place of ln2, too
        layer.ln2.load_state_dict(layer.ln1.state_dict())
    made = convert(model.state_dict(), options=OPTIONS)
    same(made, x, model(x)[0])
    plain = pretrain(**SCALED)
    plain.load_state_dict(convert(made.state, to="mmpretrain").state)
    same(made, x, plain(x)[0])


@pytest.mark.parametrize("layout", ["mmpretrain", "mmseg"])
def test_a_vit_without_table_is_written_with_one_of_zeros(layout):
    state = convert(seg(final_norm=True).state_dict(), options=OPTIONS).state
    bare = {name: t for name, t in state.items() if not name.startswith("pos.")}
    theirs = convert(bare, source="timm", to=layout, options=OPTIONS).state
    assert theirs["pos_embed"].shape == (1, 1 + 12, 32)
    assert not theirs["pos_embed"].any()
    with pytest.raises(LayoutError, match="give the training grid, --grid HEIGHT WIDTH"):
        convert(bare, source="timm", to=layout)


def test_biases_that_mmseg_cannot_leave_out_are_zero():
    state = convert(
        rope("_ape", qkv_bias=False).state_dict(), source="deit3", options=OPTIONS
    ).state
    state = {name: t for name, t in state.items() if ".ls" not in name}
    theirs = convert(state, to="mmseg").state
    assert not theirs["layers.1.attn.attn.in_proj_bias"].any()
    model = seg(final_norm=True, patch_bias=True)
    model.load_state_dict(theirs)
    x = image()
    known = Options(encodings=[dict(type="LearnedAPE")])
    same(convert(state, source="mmplugins", options=known), x, model(x)[0])


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"ln_pre.weight": 1}, {}, "ln_pre.weight: our ViT has no norm before its first block"),
        ({"layers.0.ffn.w12.weight": 1}, {}, "our ViT has no gated MLP"),
        ({"layers.1.ln2.bias": None}, {}, r"missing: layers\.1\.ln2\.bias"),
        (
            {"layers.1.attn.attn.out_proj.bias": None},
            {},
            r"missing: .*\.1\.attn\.attn\.out_proj\.bias",
        ),
        ({"layers.0.attn.q_norm.weight": 1}, {}, r"left over: layers\.0\.attn\.q_norm\.weight"),
        ({}, dict(source="mmpretrain"), "not in the layout mmpretrain.*It looks like mmseg"),
        ({}, dict(to="timm-rope"), r"timm-rope has no place .*: missing: .*rope\.freqs"),
        ({}, dict(to="irpe-deit"), r"missing: blocks\.\*\.attn\.pos\.irpe"),
        ({}, dict(to="rope-vit-axial"), "do not tell of RoPE, so the config of encodings must"),
    ],
)
def test_errors_name_what_is_wrong(change, arguments, message):
    state = {**seg(patch_bias=True).state_dict()}
    for name, value in change.items():
        state.pop(name, None)
        if value is not None:
            state[name] = torch.ones(32)
    with pytest.raises(LayoutError, match=message):
        convert(state, **{"options": OPTIONS, **arguments})


def test_mmseg_has_no_layer_scale():
    state = convert(pretrain(**SCALED).state_dict(), options=OPTIONS).state
    with pytest.raises(LayoutError, match=r"ls1\.gamma: mmseg's ViT has no LayerScale"):
        convert(state, to="mmseg")


def test_registers_have_no_place_in_hosts():
    state = convert(pretrain("DistilledVisionTransformer").state_dict(), options=OPTIONS).state
    state["reg_token"] = state["reg_token"].repeat(1, 3, 1)
    state[PREFIX_TABLE] = state[PREFIX_TABLE].new_zeros(1, 4, 32)
    with pytest.raises(LayoutError, match="3 registers, where there is one token, dist_token"):
        convert(state, to="mmpretrain")
    with pytest.raises(LayoutError, match="cls_token, reg_token: the layout has no more than cls"):
        convert(state, to="mmseg")
    del state["cls_token"]
    with pytest.raises(LayoutError, match="prefix_table has 4 rows for 3 tokens"):
        convert(state, to="mmseg")
    state[PREFIX_TABLE] = state[PREFIX_TABLE][:, 1:]
    with pytest.raises(LayoutError, match="3 registers, where there is one token, cls_token"):
        convert(state, to="mmseg")
