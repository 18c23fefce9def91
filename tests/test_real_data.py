"""Real pictures through our configs; skipped without MMPLUGINS_DATA."""

import json

import pytest
import torch
from layers import CASES, case_id
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from tool_runs import ROOT

from mmplugins.registry import MODELS

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
DEFAULTS = [cfg for cfg in CASES if len(cfg) == 1]


def load(path, monkeypatch, **roots):
    for name, folder in roots.items():
        assert folder.is_dir()
        monkeypatch.setenv(f"MMPLUGINS_{name}", str(folder))
    return Config.fromfile(ROOT / "configs" / path)


@pytest.mark.parametrize("encoding", [None, *DEFAULTS], ids=lambda e: case_id(e) if e else "none")
def test_ade20k_pictures_of_three_shapes_are_scored(encoding, data_root, tmp_path, monkeypatch):
    cfg = load(
        "upernet/vit-s16-nope_mln_upernet_8xb2-160k_ade20k-512x512.py",
        monkeypatch,
        ADE20K=data_root / "ade20k_sample",
    )
    cfg.model.backbone.update(
        arch=dict(embed_dims=32, depth=4, num_heads=2),
        out_indices=(0, 1, 2, 3),
        position_encodings=[encoding] if encoding else [],
    )
    cfg.model.neck.update(in_channels=[32] * 4, out_channels=16)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(channels=16, in_channels=16 if head is cfg.model.auxiliary_head else [16] * 4)
    cfg.test_dataloader.num_workers = 0
    cfg.test_dataloader.dataset.pipeline[1] = dict(type="Resize", scale_factor=0.5, keep_ratio=True)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = f"ade_{encoding and encoding['type']}"
    runner = Runner.from_cfg(cfg)
    scores = runner.test()
    sizes = {sample["inputs"].shape[1:] for sample in runner.test_dataloader.dataset}
    assert len(sizes) == 3
    assert all(height != width for height, width in sizes)
    assert 0 <= scores["mIoU"] <= scores["mAcc"] <= 100


@pytest.mark.parametrize("leaf", ["sine-irpe-k", "sape2"])
def test_detr_learns_from_a_padded_batch_of_coco(leaf, data_root, monkeypatch):
    """Two real images of different shapes; three steps on them lower the loss."""
    cfg = load(f"detr/detr_r50-{leaf}_8xb2-150e_coco.py", monkeypatch, COCO=data_root / "coco_tiny")
    init_default_scope("mmdet")
    cfg.model.backbone.update(depth=18, init_cfg=None, frozen_stages=-1)
    cfg.model.neck.in_channels = [512]
    cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 2
    cfg.train_dataloader.dataset.pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(213, 160), keep_ratio=True),
        dict(type="PackDetInputs"),
    ]
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    shapes = {tuple(dataset[i]["inputs"].shape): i for i in range(len(dataset))}
    wide = next(i for shape, i in shapes.items() if shape[1] < shape[2])
    high = next(i for shape, i in shapes.items() if shape[1] > shape[2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(4):
        torch.manual_seed(0)  # the same dropout, so that only learning lowers the loss
        data = model.data_preprocessor(pseudo_collate([dataset[wide], dataset[high]]), True)
        loss = sum(v for k, v in model(**data, mode="loss").items() if "loss" in k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("leaf", "root", "folder"),
    [
        ("mask_rcnn/mask-rcnn_vit-t16-nope_sfpn_1xb2-2e_nuclei-256x256.py", "NUCLEI", "nuclei"),
        ("detr/detr_r50-nope_8xb2-150e_coco.py", "COCO", "coco_tiny"),
    ],
)
def test_every_genuine_annotation_arrives(leaf, root, folder, data_root, monkeypatch):
    """Crowds apart, the training set holds what the file holds."""
    cfg = load(leaf, monkeypatch, **{root: data_root / folder})
    init_default_scope("mmdet")
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    name = cfg.train_dataloader.dataset.ann_file
    annotations = json.loads((data_root / folder / name).read_text())["annotations"]
    genuine = [a for a in annotations if not a.get("iscrowd")]
    assert sum(len(dataset.get_data_info(i)["instances"]) for i in range(len(dataset))) == len(
        annotations
    )
    labelled = [
        instance
        for i in range(len(dataset))
        for instance in dataset.get_data_info(i)["instances"]
        if not instance["ignore_flag"]
    ]
    assert len(labelled) == len(genuine)
