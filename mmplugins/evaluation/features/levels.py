"""Feature maps of any detector or segmenter, level by level, of the pass that also predicts.

    blocks.i    tokens after each block of our ViT, laid out as patches
    encoder.i   tokens after each layer of a DETR's encoder, ours or mmdet's, laid out likewise
    backbone.i  neck.i
    rpn_head.i  bbox_head.i     scores of dense heads
    decode_head                 logits of a segmenter before they are made as large as the picture

The stride of a map is the side of the view over its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.engine.inputs import InputError
from mmplugins.grid import TokenGrid
from mmplugins.models.blocks import Block

Levels = dict[str, Float[Tensor, "B _ _ _"]]


@contextmanager
def watching(model: nn.Module) -> Iterator[Levels]:
    """While it lasts, each call of `model`, as `test_step` makes one, fills the dict anew.

    Maps are those that the model works on and no copies: what should stay must be taken from the
    dict before the next pass.

    Raises:
        ValueError: a model in training mode, in which features are random.
        InputError: in the pass, if it looks at crops one by one.
    """
    if model.training:
        raise ValueError("features of a model in training mode are random: call model.eval()")
    levels: Levels = {}
    looks = 0

    def begin(*_: object) -> None:
        nonlocal looks
        looks = 0
        levels.clear()

    def look(*_: object) -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise InputError(
                f"{type(model).__name__} looks at a picture in several crops, of which no one has "
                "the features of the picture: measure with --levels pred,task, or give the config "
                "model.test_cfg=dict(mode='whole')"
            )

    hooks = [
        model.register_forward_pre_hook(begin),
        model.backbone.register_forward_pre_hook(look),
        *(module.register_forward_hook(keep) for module, keep in _keepers(model, levels)),
    ]
    try:
        yield levels
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def feature_levels(model: nn.Module, x: Float[Tensor, "B 3 H W"], samples: Sequence) -> Levels:
    """Maps of a normalised picture, as the model's preprocessor gives it with its data samples."""
    with watching(model) as levels:
        model(x, samples, mode="predict")
    return levels


def level_strides(levels: Mapping[str, Tensor], view: tuple[int, int]) -> dict[str, int | None]:
    """Pixels of a cell, of maps of a view of (height, width); None if not the same everywhere.

    A side that a stride rounds up can look like one that another stride divides: views should be
    multiples of the largest stride.
    """

    def stride(height: int, width: int) -> int | None:
        (y, y_rest), (x, x_rest) = divmod(view[0], height), divmod(view[1], width)
        return y if y == x and y_rest == x_rest == 0 else None

    return {name: stride(*level.shape[-2:]) for name, level in levels.items()}


def equivariance_period(model: nn.Module, strides: Mapping[str, int | None]) -> int:
    """P: the pixels after which strides, and windows that attention stays in, repeat."""
    periods = [stride for stride in strides.values() if stride]
    for name, window in _windows(model):
        periods += [side * strides[name] for side in window if strides.get(name)]
    return math.lcm(*periods)


def token_layers(model: nn.Module) -> dict[str, nn.Module]:
    """By level, the modules that give tokens: blocks of our ViT and layers of a DETR's encoder."""
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    layers = getattr(getattr(model, "encoder", None), "layers", ())
    return {
        f"{place}.{number}": module
        for place, modules in (("blocks", blocks), ("encoder", layers))
        for number, module in enumerate(modules)
    }


Keep = Callable[[nn.Module, tuple, object], None]


def _keepers(model: nn.Module, levels: Levels) -> Iterator[tuple[nn.Module, Keep]]:
    """Modules, and forward hooks that put what they return into `levels`."""
    for name, module in token_layers(model).items():
        yield module, partial(_keep_tokens, levels, name)
    keeps = dict(
        backbone=_keep_maps, neck=_keep_maps, rpn_head=_keep_scores, bbox_head=_keep_scores
    )
    for name, keep in keeps.items():
        if isinstance(module := getattr(model, name, None), nn.Module):
            yield module, partial(keep, levels, name)
    head = getattr(model, "decode_head", None)
    if isinstance(head, nn.ModuleList):
        head = head[-1]  # a cascade's last word
    # mmseg calls `decode_head.forward`, past its hooks.
    if isinstance(classifier := getattr(head, "conv_seg", None), nn.Module):
        yield classifier, partial(_keep_maps, levels, "decode_head")


def _keep_tokens(levels: Levels, name: str, module: nn.Module, args: tuple, out: Tensor) -> None:
    """As a map of the grid that the layer was given, or, in mmdet's, of the last map before."""
    grid = next((arg for arg in args if isinstance(arg, TokenGrid)), None)
    if grid is None:
        *_, last = (m for n, m in levels.items() if n.startswith(("backbone", "neck")))
        grid = TokenGrid(*last.shape[-2:])
    if out.shape[1] == grid.num_tokens:  # else they are of several maps
        patches = grid.split(out)[1].mT
        levels[name] = patches.unflatten(2, (grid.height, grid.width)).detach()


def _keep_maps(levels: Levels, name: str, module: nn.Module, args: tuple, out: object) -> None:
    """A map under its name; those of a sequence are numbered."""
    if isinstance(out, Tensor):
        levels[name] = out.detach()
    else:
        levels |= {f"{name}.{number}": each.detach() for number, each in enumerate(out)}


def _keep_scores(levels: Levels, name: str, module: nn.Module, args: tuple, out: tuple) -> None:
    """Dense heads are given maps and return scores and boxes; a DETR's is given queries."""
    if args and not isinstance(args[0], Tensor):
        _keep_maps(levels, name, module, args, out[0])


def _windows(model: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Sides of windows in cells of a level."""
    for name, layer in token_layers(model).items():
        if getattr(layer, "window", None):
            yield name, layer.window
    # The hosts' Swin; windows of stages that are not returned divide those of later ones.
    stages = getattr(model.backbone, "stages", None)
    for number, stage in enumerate(model.backbone.out_indices if stages else ()):
        for module in stages[stage].modules():
            if isinstance(side := getattr(module, "window_size", None), int):
                yield f"backbone.{number}", (side, side)
