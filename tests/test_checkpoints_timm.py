"""timm's, DeiT's, MAE's and DINOv2's weights do in ours what they did, and come back unchanged."""

import re
from contextlib import suppress

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmplugins.checkpoints.convert import LAYOUTS, convert, detect
from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError, Moves
from mmplugins.checkpoints.vit import TABLE, read_tokens
from mmplugins.checkpoints.vit_config import check_vit, vit_config
from mmplugins.registry import MODELS

GRID, PATCH = (3, 4), 8
SMALL = dict(embed_dim=32, depth=2, num_heads=2, patch_size=PATCH, num_classes=5)
OPTIONS = Options(grid=GRID, num_heads=2)
IMAGE = torch.randn(2, 3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
IMAGE[1, :, 13:] = IMAGE[1, :, :, 21:] = 0  # a smaller image, padded


def stock(name, **options):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=(24, 32), **{**SMALL, **options}).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def dinov2(state, chunked):
    """Facebook's names of timm's port, whose class token has its position added already."""
    state = {name.replace("reg_token", "register_tokens"): t for name, t in state.items()}
    first = torch.full_like(state["cls_token"], 0.25)
    state["cls_token"] = state["cls_token"] - first
    state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.zeros(1, 32)
    if chunked:
        state = {re.sub(r"^blocks\.", "blocks.0.", name): t for name, t in state.items()}
    return state


def mae(state):
    decoder = {"decoder_embed.weight": torch.ones(3), "decoder_pos_embed": torch.ones(3)}
    return {**state, **decoder, "mask_token": torch.zeros(1, 1, 32)}


def deit3(state):
    return {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): t for name, t in state.items()}


VIT = ("vit_tiny_patch16_224", {})
SOURCES = {
    "timm": (VIT, lambda state: state),
    "timm without class token": (
        ("vit_tiny_patch16_224", dict(class_token=False, global_pool="avg")),
        lambda state: state,
    ),
    "timm with registers only": (
        ("vit_tiny_patch16_224", dict(class_token=False, global_pool="avg", reg_tokens=3)),
        lambda state: state,
    ),
    "timm without biases": (("vit_tiny_patch16_224", dict(qkv_bias=False)), lambda state: state),
    "deit-distilled": (("deit_tiny_distilled_patch16_224", {}), lambda state: state),
    "deit3": (("deit3_small_patch16_224", {}), deit3),
    "mae": (VIT, mae),
    "dinov2": (("vit_small_patch14_reg4_dinov2", {}), lambda state: dinov2(state, False)),
    "dinov2 in chunks": (
        ("vit_small_patch14_reg4_dinov2", dict(reg_tokens=2)),
        lambda state: dinov2(state, True),
    ),
}


def maps(model, image=IMAGE):
    """What timm's model says of the patches."""
    tokens = model.forward_features(image)[:, model.num_prefix_tokens :]
    return tokens.transpose(1, 2).unflatten(2, (image.shape[2] // PATCH, -1))


def loaded(made, options=OPTIONS):
    config = vit_config(made.state, made.encodings, options)
    check_vit(made.state, config)
    model = MODELS.build(config).double().eval()
    model.load_state_dict(made.state)
    return model


@pytest.mark.parametrize("name", SOURCES)
def test_it_does_what_it_did(name):
    (base, options), theirs = SOURCES[name]
    model = stock(base, **options)
    state = theirs(model.state_dict())
    made = convert(state, source=name.split()[0], options=OPTIONS)
    ours = loaded(made)
    torch.testing.assert_close(ours(IMAGE)[0], maps(model), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", SOURCES)
def test_it_comes_back_unchanged(name):
    (base, options), theirs = SOURCES[name]
    state = theirs(stock(base, **options).state_dict())
    made = convert(state, source=name.split()[0], options=OPTIONS)
    back = convert(made.state, to=made.source, options=OPTIONS)
    state = {re.sub(r"^blocks\.0\.(\d+\.)", r"blocks.\1", n): t for n, t in state.items()}
    assert state.keys() - back.state.keys() == made.left.keys()
    for key, tensor in back.state.items():
        assert torch.equal(tensor, state[key]), key
    if "fc_norm.weight" in made.left:  # the only norm, of which no trace is left to read again
        return
    again = convert(back.state, source=made.source, options=OPTIONS)
    assert again.state.keys() == made.state.keys()
    assert all(torch.equal(again.state[key], made.state[key]) for key in made.state)


def test_a_token_without_a_row_keeps_its_position():
    """DINOv2's table has one row in front; ours and timm's may have one for each register."""
    model = stock("vit_small_patch14_reg4_dinov2", no_embed_class=False)
    made = convert(model.state_dict(), options=OPTIONS)
    assert made.state["pos.-1.learnedape.prefix_table"].shape == (1, 5, 32)
    theirs = convert(made.state, to="dinov2", options=OPTIONS).state
    assert theirs["pos_embed"].shape == (1, 1 + 12, 32)
    again = loaded(convert(theirs, source="dinov2", options=OPTIONS))
    torch.testing.assert_close(again(IMAGE)[0], maps(model), rtol=1e-10, atol=1e-10)


def test_without_class_token_it_fits_windows():
    made = convert(
        stock(*VIT[:1]).state_dict(), options=Options(grid=GRID, num_heads=2, cls_token=False)
    )
    config = vit_config(made.state, made.encodings, OPTIONS)
    MODELS.build({**config, "window_size": 2, "global_blocks": ()}).load_state_dict(made.state)
    assert made.left["cls_token"] == "no class token was asked for"


@given(height=st.integers(2, 40), width=st.integers(2, 40), prefix=st.integers(0, 2))
def test_tables_of_any_grid(height, width, prefix):
    """Rows are told apart from tokens in front; without a grid it is a square or an error."""
    table = torch.randn(1, prefix + height * width, 4)
    tokens = {"cls_token": 1, "reg_token": 1} if prefix == 2 else {"cls_token": prefix}
    state = {name: torch.zeros(1, count, 4) for name, count in tokens.items() if count}

    def read(grid):
        moves = Moves({**state, "pos_embed": table})
        read_tokens(moves, Options(grid=grid))
        return moves.moved[TABLE]

    assert torch.equal(read((height, width)), table[:, prefix:].unflatten(1, (height, width)))
    with suppress(LayoutError):
        assert read(None).shape[1] == read(None).shape[2]
    with pytest.raises(LayoutError, match=r"--grid HEIGHT WIDTH"):
        read((height + 1, width + 1))


STATE = stock(*VIT[:1]).state_dict()


def without(*names):
    return {name: tensor for name, tensor in STATE.items() if name not in names}


@pytest.mark.parametrize(
    ("state", "options", "message"),
    [
        (without("blocks.1.norm2.bias"), {}, r"not in .* timm: missing: blocks\.1\.norm2\.bias$"),
        (
            {**STATE, "blocks.0.attn.q_norm.weight": torch.ones(4)},
            {},
            r"left over: .*q_norm.*\(4,\)",
        ),
        (STATE, dict(source="dinov"), "unknown layout `dinov`, did you mean dinov2"),
        (STATE, dict(source="mmplugins"), "not in the layout mmplugins.*It looks like timm"),
        (STATE, dict(options=None), "12 positions with 1 tokens in front.*--grid HEIGHT WIDTH"),
        (STATE, dict(options=Options(grid=(5, 5))), "grid 5 x 5 would leave"),
        ({"conv1.weight": STATE["cls_token"]}, {}, "no known layout: conv1.weight"),
    ],
)
def test_what_does_not_fit_is_named(state, options, message):
    if options.get("options", 0) is None and "13" not in message:
        state = {**state, "pos_embed": state["pos_embed"][:, :12]}
    with pytest.raises(LayoutError, match=message):
        convert(state, **{"options": OPTIONS, **options})


def test_shapes_that_make_no_vit_are_named():
    made = convert({**STATE, "blocks.1.mlp.fc2.bias": torch.ones(7)}, options=OPTIONS)
    with pytest.raises(
        LayoutError, match=r"of another shape: blocks\.1\.mlp\.fc2\.bias \(7,\) for"
    ):
        check_vit(made.state, vit_config(made.state, made.encodings, OPTIONS))


@pytest.mark.parametrize("name", ["vit_huge_patch14_224", "vit_so400m_patch14_siglip_gap_224"])
def test_heads_of_large_models_are_known(name):
    with torch.device("meta"):
        model = timm.create_model(name, depth=1)
    made = convert(model.state_dict())
    arch = vit_config(made.state, made.encodings, Options())["arch"]
    assert arch["num_heads"] == model.blocks[0].attn.num_heads


def test_encodings_that_have_no_place_are_named():
    ours = MODELS.build(
        dict(
            type="mmplugins.ViT",
            arch=dict(embed_dims=32, depth=2, num_heads=2),
            out_indices=(1,),
            position_encodings=[dict(type="PEG")],
        )
    )
    known = Options(encodings=[dict(type="PEG")])
    with pytest.raises(LayoutError, match="timm cannot express PEG, only LearnedAPE"):
        convert(ours.state_dict(), to="timm", options=known)
    with pytest.raises(LayoutError, match=r"timm has no place .* left over: pos\.0\.peg"):
        convert(ours.state_dict(), to="timm")
    twice = Options(encodings=[dict(type="LearnedAPE")] * 2)
    with pytest.raises(LayoutError, match="timm has each encoding once, not LearnedAPE, Learned"):
        convert(ours.state_dict(), to="timm", options=twice)


def test_every_wrapper_is_seen_through():
    for prefix in ("module.", "backbone.", "model.backbone.", "_orig_mod.module."):
        assert detect({prefix + name: t for name, t in STATE.items()}).name == "timm", prefix
    for prefix in ("backbone.", "module.backbone.", "encoder."):
        other = f"{prefix.partition('.')[0]}2.weight"
        whole = {prefix + name: t for name, t in STATE.items()} | {other: STATE["norm.bias"]}
        made = convert(whole, options=OPTIONS)
        assert made.left[other] == f"is not under {prefix}"


def test_parts_of_a_tensor_do_not_carry_all_of_it():
    """Torch would write the whole memory for each part."""
    made = convert(STATE, options=OPTIONS)
    for name, tensor in made.state.items():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes, name
        assert tensor.is_contiguous(), name


def test_layouts_exclude_each_other():
    """A file is of one layout, or the user is asked."""
    for name, ((base, options), theirs) in SOURCES.items():
        state = theirs(stock(base, **options).state_dict())
        names = [layout.name for layout in LAYOUTS.values() if layout.marks(state)]
        # RoPE of the variant axial leaves no trace.
        assert names == [name.split()[0]] + ["rope-vit-axial"] * (name == "deit3")
