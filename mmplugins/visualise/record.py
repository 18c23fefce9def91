"""What attention modules are given while a model runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

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

    @property
    def windows(self) -> tuple[int, int]:
        """(rows, columns) of windows in an image; (1, 1) where there are none."""
        grid, canvas = self.grid, self.canvas
        return -(-canvas.height // grid.height), -(-canvas.width // grid.width)

    def part(self, which: slice) -> tuple[Tensor, TokenGrid]:
        """Tokens and grid of some of the batch, with geometry of their own."""
        valid, mask = (
            t if t is None or len(t) == 1 else t[which] for t in (self.grid.valid, self.grid.mask)
        )
        return self.x[which], replace(self.grid, valid=valid, mask=mask, _shared={})


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


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[SelfAttention, LayerInput]]:
    """What attention modules are given first, from now or since the dict was cleared."""
    modules = [module for module in model.modules() if isinstance(module, SelfAttention)]
    canvases: dict[nn.Module, TokenGrid] = {}
    inputs: dict[SelfAttention, LayerInput] = {}

    def keep_canvas(block: Block, args: tuple[Tensor, TokenGrid]) -> None:
        canvases[block.attn] = args[1]

    def keep_input(module: SelfAttention, args: tuple[Tensor, TokenGrid]) -> None:
        if module not in inputs:
            x, grid = args
            canvas = canvases.get(module, grid)
            inputs[module] = LayerInput(modules.index(module), module, x.detach(), grid, canvas)

    blocks = [module for module in model.modules() if isinstance(module, Block)]
    hooks = [block.register_forward_pre_hook(keep_canvas) for block in blocks]
    hooks += [module.register_forward_pre_hook(keep_input) for module in modules]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


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
    with recording(model) as inputs:
        run()
    if idle := [layer for layer in layers if modules[layer] not in inputs]:
        raise InputError(f"layer {idle[0]} did not run on this picture")
    return [inputs[modules[layer]] for layer in layers]
