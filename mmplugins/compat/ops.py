"""Give an mmcv without compiled ops the ones that Mask R-CNN needs, on top of torchvision."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path

from mmplugins.compat.family import EXTRAS, module_folder
from mmplugins.disk import write

STAND_IN = Path(__file__).with_name("mmcv_ext.py")
EXT_FILE = '''\
"""Written by `python -m mmplugins.compat install-ops`; `remove-ops` takes it away."""

from mmplugins.compat.mmcv_ext import *  # noqa: F403
from mmplugins.compat.mmcv_ext import __getattr__  # noqa: F401
'''


class OpsFinder(MetaPathFinder):
    """Finds our stand-in for `mmcv._ext`, when no finder before it found a real one."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Return the stand-in's spec for `mmcv._ext`, None for any other module."""
        return spec_from_file_location(fullname, STAND_IN) if fullname == "mmcv._ext" else None


def install_ops() -> None:
    """Provide `mmcv._ext` in this process, if nothing else does. Call before importing mmdet."""
    if not any(isinstance(finder, OpsFinder) for finder in sys.meta_path):
        sys.meta_path.append(OpsFinder())  # last: compiled ops always win


def ops_file() -> Path:
    """Return where `write_ops` puts its file.

    Raises:
        ImportError: mmcv is not installed.
    """
    folder = module_folder("mmcv")
    if folder is None:
        raise ImportError(f"mmcv is not installed: {EXTRAS}.")
    return folder / "_ext.py"


def installed_ops() -> Path | None:
    """Return the file that holds `mmcv._ext` on disk, None where there is none."""
    spec = PathFinder.find_spec("mmcv._ext", [str(ops_file().parent)])
    return Path(spec.origin) if spec and spec.origin else None


def is_ours(file: Path | None) -> bool:
    """Tell whether `write_ops` wrote this file."""
    return file is not None and file.suffix == ".py" and file.read_text() == EXT_FILE


def write_ops() -> Path:
    """Write the stand-in beside the installed mmcv, for scripts that never import mmplugins.

    Raises:
        FileExistsError: mmcv has ops already, compiled or not written by us.
    """
    found = installed_ops()
    if found and not is_ours(found):
        raise FileExistsError(f"{found} provides mmcv's ops already; nothing to install.")
    target = ops_file()
    write(target, EXT_FILE.encode())
    return target


def remove_ops() -> Path | None:
    """Remove what `write_ops` wrote; None where there was nothing to remove.

    Raises:
        FileExistsError: the file that provides the ops is not ours.
    """
    found = installed_ops()
    if found and not is_ours(found):
        raise FileExistsError(f"{found} was not written by mmplugins; left in place.")
    if found:
        found.unlink()
    return found
