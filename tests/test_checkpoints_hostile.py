"""Files that are damaged, or that lie about what they hold, end with one line, soon."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoints_timm import GRID, OPTIONS, STATE

from mmplugins.checkpoints import files
from mmplugins.checkpoints.command import main
from mmplugins.checkpoints.convert import LAYOUTS, convert
from mmplugins.checkpoints.layout import Options
from mmplugins.checkpoints.moves import LayoutError, Moves
from mmplugins.checkpoints.vit_config import vit_config
from mmplugins.engine.inputs import InputError

OURS = {name: tensor.float() for name, tensor in convert(STATE, options=OPTIONS).state.items()}
ARGS = ["--grid", *map(str, GRID), "--num-heads", "2"]


def test_torchs_old_format_may_end_anywhere(tmp_path):
    path = tmp_path / "a.pth"
    content = {"model": {f"layer.{i}": torch.ones(2) for i in range(3)}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        with pytest.raises((InputError, pickle.UnpicklingError), match=r"a\.pth is damaged"):
            files.read(str(path))


@pytest.mark.parametrize("to", ["mmplugins", "timm"])
@pytest.mark.parametrize(
    "text",
    [
        "x",
        "3",
        "[1]",
        '["LearnedAPE"]',
        '[{"a": 5}]',
        '[{"type": 5}]',
        '[{"type": "os.system", "command": "id"}]',
        '[{"type": "LearnedAPE", "size": 5}]',
    ],
)
def test_what_a_file_says_of_its_encodings_is_checked(text, to, tmp_path):
    save_file(OURS, tmp_path / "a.safetensors", dict(layout="mmplugins", position_encodings=text))
    with pytest.raises(SystemExit, match="names position encodings that are none"):
        main([str(tmp_path / "a.safetensors"), str(tmp_path / "out.pth"), "--to", to, *ARGS])


@pytest.mark.parametrize("meta", [5, "text", ["layout"], {"layout": ["timm"]}])
def test_other_things_than_ours_under_meta_say_nothing(meta, tmp_path):
    torch.save(dict(state_dict=OURS, meta=meta), tmp_path / "a.pth")
    main([str(tmp_path / "a.pth"), str(tmp_path / "out.pth"), *ARGS])
    assert files.read(str(tmp_path / "out.pth")).state.keys() == OURS.keys()


def test_names_that_are_no_texts_are_named(tmp_path):
    torch.save({0: torch.ones(2), "weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(SystemExit, match="no known layout: 0, weight"):
        main([str(tmp_path / "a.pth"), str(tmp_path / "out.pth")])


@pytest.mark.parametrize("name", LAYOUTS)
def test_tensors_of_any_shape_are_an_error_that_is_understood(name):
    names = {*STATE, "freqs", "rope.freqs", "patch_embeds.0.proj.weight"}
    for shape in [(), (3,), (2, 3)]:
        with pytest.raises(LayoutError, match="not in the layout"):
            convert({each: torch.ones(shape) for each in names}, source=name, options=OPTIONS)


def test_numbers_that_are_too_high_are_not_counted_to():
    far = {"blocks.4000000000.norm1.bias": torch.ones(1)}
    with pytest.raises(LayoutError, match=r"left over: blocks\.4000000000"):
        convert({**STATE, **far}, options=OPTIONS)
    assert Moves(far).depth("blocks.{i}.norm1.bias") == 0
    assert vit_config({**OURS, **far}, [], OPTIONS)["arch"]["depth"] == 2


def test_a_part_of_ours_makes_no_config():
    for gone in ("blocks.0.mlp.fc1.weight", "patch_embed.proj.weight"):
        state = {name: tensor for name, tensor in OURS.items() if name != gone}
        with pytest.raises(LayoutError, match=gone):
            vit_config(state, [], OPTIONS)


def test_class_tokens_of_ours_are_not_kept_in_silence():
    with pytest.raises(LayoutError, match="keep their class token"):
        convert(OURS, source="mmplugins", options=Options(cls_token=False))
