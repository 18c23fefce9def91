"""Code that loads an exported backbone: in mmdet, mmseg, mmpretrain and timm."""

from typing import Any

from mmengine.config import Config

from mmplugins.export.backbone import Backbone

IMPORTS = dict(imports=["mmplugins"], allow_failed_imports=False)


def config_lines(backbone: Backbone, file: str, host: str) -> str:
    """Lines of a config of `host`, mmdet, mmseg or mmpretrain, that start from `file`."""
    config: dict[str, Any] = dict(
        **backbone.config, init_cfg=dict(type="Pretrained", checkpoint=file)
    )
    dims = getattr(backbone.module, "dims", None)
    if "out_indices" in config and dims:
        depth = dims.depth
        quarters = tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4))
        config["out_indices"] = quarters if host == "mmseg" and depth >= 4 else (depth - 1,)
    model: dict[str, Any] = dict(backbone=dict(_delete_=True, **config))
    if host == "mmpretrain" and dims:
        model["neck"] = dict(type="GlobalAveragePooling")
        model["head"] = dict(type="LinearClsHead", in_channels=dims.embed_dims)
    return Config(dict(custom_imports=IMPORTS, model=model)).pretty_text.strip()


def timm_lines(arguments: dict[str, Any], file: str) -> str:
    """A program that loads `file` into timm's model of the same function."""
    name = arguments["model_name"]
    rest = "".join(
        f"    {key}={value!r},\n" for key, value in arguments.items() if key != "model_name"
    )
    return (
        "import timm\n"
        "from safetensors.torch import load_file\n\n"
        f'model = timm.create_model(\n    "{name}",\n{rest})\n'
        f'model.load_state_dict(load_file("{file}"))\n'
        "tokens = model.forward_features(images)  # those in front, then the patches, row by row"
    )
