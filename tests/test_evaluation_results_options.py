"""Options that decide what encodings do at another grid, against what the encodings say."""

from pathlib import Path

import pytest
import torch
from layers import CASES
from mmengine.config import Config

from mmplugins.evaluation.results.options import grid_options
from mmplugins.position_encodings import AttentionEncoding, Dims, RoPE
from mmplugins.registry import POSITION_ENCODINGS

CONFIGS = Path(__file__).parents[1] / "configs"


def text(*cfgs):
    return grid_options({"model": {"backbone": {"position_encodings": cfgs}}})


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (dict(type="RoPE"), "RoPE(coords=index)"),
        (dict(type="RoPE", coords="normalized", variant="mixed"), "RoPE(coords=normalized)"),
        (dict(type="mmplugins.SinCos2D"), "SinCos2D(coords=index)"),
        (dict(type="LearnedAPE"), "LearnedAPE(resize=bicubic, coords=normalized)"),
        (dict(type="LearnedAPE", coords="index", resize="bilinear"), "LearnedAPE(coords=index)"),
        (dict(type="RelativePositionBias", resize="clamp"), "RelativePositionBias(resize=clamp)"),
        (dict(type="SaPE2", normalize="rms", gate="v"), "SaPE2(normalize=rms)"),
        (dict(type="SaPE2", num_positions="grid"), "SaPE2(normalize=none)"),
        (dict(type="IRPE", on="qk", ratio=3.0), "IRPE"),
        (dict(type="PEG", after=(0, 1), padding_mode="circular"), "PEG"),
        (dict(type="DetrSine"), "DetrSine"),
        (dict(type=RoPE), "RoPE(coords=index)"),
        (dict(type=torch.nn.Identity), "Identity"),
    ],
    ids=lambda case: case if isinstance(case, str) else None,
)
def test_options_in_effect(cfg, expected):
    assert text(cfg) == expected


@pytest.mark.parametrize("name", sorted({cfg["type"] for cfg in CASES}))
def test_examples_of_one_text_say_the_same(name):
    kind, says = POSITION_ENCODINGS.module_dict[name], {}
    dims = Dims(embed_dims=16, num_heads=2, depth=2, grid=(4, 5))
    for example in kind.examples:
        said = kind(dims, **example).other_grid
        assert says.setdefault(text(dict(type=name, **example)), said) == said


def test_lists_and_their_absence():
    assert text() == "none"
    assert text(dict(type="SaPE2"), dict(type="PEG")) == "SaPE2(normalize=none) + PEG"
    assert grid_options({"model": {"backbone": {"type": "ResNet", "depth": 50}}}) == ""
    assert grid_options({}) == ""
    two = {"backbone": {"position_encodings": []}, "encoder": {"position_encodings": [CASES[0]]}}
    assert grid_options({"model": two}) == f"none; {CASES[0]['type']}"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("detr/detr_r18-sine-rpb_1xb8-8e_synthetic-160x224.py", "DetrSine + RelativePositionBias"),
        ("upernet/vit-mini16-nope_mln_upernet_1xb8-600it_synthetic-160x224.py", "none"),
    ],
)
def test_configs(config, expected):
    assert grid_options(Config.fromfile(CONFIGS / config)).startswith(expected)


def test_an_encoding_of_someone_else_that_says_nothing():
    class Silent(AttentionEncoding):
        def __init__(self, dims, *, sides, wide: bool = False):
            super().__init__()

    POSITION_ENCODINGS.register_module(module=Silent)
    try:
        assert text(dict(type="Silent", sides=(1, 2))) == "Silent"
        assert text(dict(type="Silent", sides=(1, 2), wide=7)) == "Silent"
    finally:
        POSITION_ENCODINGS.module_dict.pop("Silent")


def test_asking_draws_no_random_numbers():
    before = torch.get_rng_state()
    for cfg in CASES:
        text(cfg)
    assert torch.equal(torch.get_rng_state(), before)
