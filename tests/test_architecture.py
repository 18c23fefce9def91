"""The tree is the architecture: who may import whom."""

import ast
from pathlib import Path

import pytest

import mmplugins

PACKAGE = Path(mmplugins.__file__).parent
HOSTS = {"mmcv", "mmdet", "mmpretrain", "mmseg"}
ENCODINGS = {"position_encodings", "bias", "buckets", "grid", "precision", "registry"}
MAY_IMPORT = {  # each part of the numeric core, and the parts of the package it stands on
    "grid": set(),
    "buckets": {"grid"},
    "precision": set(),
    "bias": {"buckets", "grid", "precision"},
    "registry": set(),
    "kernels": {"bias", "precision", "registry"},
    "position_encodings": ENCODINGS,
    "attention": {"bias", "grid", "kernels", "position_encodings"},
    "window": {"grid"},
}
# Each folder of the evaluation, and what of the evaluation it stands on besides itself.
VALUES = {"measures", "plan", "record", "shifts", "sizes", "statistics", "views"}
PARTS = {"features", "inference", "predictions", "results", "tasks"}
ABOVE = VALUES | PARTS | {"outcome", "overlays", "progress", "runs"}
EVALUATION = {
    "statistics": {"shifts"},
    "features": VALUES,
    "predictions": VALUES,
    "tasks": VALUES | {"predictions"},
    "results": VALUES,
    "inference": VALUES | {"features", "predictions", "progress"},
    "selftest": {"equivariance", "shifts"},
    "shifting": ABOVE,
    "sizing": ABOVE,
}


def files(part):
    path = PACKAGE / part
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_import_arrows_of_the_core(part):
    for file in files(part):
        for name in imports(file):
            first, _, rest = name.partition(".")
            assert first not in HOSTS | {"timm", "torchvision"}, f"{file.name} imports {name}"
            if first == "mmplugins":
                allowed = MAY_IMPORT[part] | {part}
                assert rest.partition(".")[0] in allowed, f"{file.name} imports {name}"


@pytest.mark.parametrize("part", EVALUATION)
def test_import_arrows_of_the_evaluation(part):
    for file in files(f"evaluation/{part}"):
        names = (name for name in imports(file) if name.startswith("mmplugins.evaluation."))
        for first in {name.split(".")[2] for name in names}:
            assert first in EVALUATION[part] | {part}, f"{file.name} imports {first}"


def test_conversions_are_pure():
    """Dict to dict: nothing but tensors; files and models are for the command."""
    at_work = {"command", "files", "vit_config"}
    for file in files("checkpoints"):
        names = set(imports(file))
        assert not {name.partition(".")[0] for name in names} & HOSTS, file.name
        if file.stem not in at_work:
            ours = {name for name in names if name.startswith("mmplugins.")}
            pure = {name for name in ours if name.startswith("mmplugins.checkpoints")}
            assert ours == pure, file.name
            assert not {name.rpartition(".")[2] for name in pure} & at_work, file.name


def test_only_adapters_import_the_hosts_outright():
    adapters = {"models/detr.py", "datasets/coco_metric.py", "datasets/seg_metric.py"}
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).as_posix() in adapters:
            continue
        top = [
            node
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        for node in top:
            names = (
                [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
            assert not {n.partition(".")[0] for n in names} & (HOSTS - {"mmcv"}), file
