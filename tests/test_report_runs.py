import json
from dataclasses import replace

import pytest
from report_results import NAMES, origin, write_runs

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.results.files import (
    Comparison,
    read_results,
    write_comparison,
    write_results,
)
from mmplugins.report.command import main
from mmplugins.report.gathering import gather
from mmplugins.report.runs import baseline, key, samples

TINY = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path / "runs")


def changed(path, **changes):
    """Write results again with other fields, in the same place."""
    write_results(path, replace(read_results(path), **changes))


def test_results_of_one_name_are_one_models(runs):
    models = gather([str(runs)])
    assert [model.name for model in models] == list(NAMES)
    assert all(set(model.results) == {"equivariance", "resolution"} for model in models)
    one = gather([str(runs / "shifts-1" / "results.json"), str(runs / "sizes-1")])
    assert [model.name for model in one] == ["ape"]
    assert len(one[0].rows) == len(models[1].rows)


def test_a_file_named_twice_is_read_once(runs):
    folder = runs / "shifts-0"
    assert len(gather([str(folder), str(folder / "results.json"), str(folder)])) == 1


def test_rows_are_found_by_what_they_are_of(runs):
    (model,) = gather([str(runs / "sizes-2")])
    assert model.find(("AP ResAUC up", "box", "sizes", "resize")).value == pytest.approx(0.82)
    assert model.find(("AP ResAUC up", "mask", "sizes", "resize")) is None
    assert all(model.find(key(row)) is row for row in model.rows)


def test_an_undefined_value_is_none(runs):
    path = runs / "sizes-0" / "results.json"
    rows = [replace(row, value=float("nan")) for row in read_results(path).rows]
    changed(path, rows=rows)
    (model,) = gather([str(path)])
    assert model.find(key(rows[0])) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(name="none"), "two equivariance results of one name, `none`.*another --name"),
        (
            dict(origin=origin("ape", 7)),
            "`ape` was measured from other checkpoints.*another --name",
        ),
    ],
)
def test_results_that_cannot_be_one_models(runs, change, message):
    changed(runs / "shifts-1" / "results.json", **change)
    with pytest.raises(InputError, match=message):
        gather([str(runs)])


def test_models_measured_in_other_ways_stand_in_no_report(runs):
    path = runs / "shifts-1" / "results.json"
    facts = read_results(path).protocol
    changed(path, protocol={**facts, "seed": 3, "boot": 7})  # of the bootstrap alone
    assert len(gather([str(runs)])) == 3
    changed(path, protocol={**facts, "images": ["other", *facts["images"][1:]]})
    with pytest.raises(InputError, match=r"`none` and `ape` .* images\[0\] is '000' of the first"):
        gather([str(runs)])


def test_no_results(tmp_path):
    with pytest.raises(InputError, match=r"no results.json in the folder .*tools/equivariance.py"):
        gather([str(tmp_path)])
    with pytest.raises(InputError, match="no such file"):
        gather([str(tmp_path / "gone")])


def test_the_baseline_is_the_model_without_encodings(runs):
    models = gather([str(runs)])
    assert baseline(models, None).name == "none"
    assert baseline(models, "rope").name == "rope"
    assert baseline(models[1:], None) is None
    with pytest.raises(InputError, match="--baseline peg: no such model among none, ape, rope"):
        baseline(models, "peg")
    with pytest.raises(InputError, match="none, none have no encodings: choose one"):
        baseline([models[0], models[0]], None)


def test_sample_pictures_lie_in_their_folder(runs):
    folder = runs / "shifts-0" / "samples"
    folder.mkdir()
    (folder / "0.png").write_bytes(TINY)
    (runs / "shifts-0" / "secret.png").write_bytes(b"secret")
    entry = {"file": "0.png", "image": "7", "title": "Image 7", "text": "worst"}
    (folder / "samples.json").write_text(json.dumps([entry]))
    (model,) = gather([str(runs / "shifts-0")])
    told = {"image": "7", "title": "Image 7", "text": "worst", "content": TINY}
    assert samples(model) == [told]
    for damaged in ([{**entry, "file": "../secret.png"}], [{"file": 3}], {"file": "0.png"}, "{"):
        (folder / "samples.json").write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=r"samples.json` is damaged"):
            samples(model)


def test_a_report_is_made_again_of_its_own_json(tmp_path):
    write_runs(tmp_path / "runs", names=("none", "APE", "SaPE2"))
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "report.html")])
    main([str(tmp_path / "report.json"), "--out", str(tmp_path / "again.html")])
    for suffix in ("md", "csv", "json"):
        first, again = (tmp_path / f"{name}.{suffix}" for name in ("report", "again"))
        assert first.read_bytes() == again.read_bytes()
    with pytest.raises(SystemExit, match="two equivariance results of one name"):
        main([*map(str, (tmp_path / "runs", tmp_path / "again.json")), "--out", "x.html"])
    content = json.loads((tmp_path / "again.json").read_text())
    for change, said in ((dict(schema="mmplugins.report/2"), "reads 1"), (dict(models=3), "damag")):
        (tmp_path / "bad.json").write_text(json.dumps(content | change))
        with pytest.raises(SystemExit, match=said):
            main([str(tmp_path / "bad.json"), "--out", "x.html"])


def test_comparisons_join_what_was_measured_apart(tmp_path):
    """As a sweep does: each model by itself, then all pairs."""
    write_runs(tmp_path / "runs", names=("none", "APE"))
    path = next(p for p in (tmp_path / "runs").rglob("results.json") if "APE" in p.read_text())
    results = read_results(path)
    known = {(each.other, key(each.row)): each.p for each in results.differences}
    assert known
    write_results(path, replace(results, differences=()))
    hashes = {model.name: model.checkpoints for model in gather([str(tmp_path / "runs")])}
    comparison = Comparison(results.protocol, hashes, {"APE": results.differences, "gone": ()})
    (tmp_path / "runs/pairs").mkdir()
    write_comparison(tmp_path / "runs/pairs/comparison.json", comparison)
    model = next(m for m in gather([str(tmp_path / "runs")]) if m.name == "APE")
    assert {k: d.p for k, d in model.differences.items() if k in known} == known
    write_comparison(
        tmp_path / "runs/pairs/comparison.json",
        replace(comparison, protocol=results.protocol | {"images": ["other"]}),
    )
    with pytest.raises(InputError, match=r"is not of these results of `APE`: images\[0\] is"):
        gather([str(tmp_path / "runs")])
    stale = replace(comparison, checkpoints={**hashes, "none": ["before"], "gone": ["x"]})
    write_comparison(tmp_path / "runs/pairs/comparison.json", stale)
    with pytest.raises(InputError, match="compared with other checkpoints of `none`"):
        gather([str(tmp_path / "runs")])
