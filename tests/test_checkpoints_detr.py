"""DETR of its authors, with iRPE or without, against our detector with the converted weights."""

import copy
from functools import cache

import pytest
import torch

import mmplugins.registry  # noqa: F401
from mmplugins.checkpoints.command import main
from mmplugins.checkpoints.convert import convert, detect
from mmplugins.checkpoints.layout import Options

pytest.importorskip("mmdet")
pytest.importorskip("torchvision")
from mmdet.registry import MODELS as HOST_MODELS
from mmdet.utils import register_all_modules
from official_detr import WIDTHS, Official, irpe, official, sine
from test_detr import batch, config, raw

pytestmark = pytest.mark.family
SHAPES = [(64, 384), (96, 160)]
USED = [
    *range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70,
    *range(72, 83), *range(84, 91), 91,
]  # fmt: skip
EUCLIDEAN, QUANTISATION = (Options(method=name) for name in ("euclidean", "quantisation"))


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


def test_detectors_are_known_by_their_names():
    theirs = official(on="qk").state_dict()
    assert detect({f"module.{name}": t for name, t in theirs.items()}).name == "detr"
    assert detect(convert(theirs).state).name == "mmplugins-detr"
    assert detect(build("DETR").state_dict()).name == "mmdet-detr"


def test_a_written_file_says_which_layout_it_is_in(tmp_path):
    """There and back by the command, which believes the file; DETR's `mmplugins` is a detector."""
    theirs = official(on="k").state_dict()
    first, ours, last = (str(tmp_path / name) for name in ("first.pth", "ours.pth", "last.pth"))
    torch.save(dict(model=theirs), first)
    main([first, ours])
    main([ours, last, "--to", "detr"])
    equal(torch.load(last)["model"], theirs)
