"""`python -m mmplugins.compat`: look after the ops of an mmcv without compiled ones."""

import argparse

import torch
import torchvision

from mmplugins.compat.family import check_family
from mmplugins.compat.ops import installed_ops, is_ours, ops_file, remove_ops, write_ops

DESCRIPTION = """\
mmcv installs without its compiled ops unless it is built for your torch. Mask R-CNN needs two of
them, nms and RoIAlign, and importing mmdet needs that they exist. mmplugins answers them from
torchvision in every process that imports mmplugins: tools/train.py and tools/test.py of mmplugins
need nothing more. OpenMMLab's own scripts import mmdet before they read the config that names
mmplugins; for those, install-ops writes a small file into the installed mmcv, once.
"""
EPILOG = """\
examples:
  python -m mmplugins.compat status
  python -m mmplugins.compat install-ops      # then: python mmdetection/tools/test.py ...
  python -m mmplugins.compat remove-ops       # before installing an mmcv with compiled ops
"""
ACTIONS = {
    "status": "say which family is in use and where mmcv's ops come from",
    "install-ops": "write mmcv/_ext.py; refused where mmcv has ops already",
    "remove-ops": "remove the file that install-ops wrote; never anything else",
}


def describe() -> str:
    """Return the answer to `status`."""
    found = installed_ops()
    if is_ours(found):
        ops = f"torchvision's, for every script ({found})"
    elif found:
        ops = f"compiled ({found})"
    else:
        ops = "torchvision's, in processes that import mmplugins"
    return (
        f"family: {check_family() or 'unknown, a source checkout'}\n"
        f"mmcv:   {ops_file().parent}\n"
        f"ops:    {ops}\n"
        f"torch:  {torch.__version__}, torchvision {torchvision.__version__}"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmplugins.compat",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in ACTIONS.items():
        commands.add_parser(action, help=text, description=text)
    action = parser.parse_args().action
    try:
        if action == "status":
            print(describe())
        elif action == "install-ops":
            print(f"wrote {write_ops()}")
        else:
            removed = remove_ops()
            print(f"removed {removed}" if removed else "nothing to remove")
    except (FileExistsError, ImportError, PermissionError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
