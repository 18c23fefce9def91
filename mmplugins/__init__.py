"""Position encodings for OpenMMLab: choose one, plug it in, and know what it does."""

from mmplugins import compat

compat.check_family()
compat.install_ops()

from mmplugins import engine, position_encodings  # noqa: E402
from mmplugins.grid import TokenGrid  # noqa: E402
from mmplugins.position_encodings import Dims  # noqa: E402
from mmplugins.registry import MODELS, POSITION_ENCODINGS  # noqa: E402

__version__ = "0.1.0"
__all__ = ["MODELS", "POSITION_ENCODINGS", "Dims", "TokenGrid", "engine", "position_encodings"]
