"""What attention modules are given while a model runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mmplugins.attention import SelfAttention
from mmplugins.engine.inputs import InputError
from mmplugins.grid import TokenGrid
from mmplugins.models.blocks import Block


@dataclass(frozen=True)
class LayerInput:
    """What one attention module was given, the first time that it ran.

    Attributes:
        index: number among the model's attention modules, from 0.
        module: the module.
        x: tokens, [B, N, C]; in windows, [B * windows, N, C].
        grid: where they lie, in windows each in its own.
        canvas: the grid of all patches; `grid` itself where there are no windows.
    """

    index: int
    module: SelfAttention
    x: Tensor
    grid: TokenGrid
    canvas: TokenGrid


def attention_modules(model: nn.Module) -> list[SelfAttention]:
    """Those of ours, in the order of the model.

    Raises:
        InputError: there are none.
    """
    modules = [module for module in model.modules() if isinstance(module, SelfAttention)]
    if not modules:
        raise InputError(
            f"{type(model).__name__} has no attention of mmplugins: use a backbone or a detector "
            "of mmplugins, such as type='mmplugins.ViT' or type='mmplugins.DETR'"
        )
    return modules


def record(model: nn.Module, run: Callable[[], object], layers: Sequence[int]) -> list[LayerInput]:
    """What the `layers` are given in the first pass of `run`, which makes `model` work.

    Raises:
        InputError: a layer that the model has not, or that did not run.
    """
    modules = attention_modules(model)
    if wrong := [layer for layer in layers if not 0 <= layer < len(modules)]:
        raise InputError(
            f"no layer {wrong[0]}: the model has {len(modules)} attention layers, "
            f"0 to {len(modules) - 1}"
        )
    canvases: dict[nn.Module, TokenGrid] = {}
    inputs: dict[nn.Module, tuple[Tensor, TokenGrid]] = {}

    def keep_canvas(block: Block, args: tuple[Tensor, TokenGrid]) -> None:
        canvases.setdefault(block.attn, args[1])

    def keep_input(module: SelfAttention, args: tuple[Tensor, TokenGrid]) -> None:
        inputs.setdefault(module, (args[0].detach(), args[1]))

    blocks = [module for module in model.modules() if isinstance(module, Block)]
    hooks = [block.register_forward_pre_hook(keep_canvas) for block in blocks]
    hooks += [modules[layer].register_forward_pre_hook(keep_input) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    if idle := [layer for layer in layers if modules[layer] not in inputs]:
        raise InputError(f"layer {idle[0]} did not run on this picture")
    return [
        LayerInput(layer, module, *inputs[module], canvases.get(module, inputs[module][1]))
        for layer, module in ((layer, modules[layer]) for layer in layers)
    ]
