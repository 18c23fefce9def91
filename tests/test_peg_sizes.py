"""Parameters of PEG as published."""

import pytest
import torch
from torch import nn

from mmplugins.models.vit import ViT
from mmplugins.position_encodings import PEG, Dims


def count(channels: int, **options) -> int:
    dims = Dims(embed_dims=channels, num_heads=1, depth=12, grid=(14, 14))
    return sum(p.numel() for p in PEG(dims, **options).parameters())


def test_parameters_of_cpvt_tiny():
    assert count(192, bias=False) == 1_728
    assert count(192) == 1_728 + 192
    assert count(192, conv="separable", bias=False) == 38_592
    assert count(192, conv="separable", num_layers=4, bias=False) == 4 * 38_592
    assert count(192, conv="dense", bias=False) == 331_776
    assert count(192, norm="batch") == 1_728 + 2 * 192  # the norm has the bias


@pytest.mark.parametrize(
    ("twins", "dims", "parameters"),
    [
        ("PCPVT-S", (64, 128, 320, 512), 10_240),
        ("PCPVT-B", (64, 128, 320, 512), 10_240),
        ("PCPVT-L", (64, 128, 320, 512), 10_240),
        ("SVT-S", (64, 128, 256, 512), 9_600),
        ("SVT-B", (96, 192, 384, 768), 14_400),
        ("SVT-L", (128, 256, 512, 1024), 19_200),
    ],
)
def test_parameters_of_the_pegs_of_twins(twins, dims, parameters):
    """One after the first block of each stage (https://arxiv.org/abs/2104.13840)."""
    assert sum(map(count, dims)) == parameters, twins


@pytest.mark.parametrize(
    ("encodings", "total", "millions"),
    [
        ([], 22_050_664 - 197 * 384, 21.98),  # DeiT-S without its table of 196 patches and class
        ([dict(type="PEG", after=range(5))], 21_994_216, 21.99),
        ([dict(type="PEG", after=range(5), conv="separable", bias=False)], 22_729_576, 22.73),
    ],
    ids=["none", "depthwise", "separable"],
)
def test_parameters_of_deit_small_with_five_pegs(encodings, total, millions):
    with torch.device("meta"):
        model = ViT("small", with_cls_token=True, position_encodings=encodings)
        head = nn.Linear(384, 1000)
    found = sum(p.numel() for module in (model, head) for p in module.parameters())
    assert found == total
    assert round(found / 1e6, 2) == millions


# The identity within the kernel.
