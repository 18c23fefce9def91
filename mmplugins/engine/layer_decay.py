"""Layer-wise learning rate decay for any backbone that knows the depth of its parameters."""

from collections.abc import Mapping

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Multiply the learning rate at depth i of D by `layer_decay_rate ** (D - 1 - i)`.

    Depths come from `model.backbone.get_layer_depth(name, prefix)`; what lies outside the backbone
    is at the last one. Parameters of position encodings (`.pos.`) get no weight decay. All other
    keys of `paramwise_cfg`, `custom_keys` included, work as in mmengine and multiply.

        optim_wrapper = dict(
            constructor='LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.7, norm_decay_mult=0.0))

    Source: https://arxiv.org/abs/2106.08254, appendix.

    Raises:
        ValueError: `layer_decay_rate` is missing or not in (0, 1].
        TypeError: the model's backbone has no `get_layer_depth`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Mapping | None = None):
        paramwise_cfg = dict(paramwise_cfg or {})
        self.rate = paramwise_cfg.pop("layer_decay_rate", None)
        if self.rate is None or not 0 < self.rate <= 1:
            raise ValueError(
                f"optim_wrapper.paramwise_cfg.layer_decay_rate must be in (0, 1], not {self.rate}"
            )
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        # mmengine looks at single parameters only when there is some option for them.
        self.paramwise_cfg.setdefault("custom_keys", {})

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs) -> None:
        """Let mmengine collect the groups, one a parameter, then scale them at the root."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:
            return
        backbone = getattr(module, "backbone", None)
        if not hasattr(backbone, "get_layer_depth"):
            raise TypeError(
                f"layer-wise decay needs model.backbone.get_layer_depth(name, prefix), which "
                f"{type(backbone).__name__} lacks: use mmplugins.ViT or drop `constructor`"
            )
        names = {id(param): name for name, param in module.named_parameters()}
        for group in params:
            name = names[id(group["params"][0])]
            depth, depths = backbone.get_layer_depth(name, "backbone.")
            group["lr"] = group.get("lr", self.base_lr) * self.rate ** (depths - 1 - depth)
            if ".pos." in name:
                group["weight_decay"] = 0.0
