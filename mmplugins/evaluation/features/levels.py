"""Feature maps of any detector or segmenter, level by level: blocks, backbone, neck and head."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.models.blocks import Block

HEADS = ("decode_head", "rpn_head")  # heads that are given the maps alone


@torch.no_grad()
def feature_levels(
    model: nn.Module, x: Float[Tensor, "B 3 H W"]
) -> dict[str, Float[Tensor, "B _ _ _"]]:
    """Maps by name, from the picture on: blocks.0, .., backbone.0, .., neck.0, .., decode_head.

    Blocks are those of our ViT, their tokens laid out as patches. The stride of a map is the side
    of `x` over its own; a head of several maps has one for each, rpn_head.0 and so on.

    Args:
        model: a detector of mmdet or a segmenter of mmseg, in evaluation mode.
        x: what its backbone is given, normalised.

    Raises:
        ValueError: a model in training mode, in which features are random.
    """
    if model.training:
        raise ValueError("features of a model in training mode are random: call model.eval()")
    levels: dict[str, Tensor] = {}
    with _keeping(model, levels):
        features = model.extract_feat(x)
    for name in HEADS:
        head = getattr(model, name, None)
        if head is not None:
            levels |= _named(name, head(features))
    return levels


@contextmanager
def _keeping(model: nn.Module, levels: dict[str, Tensor]) -> Iterator[None]:
    """While it lasts, every block, the backbone and the neck leave their maps in `levels`."""

    def keep_block(name: str):
        def hook(block: Block, args: tuple, tokens: Tensor) -> None:
            grid = args[1]
            patches = grid.split(tokens)[1].transpose(1, 2)
            levels[name] = patches.unflatten(2, (grid.height, grid.width))

        return hook

    def keep(name: str):
        return lambda module, args, out: levels.update(_named(name, out))

    blocks = [module for module in model.modules() if isinstance(module, Block)]
    hooks = [
        block.register_forward_hook(keep_block(f"blocks.{number}"))
        for number, block in enumerate(blocks)
    ]
    hooks += [
        getattr(model, name).register_forward_hook(keep(name))
        for name in ("backbone", "neck")
        if isinstance(getattr(model, name, None), nn.Module)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _named(name: str, out: Tensor | Sequence) -> dict[str, Tensor]:
    """A map under its name; those of a sequence are numbered, the first list of a head's."""
    if isinstance(out, Tensor):
        return {name: out}
    if out and not isinstance(out[0], Tensor):
        out = out[0]  # scores; boxes follow
    return {f"{name}.{number}": each for number, each in enumerate(out)}
