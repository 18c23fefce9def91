"""Twins between the dialects of its authors and timm, of mmpretrain, and of mmseg."""

import itertools
import re
from functools import cache

import pytest
import torch
from torch import nn

from mmplugins.checkpoints.convert import convert, detect
from mmplugins.checkpoints.moves import LayoutError

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.family
KINDS = ("pcpvt", "svt")
DIALECTS = ("twins", "twins-dense", "twins-mmpretrain", "twins-mmseg")
SIZES = {
    "embed_dims": [8, 12, 16, 24],
    "num_heads": [2, 3, 4, 6],
    "mlp_ratios": [2, 1, 2, 1],
    "depths": [2, 1, 3, 2],
    "sr_ratios": [4, 2, 2, 1],
}
STRIDES = {"patch_sizes": [4, 2, 2, 2], "strides": [4, 2, 2, 2]}
WINDOWS = [4, 2, 2, 2]  # divide every map of the image: the projects pad windows differently
IMAGE = (1, 3, 64, 128)


def randomise(model, *, eps=1e-5):
    """Every parameter random, so that none can be lost or swapped unseen."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps  # the projects' defaults differ
    return model.double().eval()


@cache
def reference(kind):
    torch.manual_seed(0)
    model = timm.create_model(
        f"twins_{kind}_small",
        img_size=IMAGE[-1],
        num_classes=5,
        wss=WINDOWS if kind == "svt" else None,
        **SIZES,
    )
    return randomise(model)


def mmpretrain(kind, **options):
    twins = pytest.importorskip("mmpretrain.models.backbones.twins")
    arch = {**SIZES, **STRIDES, **({"window_sizes": WINDOWS} if kind == "svt" else {})}
    build = twins.SVT if kind == "svt" else twins.PCPVT
    options = {"qkv_bias": True, **options}
    return randomise(build(arch, out_indices=(0, 1, 2, 3), **options))


def mmseg(kind, **options):
    twins = pytest.importorskip("mmseg.models.backbones.twins")
    windows = {"windiow_sizes": WINDOWS} if kind == "svt" else {}
    build = twins.SVT if kind == "svt" else twins.PCPVT
    options = {"qkv_bias": True, "norm_after_stage": False, **options}
    return randomise(build(**SIZES, **STRIDES, **windows, **options))


@cache
def image():
    return torch.randn(IMAGE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def maps(model):
    return list(model(image()))


@torch.no_grad()
def timm_maps(model):
    return model.forward_intermediates(image(), intermediates_only=True)


@torch.no_grad()
def dense_maps(model, state):
    """The authors' dense SVT: each stage ends with a norm, of which the next stage begins."""
    x, out = image(), []
    for i, stage in enumerate(model.blocks):
        x, grid = model.patch_embeds[i](x)
        for j, block in enumerate(stage):
            x = block(x, grid)
            x = model.pos_block[i](x, grid) if j == 0 else x
        norm = [state[f"norm_list.{i}.{part}"] for part in ("weight", "bias")]
        x = nn.functional.layer_norm(x, x.shape[2:], *norm)
        x = x.unflatten(1, grid).movedim(-1, 1)
        out.append(x)
    return out


def close(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-10)


def equal(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize("kind", KINDS)
def test_mmseg_makes_the_same_maps(kind):
    source, model = reference(kind), mmseg(kind)
    converted = convert(source.state_dict(), to="twins-mmseg")
    assert set(converted.left) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    model.load_state_dict(converted.state)
    close(maps(model), timm_maps(source))


@pytest.mark.parametrize("kind", KINDS)
def test_mmpretrain_makes_the_same_maps_and_the_same_logits(kind):
    source, model = reference(kind), mmpretrain(kind, norm_after_stage=[False] * 3 + [True])
    converted = convert(source.state_dict(), to="twins-mmpretrain")
    assert not converted.left
    head = {name: tensor for name, tensor in converted.state.items() if "head" in name}
    backbone = converted.state.keys() - head.keys()
    model.load_state_dict({n.removeprefix("backbone."): converted.state[n] for n in backbone})
    features = maps(model)
    close(features[:3], timm_maps(source)[:3])
    pooled = features[3].mean((2, 3))
    with torch.no_grad():
        logits = pooled @ head["head.fc.weight"].T + head["head.fc.bias"]
        close([logits], [source(image())])


@pytest.mark.parametrize("build", [mmpretrain, mmseg])
def test_norms_after_stages_become_those_of_the_authors_dense_svt(build):
    model = build("svt", norm_after_stage=True)
    dense = convert(model.state_dict(), to="twins-dense").state
    assert detect(dense).name == "twins-dense"
    plain = {n: tensor for n, tensor in dense.items() if not n.startswith("norm_list.")}
    source = randomise(timm.models.Twins(img_size=IMAGE[-1], wss=WINDOWS, **SIZES))
    assert set(source.load_state_dict(plain, strict=False).missing_keys) == {
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }
    close(maps(model), dense_maps(source, dense))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", [mmpretrain, mmseg])
def test_models_without_biases_get_zeros(kind, build):
    model, source = build(kind, qkv_bias=False), reference(kind)
    biases = [n for n in source.state_dict() if n.endswith(("q.bias", "kv.bias", "qkv.bias"))]
    state = convert(model.state_dict(), to="twins").state
    assert biases
    assert not any(state[name].any() for name in biases)
    other = randomise(timm.models.Twins(wss=WINDOWS if kind == "svt" else None, **SIZES))
    other.load_state_dict(state, strict=False)
    close(maps(model), timm_maps(other))


def test_swapped_projections_would_be_seen():
    """The tests above can fail: k and v of one global attention, exchanged."""
    source, model = reference("pcpvt"), mmseg("pcpvt")
    state = convert(source.state_dict(), to="twins-mmseg").state
    q, k, v = state["layers.1.0.attn.attn.in_proj_weight"].chunk(3)
    state["layers.1.0.attn.attn.in_proj_weight"] = torch.cat([q, v, k])
    model.load_state_dict(state)
    assert (maps(model)[1] - timm_maps(source)[1]).abs().max() > 1e-3


def full(kind, dialect, stages=4):
    """A state dict of the dialect, of all that it can express, of the first stages."""
    state = {
        name: tensor
        for name, tensor in reference(kind).state_dict().items()
        if not re.match(rf"\w+\.[{stages}-9]\.", name)
    }
    if dialect == "twins":
        return state
    norms = {
        f"norm_list.{i}.{part}": torch.randn(dims)
        for i, dims in enumerate(SIZES["embed_dims"][:stages])
        for part in ("weight", "bias")
    }
    if dialect == "twins-dense":
        return {**state, **norms}
    return convert(state, to=dialect).state


@pytest.mark.parametrize(("kind", "dialect"), itertools.product(KINDS, DIALECTS))
def test_every_dialect_is_known_by_its_names(kind, dialect):
    state = full(kind, dialect)
    assert detect(state).name == dialect
    outer = {"module.backbone." + name: tensor for name, tensor in state.items()}
    if dialect != "twins-mmpretrain":  # a head of its own makes it a classifier
        assert detect({**outer, "module.neck.weight": torch.ones(1)}).name == dialect


@pytest.mark.parametrize(
    ("kind", "dialect", "by"),
    [
        *itertools.product(KINDS, ["twins"], ["twins-mmpretrain", "twins"]),
        *itertools.product(KINDS, ["twins-mmpretrain"], ["twins", "twins-mmpretrain"]),
        *itertools.product(KINDS, ["twins-mmseg"], DIALECTS[::2]),
        ("pcpvt", "twins", "twins-dense"),
        ("pcpvt", "twins-mmseg", "twins-dense"),
        ("svt", "twins-dense", "twins-dense"),
    ],
)
def test_there_and_back_is_the_identity(kind, dialect, by):
    state = full(kind, dialect)
    equal(convert(convert(state, to=by).state, to=dialect).state, state)


def test_dense_svt_keeps_its_norms_by_way_of_openmmlab():
    dense = full("svt", "twins-dense")
    for by in ("twins-mmpretrain", "twins-mmseg"):
        converted = convert(dense, to=by)
        assert set(converted.left) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
        back = convert(converted.state, to="twins-dense").state
        equal(back, {name: t for name, t in dense.items() if name not in converted.left})


def test_published_files_of_mmseg_have_a_norm_more():
    state = full("svt", "twins-mmseg")
    last = {"norm.weight": torch.rand(24), "norm.bias": torch.rand(24)}
    common = convert({**state, **last}).state
    assert torch.equal(common["norm.bias"], last["norm.bias"])
    assert convert(common, to="twins-mmseg").state.keys() == state.keys()


@pytest.mark.parametrize(("kind", "dialect"), itertools.product(KINDS, DIALECTS))
def test_a_truncated_file_is_an_error_that_names_what_is_missing(kind, dialect):
    """Each name in turn."""
    state = full(kind, dialect, stages=2)
    for name in state:
        rest = {other: tensor for other, tensor in state.items() if other != name}
        with pytest.raises(LayoutError, match=r"missing") as error:
            convert(rest, source=dialect)
        assert name.removeprefix("backbone.") in str(error.value)


def test_a_stray_tensor_is_an_error_that_names_it():
    stray = {"blocks.0.0.attn.relative.weight": torch.ones(2, 3)}
    with pytest.raises(LayoutError, match=r"blocks\.0\.0\.attn\.relative\.weight \(2, 3\)"):
        convert({**full("pcpvt", "twins"), **stray})


def test_the_wrong_source_is_an_error_that_names_the_likely():
    with pytest.raises(LayoutError, match="It looks like twins-mmseg"):
        convert(full("svt", "twins-mmseg"), source="twins-mmpretrain")


def test_what_a_dialect_cannot_express_is_named():
    with pytest.raises(LayoutError, match=r"norm_list\.0\.weight: ImageNet models have no norm"):
        convert(full("svt", "twins-dense"), to="twins")
    with pytest.raises(LayoutError, match="SVT has a norm after each stage there"):
        convert(full("svt", "twins"), to="twins-dense")
    with pytest.raises(LayoutError, match=r"norm_list\.0\.weight: PCPVT has no norm"):
        convert(full("pcpvt", "twins-dense"), to="twins-dense")
    with pytest.raises(LayoutError, match="of twins, timm of vit"):
        convert(full("pcpvt", "twins"), to="timm")
