"""Graphs of backbones and necks equal the model at sizes they were not traced for."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from graph_cases import ENCODINGS, model

from mmplugins.engine.inputs import InputError
from mmplugins.export import graph
from mmplugins.registry import POSITION_ENCODINGS

ONNX = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    script = Path(__file__).with_name("graph_cases.py")
    argv = [sys.executable, script, tmp_path_factory.mktemp("graphs"), "onnx" if ONNX else "none"]
    run = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


# All that reads the one export stays in one test each format: workers would repeat the export.
def test_graphs_equal_the_model(results):
    assert results["page"] < 1e-5, "the files of the command, run by the lines of its page"
    for name in ENCODINGS.keys() - {"global"}:
        result = results[name]
        assert result["program"] < 1e-5, name
        assert result["part"] > 5e-4, f"{name}: an encoding that hardly acts would hide its errors"
        if ONNX:
            assert result["onnx"] < 1e-5, name
            assert result["files"] == ["graph.onnx"], "one file, without external data"
    assert results["another"] > 1e-2, "the check would pass anything"
    assert "does not run at 8 x 8" in results["small"]
    assert "cannot trace Fixed" in results["fixed"]
    assert "No space left" in results["full"], "torch's writer would have ended the process"
    if ONNX:
        assert "less than 2 GiB" in results["large"]
    else:
        pytest.skip("graphs of ONNX: pip install 'mmplugins[export]'")


def test_every_encoding_is_exported():
    exported = {cfg["type"] for cfgs in ENCODINGS.values() for cfg in cfgs}
    assert exported == set(POSITION_ENCODINGS.module_dict)


def test_sizes_to_check_are_not_square_and_of_no_whole_patches():
    for name in ENCODINGS:
        rows, cols = graph.least_size(model(name))
        for height, width in graph.untraced_sizes(model(name), (16, 20)):
            assert height >= rows
            assert width >= cols
            assert height != width
            assert height % 4
            assert width % 4


@pytest.mark.parametrize(("name", "least"), [("class token", 5), ("windows", 17), ("global", 17)])
def test_least_size(name, least):
    assert graph.least_size(model(name)) == (least, least)


@pytest.mark.parametrize("added", [1.0, float("nan")])
def test_a_difference_is_refused(added):
    module = model("global")

    def wrong(image):
        return [one + added for one in module(image)]

    with torch.no_grad(), pytest.raises(InputError, match="differs from the model by"):
        graph._accept(graph._difference(wrong, module, [(24, 20)]), module)


def test_packages_that_lack_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(InputError, match=r"not installed: onnxscript; pip install"):
        graph.save_onnx(model("global"), (40, 56), tmp_path / "graph.onnx")
