"""Files of weights: any wrapper, no code, whole or not at all; the command that converts them."""

import pickle
import resource
import signal
from argparse import Namespace
from contextlib import contextmanager

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file
from test_checkpoints_timm import GRID, STATE

from mmplugins.checkpoints import files
from mmplugins.checkpoints.command import main
from mmplugins.checkpoints.convert import LAYOUTS, convert
from mmplugins.checkpoints.layout import Options
from mmplugins.engine.inputs import InputError
from mmplugins.registry import MODELS

FLAT = {name: tensor.float() for name, tensor in STATE.items()}
ARGS = ["--grid", *map(str, GRID), "--num-heads", "2"]


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return print, ("code ran",)


@contextmanager
def a_full_disk(size=20_000):
    """Within this context no file of this process grows beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def deit(tmp_path):
    """A checkpoint as DeiT's training leaves it."""
    content = dict(model=FLAT, model_ema=FLAT, optimizer=dict(state={}), args=Namespace(lr=1e-3))
    torch.save(content, tmp_path / "deit.pth")
    return tmp_path / "deit.pth"


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (FLAT, ""),
        (dict(model=FLAT, args=Namespace(lr=1e-3)), "model"),
        (dict(state_dict=FLAT, meta=dict(epoch=3), optimizer=dict(state={})), "state_dict"),
        (dict(state_dict={f"module.{name}": t for name, t in FLAT.items()}), "state_dict"),
        (dict(teacher={f"backbone.{name}": t for name, t in FLAT.items()}), "teacher"),
    ],
)
def test_weights_are_found_in_any_wrapper(content, entry, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    weights = files.read(str(tmp_path / "a.pth"))
    assert weights.entry == entry
    assert convert(weights.state, options=Options(grid=GRID)).source == "timm"


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_what_is_written_is_read(suffix, tmp_path):
    path = tmp_path / "deep" / f"a{suffix}"
    files.write(path, FLAT, meta=dict(encodings=[dict(type="PEG")], text="x"))
    weights = files.read(str(path))
    assert all(torch.equal(weights.state[name], tensor) for name, tensor in FLAT.items())
    assert weights.meta["text"] == "x"
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_code_is_refused_unless_trusted(tmp_path, capsys):
    torch.save(dict(model=FLAT, extra=Evil()), tmp_path / "evil.pth")
    argv = [str(tmp_path / "evil.pth"), str(tmp_path / "out.pth"), *ARGS]
    with pytest.raises(SystemExit, match=r"holds more than weights.*--trust-checkpoint"):
        main(argv)
    assert "code ran" not in capsys.readouterr().out
    main([*argv, "--trust"])
    assert "code ran" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(suffix, share, tmp_path):
    path = tmp_path / f"a{suffix}"
    files.write(path, FLAT, meta={})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises((InputError, pickle.UnpicklingError), match=rf"a\{suffix} is damaged"):
        files.read(str(path))


@pytest.mark.parametrize(
    ("content", "entry", "message"),
    [
        ([FLAT], None, "holds a list, no state dict"),
        (dict(optimizer=dict(state={})), None, "no weights that are known as such: .*optimizer"),
        (dict(model=FLAT), "model_ema", "no weights under `model_ema`; it holds model"),
    ],
)
def test_a_file_without_weights_is_named(content, entry, message, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(InputError, match=message):
        files.read(str(tmp_path / "a.pth"), entry=entry)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_leaves_what_was_there(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text("before")
    with a_full_disk(), pytest.raises(InputError, match="could not write"):
        files.write(path, FLAT, meta={})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_a_prefix_that_nobody_knows_can_be_named(tmp_path):
    state = {f"net.{name}": tensor for name, tensor in FLAT.items()}
    torch.save(state, tmp_path / "a.pth")
    argv = [str(tmp_path / "a.pth"), str(tmp_path / "out.pth"), *ARGS]
    with pytest.raises(
        SystemExit, match="name it by --source, or the prefix of the weights by --prefix"
    ):
        main(argv)
    main([*argv, "--prefix", "net."])
    assert "norm.weight" in torch.load(tmp_path / "out.pth", weights_only=True)["state_dict"]


def test_urls_of_one_last_name_are_not_one_file(tmp_path):
    for number, folder in enumerate("ab"):
        files.write(
            tmp_path / folder / "model.safetensors", {"w": torch.full((1,), number)}, meta={}
        )
    for number, folder in enumerate("ab"):
        url = (tmp_path / folder / "model.safetensors").as_uri()
        assert files.read(url).state["w"] == number
    with pytest.raises(InputError, match=r"could not fetch file://.*gone\.pth"):
        files.read((tmp_path / "gone.pth").as_uri())


def test_the_command_there_and_back(deit, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    ours, back = tmp_path / "ours.pth", tmp_path / "back.safetensors"
    main([str(deit), str(ours), *ARGS])
    said = capsys.readouterr().out
    assert "timm, entry `model`" in said
    assert "left     the classification head: head.weight, head.bias" in said
    lines = Config.fromstring(said.split("Its lines of a config:")[1], file_format=".py")
    backbone = {key: v for key, v in lines.model.backbone.items() if key != "_delete_"}
    model = MODELS.build(backbone)
    model.init_weights()
    made = convert(FLAT, options=Options(grid=GRID, num_heads=2)).state
    assert all(torch.equal(tensor, made[name]) for name, tensor in model.state_dict().items())
    main([str(ours), "~/back.safetensors", "--to", "timm", *ARGS])
    returned = load_file(back)
    assert FLAT.keys() - returned.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(FLAT[name], tensor) for name, tensor in returned.items())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["SRC"], "name two files"),
        (["SRC", "out.zip"], "`out.zip`: name a file that ends in .pth"),
        (["SRC", "SRC"], "deit.pth` exists: name another file, or --overwrite"),
        (["gone.pth", "out.pth"], "no such file `gone.pth`"),
        (["SRC", "out.pth", "--source", "rope"], "unknown layout `rope`"),
        (["SRC", "out.pth", "--to", "tim"], "did you mean timm"),
        (["SRC", "out.pth", "--source", "dinov2"], "not in the layout dinov2.*looks like timm"),
        (["SRC", "out.pth", "--num-heads", "5", *ARGS[:3]], "32 dimensions do not make 5 heads"),
    ],
)
def test_what_is_wrong_ends_with_one_line(argv, message, deit, monkeypatch):
    monkeypatch.chdir(deit.parent)
    with pytest.raises(SystemExit, match=message):
        main([str(deit) if arg == "SRC" else arg for arg in argv])
    assert not (deit.parent / "out.pth").exists()


def test_what_no_weights_tell_is_told(deit, tmp_path, capsys):
    names = [str(tmp_path / f"{letter}.pth") for letter in "abc"]
    main([str(deit), names[0], *ARGS[:3]])
    assert "untold   1 heads" in capsys.readouterr().out
    torch.save(dict(state_dict=files.read(names[0]).state), names[1])  # as a trainer would
    main([names[1], names[2], "--to", "timm"])
    assert "untold   windows and encodings without weights" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--grid=0", "--num-heads=0", "--num-heads=-2", "--classes=x"])
def test_numbers_begin_with_one(option, capsys):
    name, value = option.split("=")
    with pytest.raises(SystemExit):
        main(["a.pth", "b.pth", name, value, *["3"] * (name == "--grid")])
    assert f"{value} is not a number from 1 on" in capsys.readouterr().err


def test_the_list_tells_all(capsys):
    main(["--list"])
    said = capsys.readouterr().out
    assert all(name in said for name in LAYOUTS)
