"""DETR of its authors, with iRPE or without, against our detector with the converted weights."""

import copy
import re
from functools import cache

import pytest
import torch

import mmplugins.registry  # noqa: F401
from mmplugins.checkpoints.convert import convert, detect
from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError

pytest.importorskip("mmdet")
pytest.importorskip("torchvision")
from mmdet.registry import MODELS as HOST_MODELS
from mmdet.utils import register_all_modules
from official_detr import WIDTHS, Official, sine
from test_detr import batch, config, raw

pytestmark = pytest.mark.family
SHAPES = [(64, 384), (96, 160)]
USED = [
    *range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70,
    *range(72, 83), *range(84, 91), 91,
]  # fmt: skip
EUCLIDEAN, QUANTISATION = (Options(method=name) for name in ("euclidean", "quantisation"))


def irpe(on="k", method="product", mode="contextual", *, shared_heads=True, ratio=2.0):
    return dict(
        type="IRPE", on=on, method=method, mode=mode, shared_heads=shared_heads, ratio=ratio
    )


@cache
def official(rows=6, mirrored=False, **options):
    return Official(rows, irpe=irpe(**options) if options else None, mirrored=mirrored)


@cache
def inputs():
    images, samples = batch(SHAPES)
    padded = torch.ones(len(SHAPES), *images.shape[2:], dtype=torch.bool)
    for mask, (height, width) in zip(padded, SHAPES, strict=True):
        mask[:height, :width] = False
    return images.double(), samples, padded


def build(kind="mmplugins.DETR", classes=5, **encoder):
    cfg = config(kind)
    cfg["backbone"].update(base_channels=WIDTHS[0], stem_channels=WIDTHS[0])
    cfg["neck"]["in_channels"] = [WIDTHS[-1]]
    cfg["bbox_head"]["num_classes"] = classes
    cfg["encoder"].update(encoder)
    model = HOST_MODELS.build(copy.deepcopy(cfg)).double().eval()
    # mmdet's sine is of single precision whatever the model's; the same in double.
    single, double = model.positional_encoding, lambda mask, **_: sine(mask)
    mask = inputs()[2][:, ::32, ::32]
    torch.testing.assert_close(single(mask).double(), sine(mask), rtol=0, atol=1e-5)
    del model.positional_encoding
    model.positional_encoding = double
    return model


def load(model, state):
    """Strictly, but for counters that models with frozen statistics do not have."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return model


def outputs(model):
    images, samples, _ = inputs()
    return raw(model, images, samples)


def difference(model, source, rows=slice(None)):
    """Of logits and boxes, the largest."""
    images, _, padded = inputs()
    logits, boxes = source(images, padded)
    ours = outputs(model)
    return max((a - b).abs().max() for a, b in zip(ours, (logits[..., rows], boxes), strict=True))


@pytest.fixture(autouse=True)
def _mmdet_scope():
    register_all_modules()


KINDS = [
    (irpe(), Options()),
    (irpe("qk", ratio=1.9, shared_heads=False), Options()),
    (irpe("qkv"), Options()),
    (irpe("kv", "cross", ratio=2.5, shared_heads=False), Options()),
    (irpe("qk", "cross", "bias"), Options()),
    (irpe("qkv", "euclidean", ratio=3.0), EUCLIDEAN),
    (irpe("qk", "quantisation", "bias", ratio=5.0, shared_heads=False), QUANTISATION),
]
NAMES = ["-".join(map(str, list(encoding.values())[1:])) for encoding, _ in KINDS]


@pytest.mark.parametrize(("encoding", "options"), KINDS, ids=NAMES)
def test_irpe_detr_becomes_ours(encoding, options):
    source = Official(6, irpe=encoding)
    converted = convert(source.state_dict(), options=options)
    assert (converted.source, converted.left) == ("detr", {})
    assert converted.encodings == [dict(type="DetrSine"), encoding]
    model = load(build(position_encodings=converted.encodings), converted.state)
    assert difference(model, source) < 1e-10


def test_official_detr_becomes_mmdets_and_ours():
    source = official()
    for to, kind in (("mmdet-detr", "DETR"), ("mmplugins", "mmplugins.DETR")):
        converted = convert(source.state_dict(), to=to)
        assert converted.encodings == [dict(type="DetrSine")]
        encoder = {} if kind == "DETR" else dict(position_encodings=converted.encodings)
        assert difference(load(build(kind, **encoder), converted.state), source) < 1e-10


@pytest.mark.parametrize("on", "qkv")
def test_mirrored_buckets_would_be_seen(on):
    """The tests above can fail: b(j, i) for b(i, j)."""
    source = official(mirrored=True, on=on)
    converted = convert(source.state_dict())
    model = load(build(position_encodings=converted.encodings), converted.state)
    assert difference(model, source) > 1e-3


def test_cocos_head_loses_the_rows_that_ids_leave_unused():
    source = official(rows=92)
    converted = convert(source.state_dict(), to="mmdet-detr")
    state, lost = converted.state, "0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83"
    assert converted.left == {f"class_embed: rows {lost}": "of ids that COCO does not use"}
    assert len(USED) == 81
    assert difference(load(build("DETR", classes=80), state), source, rows=USED) < 1e-10


def test_cocos_head_gets_rows_that_take_no_probability():
    stock = build("DETR", classes=80)
    state = convert(stock.state_dict(), to="detr").state
    source = official(rows=92)
    source = copy.deepcopy(source)
    source.load_state_dict(state)
    assert difference(stock, source, rows=USED) < 1e-10
    logits, _ = source(*inputs()[::2])
    unused = logits.softmax(-1)[..., sorted({*range(92)} - {*USED})].sum(-1)
    bound = 11 * (-20 - logits.amax(-1)).exp()
    assert len({*range(92)} - {*USED}) == 11
    assert (unused > 0).all()
    assert (unused <= bound * (1 + 1e-9)).all()


@pytest.mark.parametrize(("rows", "classes"), [(92, 91), (6, 5), (81, 80)])
def test_other_numbers_of_classes_stay(rows, classes):
    state = official(rows=rows).state_dict()
    head = convert(state, options=Options(classes=classes)).state["bbox_head.fc_cls.weight"]
    assert torch.equal(head, state["class_embed.weight"])


def equal(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize(("encoding", "options"), [(None, Options()), *KINDS], ids=["none", *NAMES])
def test_there_and_back_is_the_identity(encoding, options):
    state = convert(Official(6, irpe=encoding).state_dict(), options=options).state
    theirs = convert(state, source="mmplugins-detr", to="detr").state
    equal(convert(theirs, source="detr", options=options).state, state)
    again = convert(convert(theirs, options=options).state, source="mmplugins-detr", to="detr")
    equal(again.state, theirs)


def test_mmdets_statistics_lose_their_counters():
    stock = build("DETR").state_dict()
    converted = convert(stock, to="detr")
    assert converted.left
    assert all(name.endswith("num_batches_tracked") for name in converted.left)
    back = convert(converted.state, to="mmdet-detr").state
    equal(back, {name: tensor for name, tensor in stock.items() if name not in converted.left})


def test_resnet_50_has_the_names_of_mmdets():
    resnet = pytest.importorskip("torchvision.models").resnet50
    from torchvision.ops import FrozenBatchNorm2d

    state = official().state_dict()
    state = {name: t for name, t in state.items() if not name.startswith("backbone.")}
    with torch.device("meta"):
        body = resnet(norm_layer=FrozenBatchNorm2d).state_dict()
        stock = HOST_MODELS.build(dict(type="ResNet", depth=50, style="pytorch")).state_dict()
    body = {f"backbone.0.body.{n}": t for n, t in body.items() if not n.startswith("fc.")}
    ours = convert({**state, **body}).state
    ours = {n.removeprefix("backbone."): t.shape for n, t in ours.items() if "backbone." in n}
    assert ours == {n: t.shape for n, t in stock.items() if "num_batches" not in n}


def refused(state, message, **options):
    with pytest.raises(LayoutError, match=message):
        convert(state, **options)


def test_detectors_are_known_by_their_names():
    theirs = official(on="qk").state_dict()
    assert detect({f"module.{name}": t for name, t in theirs.items()}).name == "detr"
    assert detect(convert(theirs).state).name == "mmplugins-detr"
    assert detect(build("DETR").state_dict()).name == "mmdet-detr"


@pytest.mark.parametrize("source", ["detr", "mmdet-detr"])
def test_a_truncated_file_is_an_error_that_names_what_is_missing(source):
    """Each name in turn, but in mmdet's backbone, which may be any."""
    state = official(on="qkv").state_dict() if source == "detr" else build("DETR").state_dict()
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
