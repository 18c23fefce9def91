"""Which of the two OpenMMLab families is imported here."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Family = Literal["onedl", "openmmlab"]

# Distributions by family and by the module that they install.
DISTRIBUTIONS: dict[Family, dict[str, tuple[str, ...]]] = {
    "onedl": {
        "mmengine": ("onedl-mmengine",),
        "mmcv": ("onedl-mmcv", "onedl-mmcv-lite"),
        "mmdet": ("onedl-mmdetection",),
        "mmseg": ("onedl-mmsegmentation",),
    },
    "openmmlab": {
        "mmengine": ("mmengine", "mmengine-lite"),
        "mmcv": ("mmcv", "mmcv-lite"),
        "mmdet": ("mmdet",),
        "mmseg": ("mmsegmentation",),
    },
}
EXTRAS = "`pip install 'mmplugins[onedl]'` or `pip install 'mmplugins[openmmlab]'`"


def module_folder(module: str) -> Path | None:
    """Return the folder that `import module` would load, without importing it."""
    spec = find_spec(module)
    # A leftover folder without __init__.py is a namespace package: nothing is installed there.
    return Path(spec.origin).parent.resolve() if spec and spec.origin else None


def owners(module: str) -> dict[str, Family]:
    """Return the distributions whose files `import module` would load, with their families.

    Metadata alone does not tell: a `--target` folder of one family may stand in front of an
    install of the other. The distribution must lie where the module was found.
    """
    folder = module_folder(module)
    return {
        name: family
        for family, modules in DISTRIBUTIONS.items()
        for name in modules[module]
        for distribution in metadata.distributions(name=name)
        if Path(str(distribution.locate_file(module))).resolve() == folder
    }


def check_family() -> Family | None:
    """Tell which OpenMMLab family is in use; None for source checkouts without metadata.

    Raises:
        ImportError: mmengine is missing, or modules of both families would be imported.
    """
    if module_folder("mmengine") is None:
        raise ImportError(f"mmplugins needs mmengine, which is not installed: {EXTRAS}.")
    found = {
        f"{distribution} ({module})": family
        for module in DISTRIBUTIONS["onedl"]
        for distribution, family in owners(module).items()
    }
    families = set(found.values())
    if len(families) > 1:
        raise ImportError(
            "Both OpenMMLab families are installed, and they overwrite each other's modules: "
            f"{', '.join(found)}. `pip uninstall` all of them, then {EXTRAS}."
        )
    return families.pop() if families else None


def allow_mmseg_bases() -> None:
    """Let configs inherit from `mmseg::...` in the OneDL family as in the original one.

    mmengine looks `mmseg` up as the distribution `mmsegmentation`; OneDL's has another name.
    Call it before `Config.fromfile`.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    if check_family() == "onedl":
        MODULE2PACKAGE["mmseg"] = "mmseg"
