"""The backbone, and the neck behind it, out of a training's checkpoint."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

import mmplugins
from mmplugins.checkpoints import files
from mmplugins.checkpoints.moves import State, some
from mmplugins.checkpoints.vit_config import plain
from mmplugins.checkpoints.wrappers import bare, within
from mmplugins.disk import file_hash
from mmplugins.engine.inputs import InputError


@dataclass(frozen=True)
class Backbone:
    """A trained backbone on its own.

    Attributes:
        name: what its files are called.
        config: its config, as in `model.backbone`, without `init_cfg`.
        module: the backbone, in evaluation mode, with its weights.
        neck: the neck behind it, likewise; None if the model has none.
        facts: where it comes from, in plain types.
    """

    name: str
    config: dict[str, Any]
    module: nn.Module
    neck: nn.Module | None
    facts: dict[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether every host knows it, as `mmplugins.NAME`, and not only its own."""
        return type(self.module).__module__.startswith("mmplugins.")

    @property
    def state(self) -> State:
        """Its weights."""
        return self.module.state_dict()

    @property
    def encodings(self) -> list[dict]:
        """Configs of its position encodings."""
        return plain(self.config.get("position_encodings", []))

    @property
    def grid(self) -> tuple[int, int] | None:
        """(height, width) in patches of the training grid, if it is a ViT of ours."""
        dims = getattr(self.module, "dims", None)
        return dims and dims.grid

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of a training image; 224 where the backbone does not tell."""
        patch = self.config.get("patch_size", 16)
        return (224, 224) if self.grid is None else tuple(side * patch for side in self.grid)


class WithNeck(nn.Module):
    """A backbone and its neck as one."""

    def __init__(self, backbone: nn.Module, neck: nn.Module):
        super().__init__()
        self.backbone, self.neck = backbone, neck

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """The maps of the neck."""
        return self.neck(self.backbone(x))


def load(
    cfg: Config, checkpoint: str, *, name: str, entry: str | None = None, trust: bool = False
) -> Backbone:
    """The backbone of a config, with the weights of a checkpoint.

    Args:
        cfg: any config of mmdet, mmseg or mmpretrain with a `model.backbone`.
        checkpoint: of its training; a file of the backbone alone does as well.
        name: what files are called after.
        entry: which weights; by default those that it would be tested with. EMAHook keeps those of
            the last iteration under `ema_state_dict`, timm its averages under `state_dict_ema`.
        trust: run code that the checkpoint brings.

    Raises:
        InputError: no backbone in the config, or weights that are not exactly its own.
    """
    if "backbone" not in cfg.get("model", {}):
        raise InputError("the config has no model.backbone")
    weights = files.read(checkpoint, trust=trust, entry=entry)
    state = bare(weights.state)
    if not within(state, "backbone.") and within(state, "module."):
        state = within(state, "module.")  # EMAHook's, beside a count of steps
    whole = within(state, "backbone.")
    init_default_scope(cfg.default_scope)
    module, config = _built(cfg.model.backbone)
    _fill(module, whole or state, f"{checkpoint}: backbone")
    neck = _neck(cfg.model.get("neck"), within(state, "neck."), checkpoint) if whole else None
    facts = {
        "config": Path(cfg.filename or "").name,
        "host": cfg.default_scope,
        "images": _images(cfg),
        "checkpoint": {"name": Path(checkpoint).name, "sha256": file_hash(checkpoint)},
        "weights": _told(weights),
        "trained": {
            key: count
            for key in ("epoch", "iter")
            if isinstance(count := weights.meta.get(key), int)
        },
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "mmplugins": mmplugins.__version__,
    }
    return Backbone(name, config, module, neck, facts)


def _neck(cfg: ConfigDict | None, state: State, checkpoint: str) -> nn.Module | None:
    """The neck, if the config has one and the checkpoint its weights."""
    neck = _built(cfg)[0] if cfg else None
    if neck is None or (neck.state_dict() and not state):
        return None
    _fill(neck, state, f"{checkpoint}: neck")
    return neck


def _images(cfg: Config) -> dict[str, Any]:
    """What training made of images of 0 to 255; empty where the config does not say."""
    steps = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor")
    if not steps:
        return {}
    turned = steps.get("bgr_to_rgb") or steps.get("to_rgb")
    return {"order": "RGB" if turned else "BGR", **{key: steps.get(key) for key in ("mean", "std")}}


def _told(weights: files.Weights) -> str:
    # mmengine's EMAHook swaps: its averages are what is under state_dict.
    hooked = "ema_state_dict" in weights.entries
    known = {"state_dict": "averages of EMAHook", "ema_state_dict": "of the last iteration"}
    return known.get(weights.entry, weights.entry) if hooked else weights.entry or "all there are"


def _built(cfg: ConfigDict) -> tuple[nn.Module, dict[str, Any]]:
    """A module in evaluation mode, and its config in plain types, without `init_cfg`."""
    config = cfg.to_dict()
    config.pop("init_cfg", None)
    module = MODELS.build(deepcopy(config))
    module.eval()  # returns nothing of the hosts' ResNets
    return module, config


def _fill(module: nn.Module, state: State, what: str) -> None:
    """Load exactly the weights of `module`, tables of another grid stretched."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        wanted = module.state_dict()
        wrong = {
            "missing": wanted.keys() - state.keys(),
            "not its own": state.keys() - wanted.keys(),
        }
        parts = [f"{why}: {some(sorted(names))}" for why, names in wrong.items() if names]
        reason = "; ".join(parts) or str(error).splitlines()[-1].strip()
        raise InputError(f"{what} does not fit the config; {reason}") from error
