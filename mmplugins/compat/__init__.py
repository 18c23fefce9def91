"""What differs between OpenMMLab installs, kept in one place.

Two families own the import names `mmengine`, `mmcv`, `mmdet` and `mmseg`: the maintained one of
OneDL and the original one of OpenMMLab. Either runs with or without compiled mmcv ops, and each
loads checkpoints in its own way. Nothing here imports mmcv, mmdet or mmseg.
"""

from mmplugins.compat.checkpoints import secure_checkpoints
from mmplugins.compat.family import allow_mmseg_bases, check_family
from mmplugins.compat.ops import install_ops

__all__ = ["allow_mmseg_bases", "check_family", "install_ops", "secure_checkpoints"]
