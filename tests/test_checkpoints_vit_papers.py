"""Checkpoints of papers' authors: after conversion our ViT gives what their formulas give."""

import pytest
import torch
from slow_vits import (
    DEPTH,
    EMBED,
    HEADS,
    PATCH,
    CopeAttention,
    IRPEAttention,
    RopeViT,
    SlowViT,
)

from mmplugins.checkpoints.command import main
from mmplugins.checkpoints.convert import LAYOUTS, convert, detect
from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError
from mmplugins.checkpoints.vit_config import vit_config
from mmplugins.registry import MODELS

GRID = (4, 5)
OPTIONS = Options(grid=GRID, num_heads=HEADS)
pytestmark = pytest.mark.usefixtures("float64")


def irpe(**options) -> SlowViT:
    rows = options.pop("rows", 1)
    return SlowViT([IRPEAttention(**options) for _ in range(DEPTH)], rows=rows, grid=GRID)


def cope(*, grid=(2, 3), **options) -> SlowViT:
    attentions = [CopeAttention(**options) for _ in range(DEPTH)]
    model = SlowViT(attentions, rows=1, grid=grid, factors=True)
    for block in model.blocks if not options.get("sep") else ():
        for line in (block.attn.cope.cope_x, block.attn.cope.cope_y):
            torch.nn.init.zeros_(line.w_k)
    return model


def ours(made, options=OPTIONS):
    model = MODELS.build(vit_config(made.state, made.encodings, options)).eval()
    model.load_state_dict(made.state)
    return model


def images(grid=GRID):
    return torch.randn(2, 3, PATCH * grid[0], PATCH * grid[1])


def padded():
    """Two images of different sizes, filled up with zeros to one that neither has."""
    batch = torch.zeros(2, 3, 6 * PATCH, 7 * PATCH)
    batch[0, :, : 6 * PATCH, : 3 * PATCH] = torch.randn(3, 6 * PATCH, 3 * PATCH)
    batch[1, :, : 2 * PATCH, : 7 * PATCH] = torch.randn(3, 2 * PATCH, 7 * PATCH)
    return batch


def same(source, made, image, options=OPTIONS, **tolerance):
    torch.testing.assert_close(
        ours(made, options)(image)[0], source(image), **{"rtol": 0, "atol": 1e-10, **tolerance}
    )


IRPE_CASES = {
    "k": {},
    "qkv": {"on": "qkv"},
    "unshared": {"on": "qk", "shared": False},
    "bias": {"on": "qk", "mode": "bias"},
    "cross": {"on": "qkv", "method": "cross", "ratio": 2.0},
    "euclidean": {"on": "kv", "method": "euclidean", "ratio": 2.0},
}


@pytest.mark.parametrize("case", IRPE_CASES)
def test_irpe_gives_the_same(case):
    source, distance = irpe(**IRPE_CASES[case]), case == "euclidean"
    options = Options(grid=GRID, num_heads=HEADS, method="euclidean" if distance else None)
    made = convert(source.state_dict(), source="irpe-deit", options=options)
    same(source, made, images())
    assert made.left == dict.fromkeys(("head.weight", "head.bias"), "the classification head")
    back = convert(made.state, to="irpe-deit", options=Options(encodings=made.encodings)).state
    again = convert(back, options=options)
    torch.testing.assert_close(again.state, made.state, rtol=0, atol=0)
    if not distance:  # of which the authors' tables have a half that is never read
        expected = {n: t for n, t in source.state_dict().items() if not n.startswith("head")}
        torch.testing.assert_close(back, expected, rtol=0, atol=0)


def test_irpe_of_a_padded_batch():
    source = irpe(on="qkv", rows=None)
    same(source, convert(source.state_dict(), options=OPTIONS), padded())


def test_irpe_without_the_class_token():
    """Every trace of it goes: then patches alone are encoded as they were."""
    source = irpe(on="qkv")
    options = Options(grid=GRID, num_heads=HEADS, cls_token=False)
    made = convert(source.state_dict(), options=options)
    whole = convert(source.state_dict(), options=OPTIONS)
    name = "blocks.1.attn.pos.irpe.sides.{}.tables.product"
    key, value = (made.state[name.format(side)] for side in "kv")
    torch.testing.assert_close(key, whole.state[name.format("k")][..., :-1])
    torch.testing.assert_close(value, whole.state[name.format("v")][:, :-1])
    assert not any("token" in n or "prefix" in n for n in made.state)
    assert made.left["cls_token"] == "no class token was asked for"
    assert ours(made)(images())[0].shape == (2, EMBED, *GRID)
    with pytest.raises(LayoutError, match="missing: cls_token, which every model there has"):
        convert(made.state, to="irpe-deit", options=Options(encodings=made.encodings))


def test_irpe_with_swapped_axes_differs():
    """What is compared above can tell."""
    source = irpe()
    made = convert(source.state_dict(), options=OPTIONS)
    for name, table in made.state.items():
        if ".irpe." in name:
            table[..., :49] = table[..., :49].unflatten(-1, (7, 7)).mT.flatten(-2)
    with pytest.raises(AssertionError, match="not close"):
        same(source, made, images(), atol=1e-3)


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("ape", [True, False])
def test_rope_vit_gives_the_same(mixed, ape):
    source = RopeViT(mixed=mixed, ape=ape, grid=GRID)
    name = "rope-vit" if mixed else "rope-vit-axial"
    made = convert(source.state_dict(), source=name, options=OPTIONS)
    same(source, made, images())
    if not ape:
        same(source, made, padded())
    back = convert(source.state_dict(), source=name, to=name, options=OPTIONS)
    expected = {n: t for n, t in source.state_dict().items() if not n.startswith("head")}
    torch.testing.assert_close(back.state, expected, rtol=0, atol=0)


def test_rope_vit_with_swapped_axes_differs():
    source = RopeViT(mixed=True, ape=False, grid=GRID)
    made = convert(source.state_dict(), options=OPTIONS)
    for i in range(DEPTH):
        name = f"blocks.{i}.attn.pos.rope.freqs"
        made.state[name] = made.state[name].flip(0)
    with pytest.raises(AssertionError, match="not close"):
        same(source, made, images(), atol=1e-3)


def test_rope_vit_axial_needs_its_name():
    state = RopeViT(mixed=False, ape=True, grid=GRID).state_dict()
    with pytest.raises(LayoutError, match=r"may be .*rope-vit-axial.*: name it by --source"):
        detect(state)
    # As DeiT III the same weights are another model, without RoPE.
    assert [e["type"] for e in convert(state, source="deit3", options=OPTIONS).encodings] == [
        "LearnedAPE"
    ]


def test_files_that_we_wrote_tell_of_rope_vit_axial(tmp_path, capsys):
    """Their weights are those of a timm without position."""
    state = RopeViT(mixed=False, ape=False, grid=GRID).state_dict()
    torch.save({"model": state}, tmp_path / "theirs.pth")
    heads = ["--num-heads", str(HEADS)]
    main([f"{tmp_path}/theirs.pth", f"{tmp_path}/ours.pth", *heads])
    main([f"{tmp_path}/ours.pth", f"{tmp_path}/back.pth", "--to", "rope-vit-axial", *heads])
    back = torch.load(tmp_path / "back.pth")["model"]
    expected = {n: t for n, t in state.items() if not n.startswith("head")}
    torch.testing.assert_close(back, expected, rtol=0, atol=0)
    assert "mmplugins, entry `state_dict`" in capsys.readouterr().out


COPE_CASES = {"k": {}, "q": {"operand": "q"}, "sep": {"operand": "q", "sep": True}}


@pytest.mark.parametrize("case", COPE_CASES)
def test_cope_vit_gives_the_same(case):
    source = cope(**COPE_CASES[case])
    options = Options(grid=(2, 3), num_heads=HEADS, operand="k" if case == "k" else "q")
    made = convert(source.state_dict(), options=options)
    same(source, made, images((2, 3)), options)
    sape = dict(type="SaPE2", operand=options.operand, num_positions=3)
    if case == "sep":
        sape["gate"] = "sep"
    assert made.encodings == [dict(type="LearnedAPE"), sape]
    assert "LayerScale" in made.left["blocks.1.gamma_2"]
    back = convert(made.state, to="cope-vit", options=Options(encodings=made.encodings))
    assert back.state.keys() == {n for n in source.state_dict() if not n.startswith("head")}
    again = convert(back.state, options=options)
    torch.testing.assert_close(again.state, made.state, rtol=0, atol=0)


def test_cope_vit_tells_operands_and_axes():
    source, options = cope(), Options(grid=(2, 3), num_heads=HEADS, operand="q")
    with pytest.raises(AssertionError, match="not close"):
        same(source, convert(source.state_dict(), options=options), images((2, 3)), options)
    made = convert(source.state_dict(), options=Options(grid=(2, 3), num_heads=HEADS))
    for i in range(DEPTH):
        x, y = (f"blocks.{i}.attn.pos.sape2.table_{axis}" for axis in "xy")
        made.state[x], made.state[y] = made.state[y], made.state[x]
    with pytest.raises(AssertionError, match="not close"):
        same(source, made, images((2, 3)), atol=1e-3)


def test_each_is_found_out():
    states = {
        "irpe-deit": irpe(),
        "rope-vit": RopeViT(mixed=True, ape=True, grid=GRID),
        "rope-vit-axial": RopeViT(mixed=False, ape=False, grid=GRID),
        "cope-vit": cope(),
    }
    assert {name: detect(model.state_dict()).name for name, model in states.items()} == {
        name: name for name in states
    }
    assert states.keys() <= LAYOUTS.keys()


def errors():
    rope = RopeViT(mixed=True, ape=False, grid=GRID).state_dict()
    plain = convert(rope, options=OPTIONS)
    known = Options(grid=GRID, encodings=plain.encodings)
    stretched = Options(grid=GRID, encodings=[dict(type="RoPE", coords="normalized")])
    sape = convert(cope().state_dict(), options=Options(grid=(2, 3)))
    rms = Options(encodings=[dict(type="SaPE2", normalize="rms")])
    sep = Options(encodings=[dict(type="SaPE2", gate="sep")])
    learned = cope(operand="q", sep=True).state_dict()
    few = {**rope, "freqs": rope["freqs"][:, :1]}
    less = {n: t for n, t in irpe().state_dict().items() if "blocks.1.attn.rpe" not in n}
    more = {**irpe().state_dict(), "blocks.0.ls1.gamma": torch.ones(EMBED)}
    return {
        "source": (rope, dict(source="irpe-deit"), "missing: .*rpe.*It looks like rope-vit$"),
        "freqs": (few, {}, "frequencies of 1 blocks, where there are 2"),
        "missing": (less, {}, "missing: blocks.1.attn.rpe_k.lookup_table_weight"),
        "over": (more, {}, r"left over: blocks.0.ls1.gamma \(16,\)"),
        "grid": (irpe().state_dict(), dict(options=Options()), "give the training grid, --grid"),
        "heads": (rope, dict(options=Options(num_heads=3)), "give --num-heads"),
        "learned": (learned, dict(options=Options(grid=(2, 3))), "give --operand q"),
        "other": (plain.state, dict(to="cope-vit", options=known), "cannot express RoPE"),
        "indices": (plain.state, dict(to="rope-vit", options=Options(encodings=plain.encodings)),
                    "indices of the training grid .* --grid HEIGHT WIDTH"),
        "coords": (plain.state, dict(to="rope-vit", options=stretched), "not 'normalized'"),
        "axial": (plain.state, dict(to="rope-vit-axial", options=known), "has variant='axial'"),
        "normalize": (sape.state, dict(to="cope-vit", options=rms), "normalize='none', not 'rms'"),
        "sep": (sape.state, dict(to="cope-vit", options=sep), "has the operand q, not k"),
    }  # fmt: skip


def test_errors_name_what_is_wrong():
    for state, arguments, message in errors().values():
        with pytest.raises(ValueError, match=message):
            convert(state, **{"options": OPTIONS, **arguments})
