"""What a sweep is asked to do: specs read and refused, the jobs they ask for."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import training_parser
from mmplugins.sweep.command import PARSERS, check_options
from mmplugins.sweep.jobs import plan_jobs
from mmplugins.sweep.spec import KINDS, Encoding, read_spec

ROOT = Path(__file__).parents[1]
GOOD = {
    "out": "out",
    "pipelines": {"net": "net-{encoding}.py"},
    "encodings": ["nope", "ape"],
    "seeds": [0, 1],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("nope", "ape", "peg"):
        config = f"default_scope = 'mmdet'\nmodel = dict(type='{name}', depth=1)\n"
        Path(f"net-{name}.py").write_text(config)


def read(**changes):
    text = yaml.safe_dump(
        {k: v for k, v in (GOOD | changes).items() if v != "absent"}, sort_keys=False
    )
    Path("spec.yaml").write_text(text)
    return read_spec("spec.yaml")


def jobs(**changes):
    return {job.name: job for job in plan_jobs(read(**changes))}


def test_the_example():
    content = yaml.safe_load((ROOT / "configs/sweeps/synthetic.yaml").read_text())
    content["pipelines"] = {k: str(ROOT / v) for k, v in content["pipelines"].items()}
    plan = jobs(**content)
    assert len(plan) == 15 + 15 + 5 + 5 + 2 + 1
    for job in plan.values():
        check_options(job, PARSERS)


def test_only_what_is_asked_for_runs():
    kinds = [job.kind for job in jobs(test=True, resolution=None, equivariance=[]).values()]
    assert kinds == ["train"] * 4 + ["test"] * 4 + ["equivariance"] * 2
    assert {job.kind for job in jobs(test=False).values()} == {"train"}


def test_variants_of_an_encoding():
    deep = {"config": "ape", "cfg_options": {"model": {"depth": 3}, "model.names": ["a", 1.5]}}
    spec = read(encodings={"nope": None, "deep": deep}, cfg_options={"model.lr": 1e-4})
    assert spec.encodings == (
        Encoding("nope", "nope"),
        Encoding("deep", "ape", ("model.depth=3", "model.names=[a,1.5]")),
    )
    training = next(job for job in plan_jobs(spec) if job.name == "train net/deep/seed-1")
    words = [str(argument) for argument in training.arguments]
    assert words[0] == "net-ape.py"
    options = training_parser().parse_args(words).cfg_options
    assert options == {
        "model.lr": 1e-4,
        "model.depth": 3,
        "model.names": ["a", 1.5],
        "randomness.seed": 1,
    }


@pytest.mark.parametrize("value", [True, False, None, 3, 2.5, "word", [1, [2, 3]], [True, "a"]])
def test_values_reach_the_config_as_they_are(value):
    plan = jobs(cfg_options={"model.it": value})
    words = [str(argument) for argument in plan["train net/ape/seed-0"].arguments]
    assert training_parser().parse_args(words).cfg_options["model.it"] == value


def test_all_of_one_seed_see_the_same_data():
    plan = jobs(seeds=[7])
    (one, other) = (plan[f"train net/{name}/seed-7"].arguments for name in ("nope", "ape"))
    assert [*one[3:]] == [*other[3:]] == ["--resume", "--cfg-options", "randomness.seed=7"]


def test_keys_tell_what_matters():
    before = {name: job.key for name, job in jobs(test=True, equivariance=True).items()}

    def changed(**changes):
        after = {name: job.key for name, job in jobs(**changes).items()}
        return {name for name in after if after[name] != before.get(name)}

    both = dict(test=True, equivariance=True)
    assert changed(**both) == set()
    assert changed(**both, out="elsewhere") == set()
    Path("moved").mkdir()
    for file in Path().glob("net-*.py"):
        (Path("moved") / file.name).write_text(file.read_text() + "# a remark")
    assert changed(**both, pipelines={"net": "moved/net-{encoding}.py"}) == set()
    assert changed(test=["--tta"], equivariance=True) == {n for n in before if n.startswith("test")}
    text = Path("net-ape.py").read_text()
    Path("net-ape.py").write_text(text.replace("depth=1", "depth=2"))
    of_ape = {name for name in before if "/ape" in name}
    assert changed(**both) == of_ape
    Path("net-ape.py").write_text(text + "test_dataloader = dict(batch_size=1)")
    assert changed(**both) == {name for name in of_ape if not name.startswith("train")}


BAD = {
    "no key": (dict(seeds="absent"), "the file: seeds is missing"),
    "key": (dict(encoding=["ape"]), "the file: unknown key encoding; it may have out, pipelines"),
    "out": (dict(out=None), "out: names a folder, not `None`"),
    "pipelines": (dict(pipelines={}), "pipelines: maps names to configs"),
    "pipeline": (dict(pipelines={"a/b": "net-{encoding}.py"}), "pipelines: `a/b` is no name"),
    "place": (dict(pipelines={"net": "net-ape.py"}), "pipelines.net: `net-ape.py` lacks {encodin"),
    "no config": (
        dict(encodings=["nope", "rope"]),
        "encodings.rope: no config `net-rope.py`; pipelines.net has ape, nope, peg",
    ),
    "no configs": (
        dict(pipelines={"net": "x/{encoding}.py"}),
        "encodings.nope: no config .*has none at all",
    ),
    "no encodings": (dict(encodings=[]), "encodings: a list of names, or a mapping"),
    "encoding twice": (dict(encodings=["ape", "ape"]), "encodings: one name twice in ape, ape"),
    "encoding name": (dict(encodings=[["ape"]]), r"encodings: `\['ape'\]` is no name"),
    "above": (dict(encodings=[".."]), "encodings: `..` is no name"),
    "variant": (dict(encodings={"a": "ape"}), "encodings.a: a mapping, not `ape`"),
    "variant key": (dict(encodings={"a": {"cfg": 1}}), "encodings.a: unknown key cfg; it may have"),
    "no seeds": (dict(seeds=[]), "seeds: a list of different whole numbers"),
    "seed twice": (dict(seeds=[1, 1]), "seeds: a list of different whole numbers"),
    "seed": (dict(seeds=[-1]), r"seeds: a list .* not `\[-1\]`"),
    "a truth": (dict(seeds=[True]), "seeds: a list"),
    "seeds": (dict(seeds=3), "seeds: a list of different whole numbers from 0 on, not `3`"),
    "options": (dict(test="--tta"), "test: true, or a list of options of tools/test.py"),
    "ours": (dict(equivariance=["--out=x"]), "equivariance: --out=x is what the sweep itself"),
    "no train": (dict(train=False), "train: the rest needs what it makes"),
    "no runs": (dict(report=True), "report: of what"),
    "changes": (dict(cfg_options=["a=1"]), "cfg_options: maps keys of a config to values"),
    "value": (dict(cfg_options={"a": [{"b": 1}]}), "cfg_options.a: numbers, words and lists"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    changes, message = BAD[case]
    with pytest.raises(InputError, match="^spec.yaml: " + message):
        read(**deepcopy(changes))


def test_refused_files():
    with pytest.raises(InputError, match=r"spec: no such file `nowhere\.yaml`"):
        read_spec("nowhere.yaml")
    for text, message in {
        "a: 1\na: 2": "`a` stands twice",
        "a: [": "cannot be read",
        "": "the file: a mapping, not `None`",
        "- 1": "the file: a mapping",
    }.items():
        Path("spec.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            read_spec("spec.yaml")


@pytest.mark.parametrize("kind", KINDS)
def test_options_that_a_tool_does_not_take(kind):
    wrong = jobs(**{"equivariance": True, kind: ["--no-such-option"]}).values()
    job = next(job for job in wrong if job.kind == kind)
    with pytest.raises(InputError, match=f"{kind}: tools/{kind}.py .*: --no-such-option"):
        check_options(job, PARSERS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encodings": ["nope"], "resolution": True}, "compare: one encoding alone has nothing"),
        ({"equivariance": None, "resolution": None, "report": None}, "compare: of what"),
    ],
)
def test_nothing_to_compare(changes, said):
    with pytest.raises(InputError, match=said):
        read(compare=True, **changes)
