"""Every leaf builds, and leaves of one pipeline differ in the encoding alone."""

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope, init_default_scope
from torch import nn

from mmplugins.engine import SeedSample

CONFIGS = Path(__file__).parents[1] / "configs"
LEAVES = sorted(CONFIGS.glob("[a-z]*/*.py"))
CPVT_LEAVES = [leaf for leaf in LEAVES if leaf.name.startswith("cpvt-")]
VIT_LEAVES = [leaf for leaf in LEAVES if "vit-" in leaf.name] + CPVT_LEAVES
PIPELINES = [leaf for leaf in LEAVES if "-nope_" in leaf.name]
ENCODINGS = {
    "nope": [],
    "sine": [dict(type="DetrSine")],
    "ape": [dict(type="LearnedAPE")],
    "sincos": [dict(type="SinCos2D")],
    "peg": [dict(type="PEG")],
    "rope-axial": [dict(type="RoPE")],
    "rope-mixed": [dict(type="RoPE", variant="mixed")],
    "rpb": [dict(type="RelativePositionBias")],
    "cpb": [dict(type="LogCPB")],
    "cope": [dict(type="CoPE")],
    "irpe-k": [dict(type="IRPE")],
    "irpe-qkv": [dict(type="IRPE", on="qkv")],
    "sape2": [dict(type="SaPE2")],
}
WITHOUT_PARAMETERS = [ENCODINGS[token][0] for token in ("sine", "sincos", "rope-axial")]
DETR_OPTIONS = {  # as published; and a table that does not depend on what an image is padded to
    "IRPE": dict(ratio=2.0),
    "RelativePositionBias": dict(resize="clamp"),
}
CPVT = {  # arch, channels, parameters of the DeiT of that size
    "t": ("tiny", 192, 5_717_416),
    "s": ("small", 384, 22_050_664),
    "b": ("base", 768, 86_567_656),
}
ROOTS = {
    "coco": ("MMPLUGINS_COCO", "data/coco"),
    "ade20k": ("MMPLUGINS_ADE20K", "data/ade/ADEChallengeData2016"),
    "nuclei": ("MMPLUGINS_NUCLEI", "data/nuclei"),
    "camvid": ("MMPLUGINS_CAMVID", "data/camvid"),
    "synthetic": ("MMPLUGINS_SYNTHETIC", "data/synthetic"),
    "in1k": ("MMPLUGINS_IMAGENET", "data/imagenet"),
}


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default data roots, and the process's scope back after the test."""
    for variable, _ in ROOTS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(DefaultScope, "_instance_dict", DefaultScope._instance_dict.copy())


def name_of(leaf: Path) -> str:
    return leaf.stem


def encoder_of(cfg: Config) -> dict:
    """The part of the model that holds the list."""
    return cfg.model.get("encoder") or cfg.model.backbone


def datasets(cfg: Config) -> Iterator[dict]:
    for phase in ("train", "val", "test"):
        yield cfg[f"{phase}_dataloader"].dataset


def enter_scope(cfg: Config) -> None:
    """Let types be looked up in the config's host; skip where it is not installed."""
    pytest.importorskip(cfg.default_scope)
    init_default_scope(cfg.default_scope)


def build(cfg: Config) -> BaseModel:
    enter_scope(cfg)
    with torch.device("meta"):  # shapes alone: nothing is allocated, initialised or downloaded
        return MODELS.build(deepcopy(cfg.model))


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf not in CPVT_LEAVES], ids=name_of)
def test_leaf_is_its_pipeline_with_another_encoding(leaf: Path) -> None:
    token = re.search(r"(?:r\d+|vit-[a-z]+16)-([a-z0-9-]+)_", leaf.stem)[1]
    pipeline = leaf.with_name(leaf.name.replace(f"-{token}_", "-nope_"))
    assert pipeline in PIPELINES
    ours, base = Config.fromfile(leaf), Config.fromfile(pipeline)
    encodings = encoder_of(ours).pop("position_encodings")
    before, rest, after = re.fullmatch(r"(?:(sine)-)?(.+?)(?:-(ape))?", token).groups()
    expected = [cfg for part in (before, rest, after) if part for cfg in ENCODINGS[part]]
    options = DETR_OPTIONS if "detr" in leaf.parent.name else {}
    assert encodings == [cfg | options.get(cfg["type"], {}) for cfg in expected]
    assert encoder_of(base).pop("position_encodings") == []
    assert ours.to_dict() == base.to_dict()


@pytest.mark.parametrize("leaf", CPVT_LEAVES, ids=name_of)
def test_cpvt_is_the_vit_pipeline_with_peg(leaf: Path) -> None:
    size, gap = re.match(r"cpvt-([tsb])16(-gap)?_", leaf.name).groups()
    arch, channels, _ = CPVT[size]
    ours = Config.fromfile(leaf)
    base = Config.fromfile(leaf.with_name(f"vit-s16-nope_{leaf.name.partition('_')[2]}"))
    base.model.backbone.update(
        arch=arch, with_cls_token=not gap, position_encodings=[dict(type="PEG")]
    )
    base.model.neck.update(in_channels=[channels] * 4, out_channels=channels)
    base.model.decode_head.in_channels = [channels] * 4
    base.model.auxiliary_head.in_channels = channels
    assert ours.to_dict() == base.to_dict()


@pytest.mark.parametrize("leaf", CPVT_LEAVES, ids=name_of)
def test_cpvt_is_deit_with_peg_for_its_table(leaf: Path) -> None:
    """And without classifier and last norm, as every backbone here."""
    size, gap = re.match(r"cpvt-([tsb])16(-gap)?_", leaf.name).groups()
    _, channels, deit = CPVT[size]
    table, classifier, norm = 197 * channels, 1000 * (channels + 1), 2 * channels
    expected = deit - table - classifier - norm + 10 * channels - (channels if gap else 0)
    backbone = build(Config.fromfile(leaf)).backbone
    assert sum(p.numel() for p in backbone.parameters()) == expected


@pytest.mark.parametrize("leaf", [leaf for leaf in CPVT_LEAVES if "-t16" in leaf.name], ids=name_of)
def test_cpvt_tiny_runs_at_any_size(leaf: Path) -> None:
    backbone = MODELS.build(Config.fromfile(leaf).model.backbone).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 90))
    assert [m.shape for m in maps] == [(1, 192, 4, 6)] * 4


@pytest.mark.parametrize("leaf", LEAVES, ids=name_of)
def test_leaf_builds_and_its_parameter_rules_apply(leaf: Path) -> None:
    cfg = Config.fromfile(leaf)
    names = [f".{name}" for name, _ in build(cfg).named_parameters()]
    rules = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert rules[".pos."] == dict(decay_mult=0.0)
    encoder = encoder_of(cfg)
    used = {
        ".pos.": any(e not in WITHOUT_PARAMETERS for e in encoder.position_encodings),
        "cls_token": encoder.get("with_cls_token", False),
        "reg_token": encoder.get("num_registers", 0) > 0,
    }
    for key in rules:
        assert any(key in name for name in names) == used.get(key, True), key


@pytest.mark.parametrize("leaf", VIT_LEAVES, ids=name_of)
def test_norms_and_encodings_of_vits_do_not_decay(leaf: Path) -> None:
    cfg = Config.fromfile(leaf)
    if cfg.default_scope != "mmdet":  # whose windows hold no such tokens
        cfg.model.backbone.update(with_cls_token=True, num_registers=1)
    biases = cfg.default_scope == "mmpretrain"  # DeiT's do not decay either
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decays = {
        id(p): group["weight_decay"] for group in wrapper.param_groups for p in group["params"]
    }
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    free = {
        id(p)
        for module in model.modules()
        if isinstance(module, norms)
        for p in module.parameters()
    }
    assert free
    for name, parameter in model.named_parameters():
        exempt = id(parameter) in free or any(
            p in name for p in (".pos.", "cls_token", "reg_token")
        )
        exempt |= biases and name.endswith(".bias")
        assert (decays[id(parameter)] == 0) == exempt, name


@pytest.mark.parametrize("leaf", PIPELINES, ids=name_of)
def test_heads_have_a_place_for_each_class(leaf: Path) -> None:
    cfg = Config.fromfile(leaf)
    enter_scope(cfg)
    counts = set(re.findall(r"num_classes=(\d+)", Config(dict(model=cfg.model)).pretty_text))
    for dataset in datasets(cfg):
        with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
            known = registry.get(dataset.type).METAINFO
        classes = dataset.get("metainfo", known)["classes"]
        assert counts == {str(len(classes))}


@pytest.mark.parametrize("leaf", PIPELINES, ids=name_of)
def test_training_is_reproducible(leaf: Path) -> None:
    cfg = Config.fromfile(leaf)
    assert cfg.randomness.seed == 0
    assert cfg.custom_hooks == [dict(type="SeedIterationHook")]
    assert cfg.train_dataloader.dataset.pipeline[0] == dict(type=SeedSample.__name__)
    assert cfg.train_dataloader.sampler.type.startswith("Seeded")
    assert not cfg.get("find_unused_parameters", False)


@pytest.mark.parametrize("leaf", PIPELINES, ids=name_of)
def test_environment_moves_every_root(leaf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, default = ROOTS[re.search(r"_([a-z0-9]+)(-\d+(x\d+)?)?$", leaf.stem)[1]]
    for root in (default, "/elsewhere"):
        if root != default:
            monkeypatch.setenv(variable, root)
        cfg = Config.fromfile(leaf)
        for dataset in datasets(cfg):
            assert f"{dataset.data_root}/".startswith(f"{root}/")
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            assert evaluator.get("ann_file", f"{root}/").startswith(f"{root}/")


def test_metafiles_list_every_leaf_and_no_number() -> None:
    index = Config.fromfile(CONFIGS.parent / "model-index.yml")
    assert sorted(index.Import) == [
        str(file.relative_to(CONFIGS.parent)) for file in sorted(CONFIGS.glob("*/metafile.yml"))
    ]
    listed = []
    for file in index.Import:
        meta = Config.fromfile(CONFIGS.parent / file)
        (collection,) = meta.Collections
        for model in meta.Models:
            assert model["Name"] == Path(model["Config"]).stem
            assert model["In Collection"] == collection["Name"]
            assert "Results" not in model
            listed.append(CONFIGS.parent / model["Config"])
    assert sorted(listed) == LEAVES
