"""Mean logit bias against the side of the grid: loops, closed forms and the viewer."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tool_runs import ROOT

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import AttentionEncoding, Dims
from mmplugins.registry import POSITION_ENCODINGS
from mmplugins.visualise.growth import draw_growth, mean_bias, random_encoding

DIMS = Dims(embed_dims=16, num_heads=2, depth=1, grid=(3, 3), prefix=1)
POSITION_ENCODINGS.import_from_location()
WITH_BIAS = [
    name
    for name, kind in POSITION_ENCODINGS.module_dict.items()
    if issubclass(kind, AttentionEncoding) and "logit_bias" in vars(kind)
]


@pytest.mark.parametrize("name", WITH_BIAS)
def test_mean_is_that_of_a_loop_over_pairs_of_patches(name):
    encoding = random_encoding(dict(type=name), DIMS)
    found = mean_bias(encoding, DIMS, [5, 2], images=2, seed=3)
    for side, value in zip([5, 2], found, strict=True):
        generator = torch.Generator().manual_seed(3)
        q, k, v = (torch.randn(2, 2, 1 + side**2, 8, generator=generator) for _ in range(3))
        with torch.no_grad():
            dense = encoding.logit_bias(q, k, v, TokenGrid(side, side, 1)).dense()
        total = 0.0
        for head in dense.flatten(0, -3).tolist():
            total += sum(abs(bias) for row in head[1:] for bias in row[1:])
        count = len(dense.flatten(0, -3)) * side**4
        assert value == pytest.approx(total / count, rel=1e-5)
        assert value > 0


def test_many_queries_at_a_time_are_all_counted():
    """The table holds its row: with side 18 there are 324 queries, more than are taken at once."""
    encoding = random_encoding(dict(type="RelativePositionBias", resize="clamp"), DIMS)
    with torch.no_grad():
        encoding.table.copy_(torch.tensor([-3.0, -1, 0, 1, 3])[:, None].expand(2, 5, 5))
        encoding.prefix_bias.fill_(1e6)
    n = 18
    apart = [2 * (n - d) for d in range(1, n)]  # pairs of rows that are d apart, in both orders
    expected = (apart[0] * 1 + sum(apart[1:]) * 3) / n**2
    assert mean_bias(encoding, DIMS, [n]) == pytest.approx([expected])


def test_random_encodings_are_those_of_their_seed_and_leave_no_trace():
    before = torch.get_rng_state()
    first, again, other = (random_encoding(dict(type="IRPE"), DIMS, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.parameters(), again.parameters(), other.parameters(), strict=True)
    for a, b, c in pairs:
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(type="RoPE"), "RoPE has no logit bias"),
        (dict(type="PEG"), "PEG has no logit bias"),
        (dict(type="IRPE", on="v"), "IRPE has no logit bias with these options"),
    ],
)
def test_encodings_without_a_bias_are_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        mean_bias(random_encoding(cfg, DIMS), DIMS, [3])


def test_a_figure_shows_the_numbers():
    curves = {"flat": np.array([2.0, 2, 2]), "root": np.array([6.0, 2, 4])}
    absolute, relative = draw_growth(curves, [18, 2, 8], train=8).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in absolute.lines}
    assert drawn["flat"] == [[2, 2], [8, 2], [18, 2]]
    assert drawn["root"] == [[2, 2], [8, 4], [18, 6]]
    lines = [line.get_xydata().tolist() for line in relative.lines]
    assert [[2, 0.5], [8, 1], [18, 1.5]] in lines
    (dashed,) = (line for line in relative.lines if line.get_label() == "root of n")
    x, y = dashed.get_data()
    np.testing.assert_allclose(y, np.sqrt(x / 8))
    with pytest.raises(ValueError, match="training grid's side, 9, is not among"):
        draw_growth(curves, [2, 8, 18], train=9)


@pytest.fixture
def show_growth(monkeypatch, capsys, tmp_path):
    def run(*argv: str) -> tuple[str, Path]:
        out = tmp_path / "growth.png"
        monkeypatch.setattr(sys, "argv", ["show_growth.py", *argv, "--out", str(out)])
        runpy.run_path(str(ROOT / "tools/show_growth.py"), run_name="__main__")
        return capsys.readouterr().out, out

    return run


def test_show_growth_draws_and_prints(show_growth):
    names = "SaPE2", "SaPE2:normalize=rms,num_positions=10", "IRPE"
    said, out = show_growth(*names, "--train", "4", "--sides", "4", "8", "--head-dims", "8")
    lines = said.splitlines()
    assert lines[0].split() == ["n", "4", "8"]
    assert [line.split()[0] for line in lines[1:4]] == list(names)
    plain, normalised = ([float(x) for x in line.split()[1:]] for line in lines[1:3])
    assert plain[0] == normalised[0]
    assert plain[1] == pytest.approx(2**0.5 * normalised[1], rel=1e-3)
    assert np.asarray(Image.open(out).convert("RGB")).std() > 10


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("RoPE",), "error: RoPE has no logit bias"),
        (("SaPe2",), "error: unknown position encoding `SaPe2`"),
        (("SaPE2:normalise=rms",), "did you mean `normalize`?"),
        (("SaPE2:normalize",), "error: `normalize` in `SaPE2:normalize` is not OPTION=VALUE"),
        (("SaPE2", "--train", "13", "--sides", "4"), "training grid's side, 13, is not among"),
        (("SaPE2", "--sides", "0"), "error: no grid has 0 x 0"),
    ],
)
def test_show_growth_names_what_is_wrong(argv, said, show_growth, capsys):
    with pytest.raises(SystemExit) as stop:
        show_growth(*argv)
    assert said in f"{stop.value.code}{capsys.readouterr().err}"
