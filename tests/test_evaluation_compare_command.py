"""tools/compare.py on runs of tiny models: pairs, files, and what cannot be compared."""

import csv
import json

import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_commands import QUICK, Workplace

from mmplugins.evaluation.commands.compare import main
from mmplugins.evaluation.results.files import read_comparison, read_results

SHIFTS = (*QUICK, "--shifts", "pgrid", "--max-shift", 16, "--levels", "pred,task")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `measure`")
        place = Workplace(tmp_path_factory.mktemp("compare"))
        place.measure("upernet", "none", "none", *SHIFTS)
        against = "--against", place.folder / "none"
        place.measure("upernet", "table", "table", *SHIFTS, *against)
        yield place


def told(*argv: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in argv])
    return str(ended.value)


def test_differences_are_those_that_a_run_against_the_other_finds(workplace, tmp_path):
    table, none = workplace.folder / "table", workplace.folder / "none"
    main([str(table), str(none), "--out", str(tmp_path)])
    found = read_comparison(tmp_path / "comparison.json")
    assert list(found.differences) == ["upernet_table", "upernet_none"]
    known = read_results(table / "results.json").differences
    ours = found.differences["upernet_table"]
    assert len(ours) == len(known) > 50
    for one, other in zip(ours, known, strict=True):
        assert (one.other, one.row.metric, one.row.point) == (
            *(other.other, other.row.metric),
            other.row.point,
        )
        assert (one.row.value, one.p) == pytest.approx((other.row.value, other.p), nan_ok=True)
    back = found.differences["upernet_none"]
    assert [-d.row.value for d in back] == pytest.approx([d.row.value for d in ours], nan_ok=True)
    with (tmp_path / "comparison.csv").open() as file:
        names = [line["name"] for line in csv.DictReader(file)]
    assert names == ["upernet_table"] * len(ours) + ["upernet_none"] * len(back)
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("## upernet_table less others")
    assert "upernet_none less" not in text  # of two, one way says it all


def test_what_cannot_be_compared_is_refused(workplace, tmp_path):
    table, none = workplace.folder / "table", workplace.folder / "none"
    out = "--out", tmp_path / "out"
    assert "name two runs at least" in told(none, *out)
    assert "two of one name (upernet_none, upernet_none)" in told(none, none, *out)
    workplace.measure("upernet", "table", "others", *SHIFTS, "--seed", 3)
    said = told(none, workplace.folder / "others", *out)
    assert f"{workplace.folder / 'others'} cannot be compared with: images[0] is '" in said
    (tmp_path / "results.json").write_text("{}")
    assert "holds no results" in told(none, tmp_path, *out)
    assert not (tmp_path / "out").exists()
    assert "no such file" in told(table, tmp_path / "nothing", *out)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("differences"), "is damaged (KeyError"),
        (lambda content: content.update(schema="mmplugins.evaluation/1"), "holds no results"),
        (lambda content: content.update(schema="mmplugins.comparison/2"), "is of version 2"),
        (lambda content: content.update(differences=[]), "is damaged (AttributeError"),
    ],
    ids=["part missing", "other kind", "later version", "other form"],
)
def test_damaged_comparisons_are_refused(change, said, tmp_path):
    empty = {key: {} for key in ("protocol", "checkpoints", "differences")}
    content = {"schema": "mmplugins.comparison/1", **empty}
    change(content)
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        read_comparison(tmp_path / "comparison.json")
