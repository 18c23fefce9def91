"""The wheel holds what OpenMMLab's packages hold; the pinned set satisfies what it asks for."""

import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from itertools import chain
from pathlib import Path

import pytest
from mmengine.config import Config
from packaging.requirements import Requirement

from mmplugins.compat.family import DISTRIBUTIONS

ROOT = Path(__file__).parents[1]
FOLDERS = ("mmplugins", "configs", "tools")
FILES = ("setup.py", "pyproject.toml", "model-index.yml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy, since setuptools writes beside the sources; unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "src" / name, ignore=ignore)
    for name in FILES:
        shutil.copy2(ROOT / name, folder / "src")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--wheel-dir", folder, folder / "src"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def requirements(wheel: Path) -> list[Requirement]:
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    lines = message_from_string(metadata.read_text()).get_all("Requires-Dist")
    return [Requirement(line) for line in lines]


def files(folder: Path) -> set[Path]:
    return {
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def pins(text: str) -> dict[str, str]:
    return {name.lower(): version for name, version in re.findall(r"([\w-]+)==([\w.]+)", text)}


@pytest.mark.parametrize("folder", ["configs", "tools"])
def test_wheel_carries_configs_and_tools(wheel: Path, folder: str) -> None:
    """All but what was measured with them."""
    source = {file for file in files(ROOT / folder) if "results" not in file.parts}
    assert files(wheel / "mmplugins" / ".mim" / folder) == source


def test_wheel_holds_the_package_and_nothing_beside_it(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    assert {entry.name for entry in wheel.iterdir()} == {"mmplugins", info.name}
    assert (info / "licenses" / "LICENSE").is_file()
    source = {file for file in files(ROOT / "mmplugins") if ".mim" not in file.parts}
    assert {file for file in files(wheel / "mmplugins") if ".mim" not in file.parts} == source


def test_model_index_of_the_wheel_points_into_it(wheel: Path) -> None:
    index = Config.fromfile(wheel / "mmplugins" / ".mim" / "model-index.yml")
    assert index.Import
    for entry in index.Import:
        assert (wheel / "mmplugins" / ".mim" / entry).is_file(), entry


def test_configs_of_the_wheel_load(wheel: Path) -> None:
    for leaf in sorted((wheel / "mmplugins" / ".mim" / "configs").glob("[!_]*/*sape2*.py")):
        assert Config.fromfile(leaf).model


def test_editable_install_leaves_nothing_in_the_sources() -> None:
    assert not (ROOT / "mmplugins" / ".mim").exists()


def test_families_are_extras_only(requirements: list[Requirement]) -> None:
    always = {requirement.name for requirement in requirements if requirement.marker is None}
    assert "torch" in always
    for modules in DISTRIBUTIONS.values():
        assert always.isdisjoint(chain.from_iterable(modules.values()))


def test_pins_satisfy_the_metadata(requirements: list[Requirement]) -> None:
    pinned = pins((ROOT / "requirements.txt").read_text())
    for requirement in requirements:
        if requirement.marker is None or "openmmlab" not in str(requirement.marker):
            version = pinned[requirement.name.lower()]
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_original_family_is_pinned_as_its_extra_asks(requirements: list[Requirement]) -> None:
    pinned = pins((ROOT / "requirements.txt").read_text() + (ROOT / "Makefile").read_text())
    extra = [entry for entry in requirements if "openmmlab" in str(entry.marker)]
    assert {"mmengine", "mmcv-lite", "mmdet", "mmsegmentation"} <= {entry.name for entry in extra}
    for requirement in extra:
        version = pinned[requirement.name.lower()]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_every_requirement_is_pinned() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert line.startswith("#") or re.match(r"[\w-]+==[\w.]+($|; sys_platform == )", line), line
