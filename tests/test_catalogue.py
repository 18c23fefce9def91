"""The list of encodings, and the tool that prints it."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from layers import CASES

from mmplugins import catalogue
from mmplugins.registry import POSITION_ENCODINGS

TOOL = Path(__file__).parents[1] / "tools/list_encodings.py"


@pytest.fixture(scope="module")
def entries():
    return {entry.name: entry for entry in catalogue.entries()}


@pytest.fixture
def tool(monkeypatch, capsys, entries):
    # Every call would build and count the same twelve models again.
    monkeypatch.setattr(catalogue, "entries", lambda: [*entries.values()])

    def run(*argv):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, argv)])
        monkeypatch.setenv("COLUMNS", "300")
        runpy.run_path(str(TOOL), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_encoding_is_listed(tool):
    said = tool()
    for cfg in CASES:
        assert cfg["type"] in said


def test_published_costs_of_deit_small(entries):
    """IRPE on k: one percent of the multiply-adds, 4613 to 4659 M."""
    irpe = entries["IRPE"]
    assert irpe.parameters == 12 * 64 * 49
    assert irpe.multiply_adds == pytest.approx(4659 / 4613 - 1, abs=5e-4)


@pytest.mark.parametrize("name", POSITION_ENCODINGS.module_dict)
def test_costs_are_what_is_counted(name, entries):
    """To within a factor of two; what is no product or convolution is not counted."""
    entry = entries[name]
    symbols = dict(N=14**2, H=14, W=14, C=384, h=6, k=3, K=49, F=512)
    text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", entry.cost).replace("^", "**")
    layers = 1 if entry.place.startswith("tokens") else 12
    stated = layers * eval(text, {}, symbols) / 4.57e9  # multiply-adds of the ViT itself
    if entry.name == "RoPE":  # it turns elements, one by one
        assert entry.multiply_adds == 0 < stated < 1e-3
    else:
        assert stated / 2 <= entry.multiply_adds <= 2 * stated


def test_one_in_full(tool):
    said = tool("SaPE2")
    assert "logits[i, n] += ||z_i - z_n||" in said
    assert "int | grid" in said
    assert "arxiv.org/abs/2505.09466" in said


def test_one_of_another_package(tool, tmp_path, monkeypatch):
    (tmp_path / "mine_of_the_test.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit, match="error: No module named 'nothing_of_that_name'"):
        tool("Mine", "--import", "mine_of_the_test")


def test_markdown_replaces_the_table_alone(tool, tmp_path):
    file = tmp_path / "PAGE.md"
    file.write_text(f"before\n{catalogue.BEGIN}\nstale\n{catalogue.END}\nafter\n")
    tool("--markdown", file)
    before, begin, *rows, end, after = file.read_text().splitlines()
    assert (before, begin, end, after) == ("before", catalogue.BEGIN, catalogue.END, "after")
    assert "\n".join(rows) == tool("--markdown").strip()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["SaPE3"], "unknown position encoding `SaPE3`; registered: CoPE"),
        (["--markdown", __file__], "no lines `<!-- table"),
        (["--markdown", "absent.md"], "absent.md"),
    ],
)
def test_mistakes_are_named(tool, argv, message):
    with pytest.raises(SystemExit, match=message):
        tool(*argv)
