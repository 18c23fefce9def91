"""What timm's train script does with a model, done with ours by timm's public functions."""

import argparse

import pytest
import timm
import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import CheckpointSaver, ModelEmaV3, ParseKwargs

import mmplugins.models.timm_vit  # noqa: F401  registers the model
from mmplugins.datasets.crops import CropOptions, make_crops
from mmplugins.models.vit import ViT

TINY = ["arch={'embed_dims':16,'depth':2,'num_heads':2}", "img_size=(64,96)"]
ENCODINGS = """position_encodings=[{"type":"LearnedAPE"}, {"type":"SaPE2"}]"""


def model_options(*words: str) -> dict:
    """As train.py reads `--model-kwargs`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
    return parser.parse_args(["--model-kwargs", *words]).model_kwargs


def create(*words: str, **options: object) -> torch.nn.Module:
    return timm.create_model(
        "mmplugins_vit", drop_rate=0.0, drop_path_rate=None, global_pool=None, **options,
        **model_options(*TINY, *words),
    )  # fmt: skip


def test_one_epoch_on_folders_and_its_checkpoint(tmp_path) -> None:
    data = make_crops(tmp_path / "data", CropOptions(train=1, val=1))
    model = create(ENCODINGS, num_classes=8)
    config = resolve_data_config({}, model=model)
    assert config["input_size"] == (3, 64, 96)
    loader = create_loader(
        create_dataset("", root=data, split="train", is_training=True),
        **{k: config[k] for k in ("input_size", "interpolation", "mean", "std")},
        batch_size=4,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        num_workers=0,
        use_prefetcher=False,
    )
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        exempt = ".pos." in name or parameter.ndim == 1
        assert (decays[id(parameter)] == 0) == exempt, name
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=8)
    average = ModelEmaV3(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for images, labels in loader:
        images, labels = mixup(images, labels)
        loss = SoftTargetCrossEntropy()(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
    assert torch.isfinite(loss)
    assert not any(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    saver = CheckpointSaver(model, optimizer, model_ema=average, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=1.0)
    state = torch.load(tmp_path / "last.pth.tar", weights_only=True)["state_dict"]
    prefix = "backbone."
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    arch = dict(embed_dims=16, depth=2, num_heads=2)
    encodings = [dict(type="LearnedAPE"), dict(type="SaPE2")]
    backbone = ViT(arch, img_size=(80, 64), out_indices=(1,), position_encodings=encodings)
    backbone.load_state_dict(state)  # at another grid; strict
    assert torch.equal(backbone.norm.weight, model.backbone.norm.weight)


def test_options_that_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="positon_encodings"):
        create("positon_encodings=[]")
    for arch in ("huge", "{'embed_dims':16}"):
        with pytest.raises(ValueError, match=r"arch.*embed_dims, depth, num_heads"):
            create(f"arch={arch}")
    with pytest.raises(ValueError, match="mmplugins_vit has no public weights"):
        create(pretrained=True)
