"""What mmplugins/checkpoints/README.md says can be done, and that it claims no figure of ours."""

import re
import shlex
from pathlib import Path

import pytest

import mmplugins.checkpoints
from mmplugins.checkpoints import files
from mmplugins.checkpoints.command import parser
from mmplugins.checkpoints.convert import LAYOUTS, OURS, find

HERE = Path(mmplugins.checkpoints.__path__[0])
README = (HERE / "README.md").read_text()
COMMAND = re.compile(r"python tools/convert_checkpoint\.py ([^`#\n]*)")
LINKS = dict(re.findall(r"^\[([\w-]+)\]: (https://\S+)$", README, re.MULTILINE))
HEADER = "| public file | command | becomes | its authors' score | here |"
TABLES = [block.splitlines() for block in README.split("\n\n") if block.startswith("|")]
ROWS = [line.strip("| ").split(" | ") for table in TABLES for line in table[2:]]


def read(text):
    """The options of the command in `text`, as the tool reads them."""
    return parser().parse_args(shlex.split(COMMAND.search(text)[1]))


def is_measured(cell):
    """A figure, and a link to the results that have it."""
    link = re.search(r"\d.*\]\(([^)]+)\)", cell)
    return bool(link) and "results" in link[1].split("/") and (HERE / link[1]).is_file()


def test_there_are_tables():
    assert len(ROWS) >= 25
    assert {table[0] for table in TABLES} == {HEADER}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: COMMAND.search(row[1])[1].split()[1])
def test_a_row_is_whole(row):
    public, command, becomes, score, here = row
    args = read(command)
    assert Path(args.src).stem in public
    assert "https://" in public
    assert becomes
    assert re.search(r"\]\(https://", score) or re.search(r"\]\[([\w-]+)\]", score)[1] in LINKS
    assert here == "not measured here" or is_measured(here)


@pytest.mark.parametrize("command", [found[0] for found in COMMAND.finditer(README)])
def test_the_tool_takes_each_command(command):
    args = read(command)
    if args.list:
        return
    files.check_suffix(Path(args.src))
    files.check_suffix(Path(args.dst))
    families = {find(name).family for name in (args.source, args.to) if name}
    assert len(families) == 1 or args.to == OURS


def test_no_command_overwrites_what_another_wrote():
    written = [read(row[1]).dst for row in ROWS]
    assert len(written) == len(set(written))


def test_every_layout_has_its_place():
    assert [name for name in LAYOUTS if f"`{name}`" not in README] == []


def test_every_link_is_used():
    assert [name for name in LINKS if f"][{name}]" not in README] == []


def test_every_local_file_exists():
    root = HERE.parents[1]
    named = set(re.findall(r"(?<![\w/])(?:configs|tools)/[\w/-]+(?:\.py)?", README))
    configs = {f"configs/detr/{name}" for name in re.findall(r"`(detr_r50-[\w-]+\.py)`", README)}
    assert len(configs) == 2
    assert [name for name in named | configs if not (root / name).exists()] == []


def test_a_figure_needs_results():
    assert is_measured("42.0 ([results](../../configs/sweeps/results/README.md))")
    assert not is_measured("42.0 ([results](../../configs/sweeps/results/nowhere.md))")
    assert not is_measured("42.0 ([guide](README.md))")
    assert not is_measured("42.0")
