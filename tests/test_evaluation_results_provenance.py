"""Provenance: hashes that follow the content alone, and what others must share."""

import hashlib
import json
from datetime import datetime
from pathlib import Path

import pytest
import torch
from evaluation_results import BOOTSTRAP, IMAGES, PLAN
from mmengine.config import Config

import mmplugins
from mmplugins.disk import file_hash
from mmplugins.evaluation.results.provenance import (
    config_hash,
    encodings,
    origin,
    protocol,
    versions,
)

CONFIGS = Path(__file__).parents[1] / "configs"
LINEAR = "torch.nn.modules.linear.Linear"
NAMES = [f"{number:012}" for number in range(IMAGES)]


def test_origin_names_what_made_the_numbers_and_no_folder(tmp_path):
    checkpoint = tmp_path / "epoch_12.pth"
    checkpoint.write_bytes(b"weights")
    cfg = Config({"model": {"encoder": {"position_encodings": [{"type": "IRPE", "ratio": 2.0}]}}})
    found = origin(
        tool="equivariance",
        options={"shifts": ("pgrid", "sub"), "out": None, "boot": 1000},
        config="configs/detr.py",
        cfg=cfg,
        checkpoints=[str(checkpoint)],
        device="cpu",
        started=datetime(2026, 1, 2, 3, 4, 5),
        processes=2,
    )
    assert found == {
        "tool": "equivariance",
        "options": {"shifts": ["pgrid", "sub"], "out": None, "boot": 1000},
        "config": {"path": "configs/detr.py", "sha256": config_hash(cfg)},
        "checkpoints": [{"name": "epoch_12.pth", "sha256": hashlib.sha256(b"weights").hexdigest()}],
        "position_encodings": {
            "model.encoder.position_encodings": [{"type": "IRPE", "ratio": 2.0}]
        },
        "versions": versions(),
        "device": "cpu",
        "started": "2026-01-02T03:04:05",
        "processes": 2,
    }
    assert str(tmp_path) not in json.dumps(found)


def test_protocol_is_all_that_others_must_share():
    found = protocol(PLAN, NAMES, BOOTSTRAP)
    assert json.loads(json.dumps(found)) == found
    assert found["shifts"]["pgrid"][0] == [0, 16]
    assert (found["mode"], found["period"], found["divisor"]) == ("canvas", 16, 32)
    assert (found["margin"], found["edge"], found["fill"]) == (128, 0, "mean")
    assert (found["images"], found["seed"], found["boot"]) == (NAMES, 0, BOOTSTRAP.count)


class TestConfigHash:
    def test_is_of_what_a_config_says(self):
        texts = ["a = 1\nb = dict(c=(2, 3), d=4)", "b = dict(d=4, c=(2,\n3))  # so\na = 1"]
        first, second = (Config.fromstring(text, ".py") for text in texts)
        assert config_hash(first) == config_hash(second)
        second.b.d = 5
        assert config_hash(first) != config_hash(second)

    def test_takes_classes_by_name(self):
        """Their addresses differ from process to process."""
        first, second = Config({"type": torch.nn.Linear}), Config({"type": LINEAR})
        assert config_hash(first) == config_hash(second)


class TestFileHash:
    def test_of_pieces_is_that_of_the_whole(self, tmp_path):
        file = tmp_path / "weights.pth"
        file.write_bytes(bytes(range(256)) * 9000)  # more than two pieces
        assert file_hash(str(file)) == hashlib.sha256(file.read_bytes()).hexdigest()

    def test_of_a_url_is_unknown_and_of_nothing_an_error(self, tmp_path):
        assert file_hash("https://example.org/weights.pth") is None
        with pytest.raises(FileNotFoundError):
            file_hash(str(tmp_path / "weights.pth"))


class TestEncodings:
    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (
                "detr/detr_r50-sine-rope-mixed_8xb2-150e_coco.py",
                {
                    "model.encoder.position_encodings": [
                        {"type": "DetrSine"},
                        {"type": "RoPE", "variant": "mixed"},
                    ]
                },
            ),
            (
                "mask_rcnn/mask-rcnn_vit-s16-nope_sfpn_8xb2-1x_coco.py",
                {"model.backbone.position_encodings": []},
            ),
        ],
    )
    def test_of_our_configs(self, config, expected):
        assert dict(encodings(Config.fromfile(CONFIGS / config).model)) == expected

    def test_are_found_in_lists_too(self):
        cfg = {"stages": [{"depth": 2}, {"position_encodings": [{"type": "PEG"}]}]}
        assert dict(encodings(cfg)) == {"model.stages[1].position_encodings": [{"type": "PEG"}]}

    def test_of_a_model_without_any(self):
        assert dict(encodings(None)) == dict(encodings({"type": "FCOS"})) == {}


def test_versions_are_those_that_run():
    found = versions()
    assert found["mmplugins"] == mmplugins.__version__
    assert torch.__version__.startswith(found["torch"].partition("+")[0])
    assert any("mmengine" in name for name in found)
    assert any("mmdet" in name for name in found)
