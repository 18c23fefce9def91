"""DETR told where the content lies: exact with the sine of valid regions, and only with it."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
from mmdet.registry import MODELS as HOST_MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from strided_backbone import STRIDE, Patches
from test_detr import config

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.features.affinity import IGNORE
from mmplugins.evaluation.features.levels import watching
from mmplugins.evaluation.features.pairs import affinity_sums
from mmplugins.evaluation.inference.padding import padding_told
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.visualise.record import recording

HEIGHT, WIDTH = 32, 44  # the last cell of a row is half filled
PLAN = Plan(
    mode="masked_canvas",
    sets=(ShiftSet("some", ((8, 16), (-24, 8), (16, -24))),),
    period=STRIDE,
    divisor=STRIDE,
)


@pytest.fixture
def build(float64):
    register_all_modules()

    def build(kind, encodings=None, **options):
        cfg = config(kind, test_cfg=dict(max_per_img=7), **options)
        cfg["backbone"] = dict(type=Patches)
        if encodings is not None:
            cfg["encoder"].update(position_encodings=encodings, grid=(10, 12))
        torch.manual_seed(0)
        model = HOST_MODELS.build(copy.deepcopy(cfg))
        model.init_weights()
        for parameter in model.encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        for parameter in model.bbox_head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model.double().eval()

    return build


def views():
    return torch.stack(PLAN.views(torch.rand(3, HEIGHT, WIDTH), torch.full((3,), 0.5)))


def samples(pictures, content):
    """What the engine tells: img_shape is the size of the content."""
    size = tuple(pictures.shape[-2:])
    facts = dict(
        img_shape=content, ori_shape=content, scale_factor=(1.0, 1.0), batch_input_shape=size
    )
    return [DetDataSample(metainfo=dict(facts)) for _ in pictures]


def errors(model, *, masked):
    """The largest relative error of tokens at each level, and of boxes in parts of the content."""
    pictures = views()
    size = tuple(pictures.shape[-2:])
    told = samples(pictures, (HEIGHT, WIDTH) if masked else size)
    valid = PLAN.valid(HEIGHT, WIDTH)
    telling = padding_told(model, valid) if masked else nullcontext()
    with watching(model) as levels, telling, torch.no_grad():
        found = model(pictures, told, mode="predict")
    margin, rows, cols = PLAN.frame.margin // STRIDE, HEIGHT // STRIDE, -(-WIDTH // STRIDE)
    corners = [(margin + dy // STRIDE, margin + dx // STRIDE) for dy, dx in [(0, 0), *PLAN.shifts]]
    result = {}
    for name, level in levels.items():
        reference, *others = (
            each[:, top : top + rows, left : left + cols]
            for each, (top, left) in zip(level, corners, strict=True)
        )
        result[name] = max((other - reference).abs().max() for other in others) / reference.std()
    reference, *others = (
        sample.pred_instances.bboxes - (0 if masked else torch.tensor([dx, dy, dx, dy]))
        for sample, (dy, dx) in zip(found, [(0, 0), *PLAN.shifts], strict=True)
    )
    assert reference.std() > 1  # they are not all the same
    result["boxes"] = max((other - reference).abs().max() for other in others) / HEIGHT
    return {name: float(error) for name, error in result.items()}


DETECTORS = [("DETR", None), ("mmplugins.DETR", [dict(type="DetrSine")])]


@pytest.mark.parametrize(("kind", "encodings"), DETECTORS)
def test_the_sine_of_the_content_is_exact_under_masked_canvas_alone(build, kind, encodings):
    model = build(kind, encodings)
    told, plain = errors(model, masked=True), errors(model, masked=False)
    assert list(told) == ["backbone.0", "neck.0", "encoder.0", "encoder.1", "boxes"]
    assert max(told.values()) < 1e-12
    assert plain["backbone.0"] < 1e-12
    assert min(plain[name] for name in ("encoder.0", "encoder.1", "boxes")) > 1e-3


@pytest.mark.parametrize("encodings", [[dict(type="SaPE2")], [dict(type="IRPE")], []])
def test_what_reads_no_absolute_place_is_exact_under_masked_canvas(build, encodings):
    assert max(errors(build("mmplugins.DETR", encodings), masked=True).values()) < 1e-12


def test_conditional_detr_is_exact_too(build):
    """In float32, the only one that mmdet's decoder knows."""
    torch.set_default_dtype(torch.float32)
    model = build("mmplugins.ConditionalDETR", [dict(type="DetrSine")]).float()
    assert max(errors(model, masked=True).values()) < 1e-5
    assert min(list(errors(model, masked=False).values())[2:]) > 1e-3


def test_a_learned_table_is_not_exact(build):
    told = errors(build("mmplugins.DETR", [dict(type="LearnedAPE")]), masked=True)
    assert min(told[name] for name in ("encoder.0", "encoder.1", "boxes")) > 1e-3


def test_affinity_is_the_same_wherever_the_content_lies(build):
    """Layers of an encoder, whose attention reads patches of the content alone."""
    model, pictures = build("mmplugins.DETR", [dict(type="SaPE2")]), views()
    labels = torch.randint(0, 3, (HEIGHT // STRIDE, WIDTH // STRIDE + 1)).long()
    labels = labels.repeat_interleave(STRIDE, 0).repeat_interleave(STRIDE, 1)[:, :WIDTH]
    valid = PLAN.valid(HEIGHT, WIDTH)
    with watching(model) as levels, recording(model) as inputs, padding_told(model, valid):
        model(pictures, samples(pictures, (HEIGHT, WIDTH)), mode="predict")
    sums = []
    for view, content in enumerate(valid):
        known = torch.full(content.shape, IGNORE)
        known[content] = labels.flatten()
        maps = {name: level[view] for name, level in levels.items()}
        sums.append(affinity_sums(model, maps, inputs, known.numpy(), image=view))
    kinds = ("cosine", "attention", "bias")
    names = [f"affinity/encoder.{layer}/{kind}" for layer in (0, 1) for kind in kinds]
    assert list(sums[0]) == names
    for name in names:
        assert sums[0][name][1, :2].all()
        assert all(np.array_equal(sums[0][name], other[name]) for other in sums[1:])


@pytest.mark.parametrize(("kind", "encodings"), DETECTORS)
def test_content_at_the_top_left_is_what_mmdet_thinks_anyway(build, kind, encodings):
    model, pictures = build(kind, encodings), views()[:2]
    told = samples(pictures, (HEIGHT, WIDTH))
    valid = torch.zeros(pictures.shape[-2:], dtype=torch.bool)
    valid[:HEIGHT, :WIDTH] = True
    with torch.no_grad():
        expected = [s.pred_instances.bboxes for s in model(pictures, told, mode="predict")]
        with padding_told(model, [valid, valid]):
            given = [s.pred_instances.bboxes for s in model(pictures, told, mode="predict")]
        after = [s.pred_instances.bboxes for s in model(pictures, told, mode="predict")]
    for boxes in (given, after):
        assert all(map(torch.equal, boxes, expected))


def test_without_position_of_the_keys_there_is_none(build):
    model = build("mmplugins.DETR", [], decoder_pos=False)
    feat, valid = torch.randn(1, 32, 4, 5), torch.ones(32, 40, dtype=torch.bool)
    with padding_told(model, [valid]):
        _, decoder = model.pre_transformer((feat,), samples(torch.zeros(1, 3, 32, 40), (32, 40)))
    assert not decoder["memory_pos"].any()
    assert "pre_transformer" not in vars(model)


def test_other_models_and_batches_are_refused(build):
    valid = torch.ones(32, 32, dtype=torch.bool)
    with (
        pytest.raises(InputError, match="Linear is none: use --mode canvas or window"),
        padding_told(torch.nn.Linear(1, 1), [valid]),
    ):
        pass
    model, pictures = build("DETR"), torch.zeros(2, 3, 32, 32)
    with (
        padding_told(model, [valid]),
        pytest.raises(InputError, match="a batch of 2 views, but 1 masks of padding"),
    ):
        model(pictures, samples(pictures, (32, 32)), mode="predict")
    assert not model.positional_encoding._forward_pre_hooks
