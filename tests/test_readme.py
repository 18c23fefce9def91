"""What the README says is so."""

import ast
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmplugins import catalogue
from mmplugins.registry import MODELS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_table_of_encodings_is_fresh():
    """`python tools/list_encodings.py --markdown README.md` writes it."""
    assert catalogue.rewrite(README) == README


def test_it_opens_with_the_two_commands():
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


def test_the_three_lines_build():
    block = re.search(r"```python\n(custom_imports.*?)```", README, re.DOTALL)[1]
    assert len(ast.parse(block).body) == 2
    cfg = Config.fromstring(block, file_format=".py")
    backbone = {key: v for key, v in cfg.model.backbone.items() if key != "_delete_"}
    assert MODELS.build(backbone).blocks[0].attn.pos.keys() == {"sape2"}


LISTS = re.findall(r"`(\[dict\(type=[^`]*\])`", README.replace("\n", " "))


@pytest.mark.parametrize("encodings", LISTS)
def test_the_lists_build(encodings):
    text = f"position_encodings = {encodings}"
    vit = MODELS.build(
        dict(
            type="mmplugins.ViT",
            arch=dict(embed_dims=16, depth=1, num_heads=2),
            out_indices=(0,),
            **Config.fromstring(text, file_format=".py"),
        )
    )
    assert vit(torch.rand(1, 3, 32, 48))[0].isfinite().all()


def test_there_are_lists_of_several():
    assert len(LISTS) >= 2


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:configs|tools)/(?!.*NAME)[\w./-]+\.(?:py|sh)", README)))
)
def test_every_file_it_names_exists(path):
    assert (ROOT / path).is_file()
