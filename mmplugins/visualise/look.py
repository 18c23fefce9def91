"""Let a model of OpenMMLab look at a picture file, as its own test would, and keep what it saw."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from mmplugins.compat import secure_checkpoints
from mmplugins.engine.inputs import InputError, check_file, check_model
from mmplugins.engine.runner import refuse_misfits
from mmplugins.visualise.record import LayerInput, record


@dataclass(frozen=True)
class Look:
    """One pass of a model over a picture.

    Attributes:
        picture: what the backbone was given, resized and padded, as RGB of [H, W, 3] bytes.
        content: (height, width) of the picture in it, that is without padding.
        layers: what the attention modules were given.
        passes: how often the model looked; if at crops one by one, all else is of the first.
    """

    picture: np.ndarray
    content: tuple[int, int]
    layers: Sequence[LayerInput]
    passes: int


def build_model(
    cfg: Config, checkpoint: str | None = None, *, device: str = "cpu", trust: bool = False
) -> nn.Module:
    """The model of a config, ready to look.

    Args:
        cfg: config of mmdet or mmseg.
        checkpoint: its weights, which must fit; without, the weights are random, always the same.
        device: where to run.
        trust: let the checkpoint run code.

    Raises:
        InputError: options or weights that do not fit.
    """
    import_module(f"{cfg.default_scope}.models")
    init_default_scope(cfg.default_scope)
    check_model(cfg)
    options = deepcopy(cfg.model)
    if "init_cfg" in options.backbone:
        options.backbone.init_cfg = None  # as in the hosts' inference: nothing to download
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(options))
    if checkpoint is None:
        model.init_weights()
    else:
        check_file(checkpoint, "checkpoint")
        with secure_checkpoints(trust), refuse_misfits(checkpoint):
            load_checkpoint(model, checkpoint, map_location="cpu", strict=True)
    return model.to(device).eval()


def look(model: nn.Module, cfg: Config, image: str, layers: Sequence[int]) -> Look:
    """Let `model` look at the picture file `image` through the test pipeline of its config.

    Raises:
        InputError: a file that is no picture, or layers that the model has not.
    """
    check_file(image, "image")
    try:
        Image.open(Path(image).expanduser()).close()
    except UnidentifiedImageError as error:
        raise InputError(f"image: `{image}` is no picture that can be read") from error
    steps = [step for step in inference_steps(cfg) if "LoadAnnotations" not in str(step["type"])]
    data = pseudo_collate([Compose(steps)(dict(img_path=image, img_id=0))])
    seen: list[Tensor] = []
    hook = model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        with torch.no_grad():
            inputs = record(model, lambda: model.test_step(data), layers)
    finally:
        hook.remove()
    picture = _as_picture(seen[0], model, cfg)
    content = _content(data["data_samples"][0].metainfo, picture.shape[:2])
    return Look(picture, content, inputs, passes=len(seen))


def inference_steps(cfg: Config) -> list[ConfigDict]:
    """The steps of the test dataset, the innermost where datasets are wrapped.

    Raises:
        InputError: the config has none.
    """
    dataset = cfg.get("test_dataloader", {}).get("dataset", {})
    while "pipeline" not in dataset:
        inner = dataset.get("dataset") or next(iter(dataset.get("datasets", [])), None)
        if inner is None:
            raise InputError("the config has no test_dataloader.dataset.pipeline")
        dataset = inner
    return dataset.pipeline


def _as_picture(x: Tensor, model: nn.Module, cfg: Config) -> np.ndarray:
    """The first image of a normalised batch, its normalisation undone."""
    preprocessor, image = model.data_preprocessor, x[0]
    if hasattr(preprocessor, "mean"):
        image = image * preprocessor.std + preprocessor.mean
    if not cfg.model.get("data_preprocessor", {}).get("bgr_to_rgb"):
        image = image.flip(0)  # pictures are loaded as BGR
    return image.permute(1, 2, 0).round().clamp(0, 255).byte().cpu().numpy()


def _content(facts: dict, size: tuple[int, int]) -> tuple[int, int]:
    """The size of the picture after resizing; what the hosts call img_shape may be padded."""
    if "ori_shape" not in facts or "scale_factor" not in facts:
        return size
    scales = reversed(facts["scale_factor"])  # of width and height
    sides = zip(facts["ori_shape"][:2], scales, size, strict=True)
    return tuple(min(round(side * scale), whole) for side, scale, whole in sides)
