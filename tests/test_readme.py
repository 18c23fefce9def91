"""What the README says is so."""

import ast
import re
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:configs|tools)/[\w./-]+\.(?:py|sh)", README)))
)
def test_every_file_it_names_exists(path):
    assert (ROOT / path).is_file()
