"""What is refused when DETR is converted, and whether the message names what is wrong."""

import re

import pytest
import torch

from mmplugins.checkpoints.convert import convert
from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError

pytest.importorskip("torchvision")
from official_detr import Official, irpe, official

EUCLIDEAN = Options(method="euclidean")


def refused(state, message, **options):
    with pytest.raises(LayoutError, match=message):
        convert(state, **options)


@pytest.mark.parametrize("source", ["detr", "mmdet-detr"])
def test_a_truncated_file_is_an_error_that_names_what_is_missing(source):
    """Each name in turn, but in mmdet's backbone, which may be any."""
    tables = dict(on="qkv") if source == "detr" else {}
    state = convert(official(**tables).state_dict(), to=source).state
    names = [n for n in state if source == "detr" or not n.startswith("backbone.")]
    for name in names:
        rest = {other: tensor for other, tensor in state.items() if other != name}
        refused(rest, f"missing: .*{re.escape(name)}", source=source)


def test_a_stray_tensor_and_a_wrong_source_are_named():
    state = official().state_dict()
    stray = {"transformer.encoder.norm.weight": torch.ones(32)}
    refused({**state, **stray}, r"left over: transformer\.encoder\.norm\.weight \(32,\)")
    refused(state, "It looks like detr", source="mmdet-detr")
    refused(state, "of detr, timm of vit", to="timm")


@pytest.mark.parametrize(("rows", "classes"), [(92, 20), (6, 80), (81, 91)])
def test_another_number_of_classes_is_an_error(rows, classes):
    theirs = official(rows=rows).state_dict()
    ours = convert(theirs, options=Options(classes=rows - 1)).state
    message = f"{rows - 1} classes and no object, not {classes} classes"
    for state, to in ((theirs, "mmplugins"), (ours, "detr")):
        refused(state, message, to=to, options=Options(classes=classes))


def with_tables(**tables):
    """DETR with iRPE's tables of these names and shapes in both layers."""
    places = [f"transformer.encoder.layers.{i}.self_attn." for i in range(2)]
    named = {name.replace("__", "."): shape for name, shape in tables.items()}
    extra = {at + name: torch.rand(shape) for at in places for name, shape in named.items()}
    return {**official().state_dict(), **extra}


def test_tables_that_no_iRPE_of_theirs_has_are_errors():  # noqa: N802
    k, q = "rpe_k__lookup_table_weight", "rpe_q__lookup_table_weight"
    refused(with_tables(**{k: (1, 8, 50)}), "50 buckets .* product has the square of an odd number")
    refused(with_tables(**{k: (1, 8, 64)}), "64 buckets")
    refused(with_tables(**{k: (1, 8, 13)}), "--method euclidean or quantisation")
    refused(with_tables(**{k: (1, 8, 12)}), "euclidean has an odd", options=EUCLIDEAN)
    refused(with_tables(**{k: (1, 8, 49), q: (4, 8, 49)}), "differ in .*heads")
    refused(with_tables(rpe_k__rp_rows__lookup_table_bias=(1, 7)), "missing: .*rp_cols")
    state = with_tables(**{k: (1, 8, 49)})
    refused(state, "ratio 2.5 to 5", options=Options(ratio=2.5))
    assert convert(state, options=Options(ratio=1.6)).encodings[1]["ratio"] == 1.6


def test_a_table_half_of_zeros_is_not_taken_for_products():
    state = Official(6, irpe=irpe(method="euclidean", ratio=20.0)).state_dict()
    for name in [name for name in state if "rpe_k" in name]:
        state[name][..., :40] = 0.0
    refused(state, "half of iRPE's buckets is zero.*--method euclidean or quantisation")
    assert convert(state, options=EUCLIDEAN).encodings[1]["ratio"] == 20.0


@pytest.mark.parametrize(
    ("encodings", "to", "message"),
    [
        ([irpe()], "detr", "one DetrSine, but the model has 0"),
        ([dict(type="DetrSine", temperature=20)], "detr", "temperature 10000 and no other"),
        ([dict(type="DetrSine"), {**irpe(), "index": "clip"}], "detr", "no index clip"),
        ([dict(type="DetrSine"), {**irpe(), "k": dict(index="clip")}], "detr", "no index clip"),
        (
            [dict(type="DetrSine"), dict(type="SaPE2")],
            "detr",
            "cannot express SaPE2, only DetrSine",
        ),
        ([dict(type="DetrSine"), irpe()], "mmdet-detr", "cannot express IRPE"),
        ([], "mmdet-detr", r"left over: .*pos\.irpe\.sides\.k\.tables\.product"),
    ],
)
def test_what_the_authors_or_mmdet_cannot_express_is_named(encodings, to, message):
    ours = convert(official(on="k").state_dict()).state
    refused(ours, message, to=to, options=Options(encodings=encodings))


def test_sides_of_ours_that_differ_cannot_be_theirs():
    ours = convert(official(on="qk").state_dict()).state
    for i in range(2):
        at = f"encoder.layers.{i}.self_attn.pos.irpe.sides.q.tables.product"
        ours[at] = ours[at][0]
    refused(ours, "same options for all sides.*'bias'.*'contextual'", to="detr")
