"""The viewer of iRPE's buckets."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_runs import ROOT

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.irpe import SideOptions
from mmplugins.visualise.buckets import bucket_tables, describe, draw_buckets


@pytest.mark.parametrize(
    ("method", "ratio", "used", "allocated"),
    [  # https://github.com/microsoft/Cream: the names of its models count used buckets
        ("product", 1.9, [50], [50]),
        ("euclidean", 20.0, [20], [42]),
        ("quantisation", 33.0, [51], [68]),
        ("cross", 20.0, [28, 28], [82, 82]),
    ],
)
def test_published_numbers_of_buckets(method, ratio, used, allocated):
    tables = bucket_tables(TokenGrid(14, 14, 1), SideOptions(method=method, ratio=ratio))
    assert [table.used for table in tables] == used
    assert [table.allocated for table in tables] == allocated


@pytest.mark.parametrize(
    ("ratio", "index", "firsts"),
    [
        (1.9, "piecewise", [0, 1, 2, 4]),
        (3.5, "piecewise", [0, 1, 2, 3, 4, 7, 12, 21]),
        (2.0, "clip", [0, 1, 2, 3, 4]),
    ],
)
def test_where_buckets_begin(ratio, index, firsts):
    (table,) = bucket_tables(TokenGrid(3, 4), SideOptions(ratio=ratio, index=index))
    assert table.firsts() == dict(enumerate(firsts))
    assert describe(table).splitlines()[2].split()[-len(firsts) :] == [str(n) for n in firsts]


def test_borders_lie_between_buckets():
    """Clip with B = 1 on rows and columns: two lines each, at displacements of half a patch."""
    grid = TokenGrid(3, 4)
    tables = bucket_tables(grid, SideOptions(ratio=0.5, index="clip"))
    (axes,) = draw_buckets([tables], grid).axes
    segments = [line.get_data() for line in axes.lines if len(line.get_xdata()) == 2]
    ends = {tuple(zip(*segment, strict=True)) for segment in segments}
    horizontal = {((x - 0.5, y), (x + 0.5, y)) for y in (-0.5, 0.5) for x in range(-3, 4)}
    vertical = {((x, y - 0.5), (x, y + 0.5)) for x in (-0.5, 0.5) for y in range(-2, 3)}
    assert ends == horizontal | vertical
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places["4"] == (0, 0)
    assert places["0"] == (2, 1.5)  # the published id of a query at the top left, a key below right
    assert places["8"] == (-2, -1.5)


@pytest.fixture
def show_buckets(monkeypatch, capsys, tmp_path):
    def run(*argv: str) -> tuple[str, Path]:
        out = tmp_path / "buckets.png"
        monkeypatch.setattr(sys, "argv", ["show_buckets.py", *argv, "--out", str(out)])
        runpy.run_path(str(ROOT / "tools/show_buckets.py"), run_name="__main__")
        return capsys.readouterr().out, out

    return run


def test_show_buckets_draws(show_buckets):
    said, out = show_buckets("--method", "cross", "--ratio", "1.9", "2", "--grid", "5x9")
    assert "cols, ratio 2, piecewise: B = 4, 10 buckets, 8 used" in said
    assert np.asarray(Image.open(out).convert("RGB")).std() > 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--grid", "14"), "a grid is HEIGHTxWIDTH, as in 14x14, not `14`"),
        (("--prefix", "-1"), "error: no grid has 14 x 14 + -1 tokens"),
        (("--method", "swin"), "invalid choice: 'swin'"),
        (("--ratio", "-1"), "error: IRPE: ratio must be positive, not -1.0"),
    ],
)
def test_show_buckets_names_what_is_wrong(options, said, show_buckets, capsys):
    with pytest.raises(SystemExit) as stop:
        show_buckets(*options)
    assert said in f"{stop.value.code}{capsys.readouterr().err}"
