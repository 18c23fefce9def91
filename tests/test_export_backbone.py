"""A backbone comes out of its training's checkpoint whole, and every host loads it by the lines."""

import json
import re
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from safetensors import safe_open

from mmplugins.checkpoints.command import main as convert
from mmplugins.engine.inputs import InputError
from mmplugins.export import graph
from mmplugins.export.backbone import load
from mmplugins.export.command import export, main
from mmplugins.export.snippets import config_lines, timm_lines

VIT = dict(
    type="mmplugins.ViT",
    arch=dict(embed_dims=16, depth=4, num_heads=2),
    img_size=(24, 40),
    patch_size=8,
    out_indices=(3,),
    drop_path_rate=0.1,
)
NECK = dict(type="mmplugins.SimpleFPN", in_channels=16, out_channels=8)
IMAGES = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))


class Toy(BaseModel):
    """A model with a backbone and a neck, trained to say nothing."""

    def __init__(self, backbone, neck):
        super().__init__()
        self.backbone, self.neck = MODELS.build(backbone), MODELS.build(neck)

    def forward(self, image, mode):
        return {"loss": sum(out.square().mean() for out in self.neck(self.backbone(image[None])))}


def config(encodings=(), **options):
    backbone = dict(VIT, position_encodings=list(encodings), **options)
    images = dict(type="ImgDataPreprocessor", mean=[1.5, 2, 3], std=[4, 5, 6], bgr_to_rgb=True)
    model = dict(data_preprocessor=images, backbone=backbone, neck=NECK)
    return Config(dict(default_scope="mmengine", model=model))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two steps by a real Runner, with averages: the model, and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = config([dict(type="LearnedAPE"), dict(type="PEG")])
    torch.manual_seed(0)
    runner = Runner(
        model=Toy(cfg.model.backbone.to_dict(), dict(NECK)),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=list(IMAGES), batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.5)),
        custom_hooks=[dict(type="EMAHook", momentum=0.5)],
        log_level="ERROR",
        default_scope="mmengine",
        experiment_name=f"toy-{folder.name}",
    )
    runner.train()
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == "EMAHook")
    averages = hook.ema_model.module
    return SimpleNamespace(
        cfg=cfg, file=str(folder / "epoch_1.pth"), last=runner.model, averages=averages
    )


def made(cfg, tmp_path):
    """A backbone of random weights, by way of a file."""
    torch.manual_seed(1)
    module = MODELS.build(cfg.model.backbone.to_dict())
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(dict(state_dict=module.state_dict()), tmp_path / "weights.pth")
    return load(cfg, str(tmp_path / "weights.pth"), name="toy")


def test_averages_are_what_is_saved_and_the_last_weights_are_there_too(trained):
    """The hook swaps both in the file."""
    for entry, model in {None: trained.averages, "ema_state_dict": trained.last}.items():
        backbone = load(trained.cfg, trained.file, name="toy", entry=entry)
        for name, tensor in model.backbone.state_dict().items():
            assert torch.equal(backbone.state[name], tensor), (entry, name)
        for name, tensor in model.neck.state_dict().items():
            assert torch.equal(backbone.neck.state_dict()[name], tensor), (entry, name)
    saved, last = (
        load(trained.cfg, trained.file, name="", entry=entry) for entry in (None, "ema_state_dict")
    )
    assert not torch.equal(saved.state["norm.bias"], last.state["norm.bias"])
    assert saved.facts["weights"] == "averages of EMAHook"
    assert last.facts["weights"] == "of the last iteration"
    assert saved.facts["trained"] == {"epoch": 1, "iter": 2}


def test_what_it_writes_names_itself_and_its_encodings(trained, tmp_path):
    backbone = load(trained.cfg, trained.file, name="toy")
    written, _ = export(backbone, tmp_path, ["state_dict", "safetensors"])
    assert sorted(tmp_path.iterdir()) == sorted(written.values())
    for file in written.values():
        digest = sha256(file.read_bytes()).hexdigest()
        assert file.stem == f"toy-{digest[:8]}"
    content = torch.load(written["state_dict"], weights_only=True)
    assert content["state_dict"].keys() == trained.last.backbone.state_dict().keys()
    meta = content["meta"]
    assert meta["position_encodings"] == [dict(type="LearnedAPE"), dict(type="PEG")]
    assert tuple(meta["training_grid"]) == (3, 5)
    with safe_open(written["safetensors"], "pt") as file:
        assert json.loads(file.metadata()["backbone"])["img_size"] == [24, 40]


@pytest.mark.parametrize("format", ["state_dict", "safetensors"])
def test_what_it_wrote_converts_as_what_it_is(format, tmp_path, capsys):
    """With its heads and encodings without weights; its windows are not lost."""
    backbone = made(config([dict(type="RoPE")], with_cls_token=True, init_values=1.0), tmp_path)
    file = str(export(backbone, tmp_path, [format])[0][format])
    convert([file, str(tmp_path / "a.pth")])
    said = capsys.readouterr().out
    assert "untold" not in said
    assert "num_heads=2" in said
    assert "dict(type='RoPE')" in said
    convert([str(tmp_path / "a.pth"), str(tmp_path / "b.pth"), "--to", "rope-vit-axial"])
    backbone = made(config(window_size=2, global_blocks=()), tmp_path)
    file = str(export(backbone, tmp_path, [format])[0][format])
    convert([file, str(tmp_path / "c.pth")])
    assert "window_size=2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is of a ViT with windows, which timm has not"):
        convert([file, str(tmp_path / "d.pth"), "--to", "timm"])


@pytest.mark.parametrize("host", ["mmdet", "mmseg", "mmpretrain"])
def test_the_lines_of_each_host_load_it(host, trained, tmp_path, monkeypatch):
    pytest.importorskip(host)
    monkeypatch.chdir(tmp_path)
    backbone = load(trained.cfg, trained.file, name="toy")
    written, _ = export(backbone, tmp_path, ["state_dict"])
    lines = Config.fromstring(
        config_lines(backbone, written["state_dict"].name, host), file_format=".py"
    )
    model = lines.model.to_dict()
    del model["backbone"]["_delete_"]
    with (
        DefaultScope.overwrite_default_scope(host),
        MODELS.switch_scope_and_registry(host) as hosts,
    ):
        if host == "mmpretrain":
            model["head"]["num_classes"] = 7
            whole = hosts.build(dict(type="ImageClassifier", **model)).eval()
            assert whole(IMAGES).shape == (2, 7)
            loaded = whole.backbone
        else:
            loaded = hosts.build(model["backbone"]).eval()
        loaded.init_weights()
    assert len(loaded.out_indices) == (4 if host == "mmseg" else 1)
    torch.testing.assert_close(loaded(IMAGES)[-1], backbone.module(IMAGES)[-1])


@pytest.mark.parametrize(
    ("encodings", "options"),
    [
        ([dict(type="LearnedAPE")], dict(with_cls_token=True, num_registers=2, init_values=0.1)),
        ([dict(type="mmplugins.LearnedAPE")], dict(num_registers=2)),
        ([], dict(final_norm=False, qkv_bias=False, mlp_ratio=2.0)),
        ([dict(type="RoPE", variant="mixed")], dict(with_cls_token=True, init_values=0.1)),
        ([dict(type="RoPE"), dict(type="LearnedAPE")], dict(with_cls_token=True)),
        (
            [dict(type="RoPE", variant="mixed")],
            dict(num_registers=2, qkv_bias=False, final_norm=False),
        ),
    ],
)
def test_the_lines_for_timm_load_it(encodings, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = made(config(encodings, **options), tmp_path)
    written, arguments = export(backbone, tmp_path, ["timm"])
    room = {"images": IMAGES}
    exec(timm_lines(arguments, written["timm"].name), room)
    room["model"].eval()
    tokens = room["model"].forward_features(IMAGES)[:, backbone.module.dims.prefix :]
    maps = tokens.transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(maps, backbone.module(IMAGES)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("encodings", "options", "message"),
    [
        ([dict(type="SaPE2")], {}, "timm: timm cannot express SaPE2, only LearnedAPE"),
        ([], dict(window_size=2, global_blocks=()), "timm: its ViT has no windows"),
    ],
)
def test_what_timm_has_not_is_said(encodings, options, message, tmp_path):
    backbone = made(config(encodings, **options), tmp_path)
    with pytest.raises(InputError, match=message):
        export(backbone, tmp_path / "out", ["state_dict", "timm"])
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_are_named(trained, tmp_path):
    with pytest.raises(InputError, match=r"backbone does not fit the config; missing: .*sape2"):
        load(config([dict(type="SaPE2")]), trained.file, name="")
    with pytest.raises(InputError, match=r"not its own: pos\.-1\.learnedape.*pos\.0\.peg"):
        load(config(), trained.file, name="")
    made(trained.cfg, tmp_path)
    with pytest.raises(InputError, match="no weights under `ema_state_dict`"):
        load(trained.cfg, str(tmp_path / "weights.pth"), name="", entry="ema_state_dict")


def test_the_command_leaves_a_page_that_tells_all(trained, tmp_path, capsys):
    (tmp_path / "toy.py").write_text(trained.cfg.pretty_text)
    out = tmp_path / "out"
    argv = [str(tmp_path / "toy.py"), trained.file, "--out", str(out)]
    main([*argv, "--format", "safetensors,state_dict"])
    page = (out / "README.md").read_text()
    for name in re.findall(r"`(toy-[\w.]+)`", page):
        assert (out / name).is_file()
    assert '`{"type": "LearnedAPE"}`, `{"type": "PEG"}`' in page
    assert "3x5 patches" in page
    assert "Images: RGB, 0 to 255, less [1.5, 2, 3], over [4, 5, 6]." in page
    assert json.loads((out / "toy.json").read_text())["parameters"] == sum(
        parameter.numel() for parameter in trained.last.backbone.parameters()
    )
    assert str(out / "README.md") in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*argv, "--format", "tflite"])
    assert "tflite: formats are state_dict" in capsys.readouterr().err


def test_what_trainers_wrap_it_in_is_seen_through(tmp_path):
    cfg = config([dict(type="LearnedAPE")])
    state = made(cfg, tmp_path).state
    whole = {f"module.backbone.{name}": tensor for name, tensor in state.items()}
    whole["module.head.weight"] = torch.ones(2)
    meta = dict(epoch=torch.tensor(3), iter=7)
    torch.save(dict(state_dict=whole, meta=meta), tmp_path / "ddp.pth")
    del cfg.model["neck"]
    backbone = load(cfg, str(tmp_path / "ddp.pth"), name="toy")
    assert all(torch.equal(backbone.state[name], tensor) for name, tensor in state.items())
    assert backbone.facts["trained"] == {"iter": 7}


def test_places_that_cannot_be_written_are_named(trained, tmp_path, capsys):
    (tmp_path / "toy.py").write_text(trained.cfg.pretty_text)
    argv = [str(tmp_path / "toy.py"), trained.file, "--out"]
    with pytest.raises(SystemExit, match=r"could not write into `.*toy\.py`"):
        main([*argv, str(tmp_path / "toy.py")])
    with pytest.raises(SystemExit):
        main([*argv, str(tmp_path / "out"), "--name", "a/b"])
    assert "`a/b` is no name of a file" in capsys.readouterr().err


def test_a_neck_without_weights_is_no_obstacle(trained, tmp_path):
    content = torch.load(trained.file, weights_only=False)
    state = content["state_dict"]
    neckless = {name: t for name, t in state.items() if name.startswith("backbone.")}
    torch.save(dict(state_dict=neckless | {"head.weight": torch.ones(1)}), tmp_path / "a.pth")
    assert load(trained.cfg, str(tmp_path / "a.pth"), name="").neck is None
    partly = {name: t for name, t in state.items() if "levels.0" not in name}
    torch.save(dict(state_dict=partly), tmp_path / "b.pth")
    with pytest.raises(
        InputError, match=r"b\.pth: neck does not fit the config; missing: levels\.0"
    ):
        load(trained.cfg, str(tmp_path / "b.pth"), name="")


def test_a_hosts_own_backbone_comes_out_for_that_host(tmp_path):
    """Such as DETR's."""
    pytest.importorskip("mmdet")
    options = dict(type="ResNet", depth=18, base_channels=4, num_stages=1, strides=(1,))
    backbone = dict(options, dilations=(1,), out_indices=(0,))
    (tmp_path / "resnet.py").write_text(f"default_scope='mmdet'; model=dict(backbone={backbone})")
    with MODELS.switch_scope_and_registry("mmdet") as hosts:
        module = hosts.build(dict(backbone))
    torch.save(dict(state_dict=module.state_dict()), tmp_path / "resnet.pth")
    argv = [str(tmp_path / "resnet.py"), str(tmp_path / "resnet.pth"), "--out", str(tmp_path)]
    main(argv)
    page = (tmp_path / "README.md").read_text()
    assert re.findall(r"## In (\w+)", page) == ["mmdet"]
    assert graph._difference(module, module, [(24, 40)]) == 0


def test_a_neck_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="--with-neck: the model, or the checkpoint, has no neck"):
        export(made(config(), tmp_path), tmp_path, ["torch_export"], with_neck=True)
