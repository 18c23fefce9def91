"""OpenMMLab families told apart, and stand-in ops against compiled ones."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmplugins.compat import allow_mmseg_bases, check_family, mmcv_ext, ops
from mmplugins.compat.__main__ import main

pytestmark = pytest.mark.family
ROOT = Path(__file__).parents[1]
# Outputs of compiled onedl-mmcv 2.3.6 ops on a CPU, on random boxes and feature maps.
FAMILY = re.compile(r"(mmengine|mmcv|mmdet|mmseg)(\.|$)")
GOLDEN = Path(__file__).with_name("data") / "mmcv_ops.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


# --- families ---------------------------------------------------------------------------------


def install(site: Path, distribution: str, module: str) -> None:
    """Lay out `distribution` as pip does."""
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (site / module).mkdir(exist_ok=True)
    (site / module / "__init__.py").touch()


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Replace sys.path, so that of OpenMMLab only what a test lays out is found."""

    def take_out() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in [*sys.modules] if FAMILY.match(name)}

    def replace(*sites: Path) -> None:
        monkeypatch.setattr(sys, "path", [str(site) for site in sites])
        importlib.invalidate_caches()

    installed = take_out()
    yield replace
    take_out()
    sys.modules.update(installed)


def test_family_is_the_installed_one() -> None:
    site = Path(mmengine.__file__).parents[1]
    assert check_family() == ("onedl" if any(site.glob("onedl_mmengine-*")) else "openmmlab")


@pytest.mark.parametrize(
    ("front", "behind", "family"),
    [("onedl-mmengine", "mmengine", "onedl"), ("mmengine", "onedl-mmengine", "openmmlab")],
)
def test_family_in_front_wins(
    tmp_path: Path, path: Callable[..., None], front: str, behind: str, family: str
) -> None:
    install(tmp_path / "front", front, "mmengine")
    install(tmp_path / "behind", behind, "mmengine")
    path(tmp_path / "front", tmp_path / "behind")
    assert check_family() == family


def test_no_family_names_both_extras(tmp_path: Path, path: Callable[..., None]) -> None:
    path(tmp_path)
    with pytest.raises(ImportError, match=r"mmplugins\[onedl\].*mmplugins\[openmmlab\]"):
        check_family()


@pytest.mark.parametrize("module", ["mmengine", "mmdet"])
def test_two_families_in_one_place(tmp_path: Path, path: Callable[..., None], module: str) -> None:
    install(tmp_path, "mmengine", "mmengine")
    install(tmp_path, {"mmengine": "onedl-mmengine", "mmdet": "onedl-mmdetection"}[module], module)
    path(tmp_path)
    with pytest.raises(ImportError, match=rf"onedl-.* \({module}\)") as error:
        check_family()
    assert "mmengine (mmengine)" in str(error.value)


def test_source_checkout_is_no_error(tmp_path: Path, path: Callable[..., None]) -> None:
    (tmp_path / "mmengine").mkdir()
    (tmp_path / "mmengine" / "__init__.py").touch()
    path(tmp_path)
    assert check_family() is None


@pytest.fixture(scope="module")
def fresh() -> str:
    """What a fresh interpreter says that lists heavy modules, then does as `-m` with `--help`."""
    code = """
import runpy, sys
import mmplugins
mmplugins.POSITION_ENCODINGS.build(dict(type="SaPE2"), default_args=dict(
    dims=mmplugins.Dims(embed_dims=8, num_heads=2, depth=1, grid=(4, 5))))
print(sorted({"mmdet", "mmseg", "mmcv.ops"} & sys.modules.keys()))
sys.argv = ["compat", "--help"]
runpy.run_module("mmplugins.compat", run_name="__main__", alter_sys=True)
"""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environ, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_no_host(fresh: str) -> None:
    assert fresh.splitlines()[0] == "[]"


def test_mmseg_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULE2PACKAGE, "mmseg", "mmsegmentation")
    config = tmp_path / "child.py"
    config.write_text("_base_ = 'mmseg::_base_/schedules/schedule_20k.py'\n")
    allow_mmseg_bases()
    assert Config.fromfile(config).train_cfg.max_iters == 20000


# --- ops --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [0, 1, 2])
def test_nms_is_the_compiled_one(golden: dict[str, torch.Tensor], case: int) -> None:
    from mmcv.ops import nms

    boxes, scores, offset = (golden[f"nms{case}_{key}"] for key in ("boxes", "scores", "offset"))
    dets, keep = nms(boxes, scores, iou_threshold=0.5, offset=int(offset))
    assert torch.equal(keep, golden[f"nms{case}_keep"])
    assert torch.equal(dets, golden[f"nms{case}_dets"])


def test_nms_offset_counts_the_last_pixel() -> None:
    # 4 x 4 and 4 x 2 pixels, IoU 0.5; without the last pixel 3 x 3 and 3 x 1, IoU 1/3.
    boxes = torch.tensor([[0.0, 0, 3, 3], [0, 0, 3, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert mmcv_ext.nms(boxes, scores, iou_threshold=0.4, offset=0).tolist() == [0, 1]
    assert mmcv_ext.nms(boxes, scores, iou_threshold=0.4, offset=1).tolist() == [0]


def test_nms_score_threshold_and_maximum() -> None:
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 2, 2], [10, 10, 12, 12], [20, 20, 22, 22]])
    scores = torch.tensor([0.1, 0.5, 0.9])
    _, keep = nms(boxes, scores, iou_threshold=0.5, score_threshold=0.3)
    assert keep.tolist() == [2, 1]
    _, keep = nms(boxes, scores, iou_threshold=0.5, max_num=1)
    assert keep.tolist() == [2]


def test_batched_nms_is_the_compiled_one(golden: dict[str, torch.Tensor]) -> None:
    from mmcv.ops import batched_nms

    boxes, scores, ids = golden["nms1_boxes"], golden["nms1_scores"], golden["bnms_ids"]
    dets, keep = batched_nms(boxes, scores, ids, dict(type="nms", iou_threshold=0.6))
    assert torch.equal(keep, golden["bnms_keep"])
    assert torch.equal(dets, golden["bnms_dets"])


@pytest.mark.parametrize("case", [0, 1, 2])
def test_roi_align_is_the_compiled_one(golden: dict[str, torch.Tensor], case: int) -> None:
    from mmcv.ops import RoIAlign

    x, rois, size, sampling, aligned, y, weight, gradient = (
        golden[f"roi{case}_{key}"]
        for key in ("x", "rois", "size", "sampling", "aligned", "y", "w", "gx")
    )
    align = RoIAlign(
        tuple(size.tolist()),
        spatial_scale=0.25,
        sampling_ratio=int(sampling),
        aligned=bool(aligned),
    )
    x.requires_grad_()
    out = align(x, rois)
    (out * weight).sum().backward()
    assert torch.equal(out, y)
    assert torch.equal(x.grad, gradient)


def test_roi_align_without_rois_and_in_half_precision() -> None:
    from mmcv.ops import RoIAlign

    x = torch.randn(1, 2, 6, 5, dtype=torch.bfloat16, requires_grad=True)
    align = RoIAlign((2, 3), spatial_scale=1.0, sampling_ratio=2)
    assert align(x, x.new_zeros(0, 5)).shape == (0, 2, 2, 3)
    out = align(x, x.new_tensor([[0, 0.5, 1, 4, 5]]))
    out.sum().backward()
    assert out.dtype == x.grad.dtype == torch.bfloat16
    # 6 bins of unit weight each, spread over the pixels
    assert x.grad.float().sum().item() == pytest.approx(12, rel=1e-2)


def test_missing_ops_are_named_when_called() -> None:
    from mmcv.ops import RoIAlign, soft_nms

    with pytest.raises(NotImplementedError, match=r"'softnms'.*--no-build-isolation"):
        soft_nms(torch.zeros(1, 4), torch.ones(1))
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        RoIAlign((1, 1), pool_mode="max")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5))


def test_environment_report_works() -> None:
    from mmcv.utils import collect_env

    assert "torchvision" in collect_env()["MMCV Compiler"]


@pytest.fixture
def mmcv_ext_file(tmp_path: Path, path: Callable[..., None]) -> Path:
    """Where `_ext.py` of an mmcv without ops would be."""
    install(tmp_path, "mmcv", "mmcv")
    path(tmp_path)
    return tmp_path / "mmcv" / "_ext.py"


def test_real_ops_win(mmcv_ext_file: Path) -> None:
    mmcv_ext_file.write_text("nms = 'compiled'\n")
    assert importlib.import_module("mmcv._ext").nms == "compiled"


def test_stand_in_needs_no_file(mmcv_ext_file: Path) -> None:
    extension = importlib.import_module("mmcv._ext")
    assert extension.__spec__.origin == mmcv_ext.__file__
    assert not mmcv_ext_file.exists()


def test_install_and_remove_ops(mmcv_ext_file: Path) -> None:
    assert ops.remove_ops() is None
    for _ in range(2):  # the second time it rewrites its own file
        assert ops.write_ops() == mmcv_ext_file
    assert {entry.name for entry in mmcv_ext_file.parent.iterdir()} == {"__init__.py", "_ext.py"}
    extension = importlib.import_module("mmcv._ext")
    assert extension.__file__ == str(mmcv_ext_file)
    assert extension.roi_align_backward is mmcv_ext.roi_align_backward
    with pytest.raises(NotImplementedError, match="softnms"):
        extension.softnms()
    assert ops.remove_ops() == mmcv_ext_file
    assert not mmcv_ext_file.exists()


def test_foreign_ops_stay(mmcv_ext_file: Path) -> None:
    mmcv_ext_file.write_text("nms = 'compiled'\n")
    with pytest.raises(FileExistsError, match="already"):
        ops.write_ops()
    with pytest.raises(FileExistsError, match="not written by mmplugins"):
        ops.remove_ops()
    assert mmcv_ext_file.read_text() == "nms = 'compiled'\n"


def test_command_line(
    tmp_path: Path,
    mmcv_ext_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(tmp_path, "mmengine", "mmengine")
    for action, said in [
        ("status", "in processes that import mmplugins"),
        ("install-ops", "wrote"),
        ("status", "for every script"),
        ("remove-ops", "removed"),
        ("remove-ops", "nothing to remove"),
    ]:
        monkeypatch.setattr(sys, "argv", ["compat", action])
        main()
        assert said in capsys.readouterr().out


def test_help_teaches(fresh: str) -> None:
    assert "install-ops" in fresh
    assert "examples:" in fresh
