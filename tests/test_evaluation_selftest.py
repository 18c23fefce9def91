"""The instrument's test of itself passes, and fails when the instrument is broken."""

import runpy
import sys
from pathlib import Path

import pytest

from mmplugins.evaluation import equivariance
from mmplugins.evaluation.features import errors as features_module
from mmplugins.evaluation.selftest.verdicts import FAULTS, PARTS, selftest
from mmplugins.evaluation.shifts import Frame

TOOL = Path(__file__).parents[1] / "tools/selftest.py"


@pytest.fixture
def tool(monkeypatch, capsys):
    def run() -> str:
        monkeypatch.setattr(sys, "argv", [str(TOOL)])
        runpy.run_path(str(TOOL), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_row_is_what_it_must_be(tool):
    said = tool()
    total = sum(map(len, PARTS.values())) + len(FAULTS)
    assert f"all {total} rows are what they must be" in said
    assert "SaPE2" in said
    assert "iRPE" in said


def failed_rows() -> set[str]:
    return {f"{row.part}: {row.name}" for row in selftest() if not row.passed}


def wrong_sign(shift):
    return -shift[0], -shift[1]


def swapped(shift):
    return shift[1], shift[0]


@pytest.mark.parametrize("fault", [wrong_sign, swapped])
def test_an_instrument_that_shifts_back_wrongly_fails(fault, monkeypatch):
    right = features_module.corresponding

    def corresponding(reference, shifted, shift, **options):
        return right(reference, shifted, fault(shift), **options)

    monkeypatch.setattr(equivariance, "corresponding", corresponding)
    failed = failed_rows()
    assert {"rolled: no encoding", "masked canvas: DETR's sine"} <= failed


def test_an_instrument_that_forgets_the_mask_fails(monkeypatch, tool):
    everything = Frame.valid

    def valid(self, picture, shift=(0, 0)):
        mask = everything(self, picture, shift)
        return None if mask is None else mask | True

    monkeypatch.setattr(Frame, "valid", valid)
    with pytest.raises(SystemExit, match="rows failed: ") as error:
        tool()
    assert {"RoPE", "SaPE2"} <= {*str(error.value).partition("failed: ")[2].split(", ")}
