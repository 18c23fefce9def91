"""From a config, a picture and some choices to a page of bias and attention."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from matplotlib.figure import Figure
from mmengine.config import Config

from mmplugins.engine.inputs import InputError
from mmplugins.visualise.draw import Head, draw_mosaic, draw_queries
from mmplugins.visualise.look import Look, build_model, look
from mmplugins.visualise.maps import Place, QueryMaps, query_maps, valid_size
from mmplugins.visualise.page import Scene, patch_side
from mmplugins.visualise.paint import ATTENTION, BIAS, DISTANCE, Kind
from mmplugins.visualise.record import LayerInput, attention_modules

MOST = 16  # maps beside each other in a mosaic that one can still tell apart


@dataclass(frozen=True)
class Choice:
    """What to draw.

    Attributes:
        queries: `all`, or patches as `Y,X`; without any, the middle and two more.
        layers: numbers of attention layers; without any, the first, the middle and the last.
        heads: numbers, `mean` and `all`; without any, `mean all`, of a mosaic `mean`.
        what: bias, attention or both.
        invert: draw small biases white, as distances look near.
    """

    queries: Sequence[str] = ()
    layers: Sequence[int] = ()
    heads: Sequence[str] = ()
    what: Literal["bias", "attention", "both"] = "both"
    invert: bool = False

    @property
    def mosaic(self) -> bool:
        """Whether every patch is a query."""
        return list(self.queries) == ["all"]


def show(
    cfg: Config,
    image: str,
    choice: Choice,
    *,
    checkpoint: str | None = None,
    device: str = "cpu",
    trust: bool = False,
) -> tuple[Figure, list[str]]:
    """The page, and in words what is on it.

    Args:
        cfg: config of mmdet or mmseg.
        image: a picture file.
        choice: what to draw.
        checkpoint: weights; without, they are random.
        device: where to run.
        trust: let the checkpoint run code.

    Raises:
        InputError: whatever of this does not fit together.
    """
    try:
        torch.device(device)
    except RuntimeError:
        raise InputError(f"device: torch knows no `{device}`; use cpu or cuda") from None
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {device}: torch finds no GPU")
    model = build_model(cfg, checkpoint, device=device, trust=trust)
    depth = len(attention_modules(model))
    layers = dict.fromkeys(choice.layers or (0, (depth - 1) // 2, depth - 1))
    seen = look(model, cfg, image, list(layers))
    queries = _choose_queries(choice, seen)
    maps = [each for layer in seen.layers for each in query_maps(layer, queries)]
    heads = _choose_heads(choice, num_heads=len(maps[0].attention))
    grid = seen.layers[0].canvas
    weights = Path(checkpoint).name if checkpoint else "random weights"
    scene = Scene(
        picture=seen.picture,
        grid=(grid.height, grid.width),
        title=f"{Path(cfg.filename).stem}, {weights}",
        notes=_notes(image, choice, seen, maps),
        kinds=_choose_kinds(choice, maps),
    )
    draw = draw_mosaic if choice.mosaic else draw_queries
    return draw(scene, maps, heads), [scene.title, *scene.notes]


def stride_of(size: Place) -> int:
    """Every how-many-th patch of a line a mosaic can show."""
    return -(-max(size) // MOST)


def _choose_queries(choice: Choice, seen: Look) -> list[Place]:
    first = seen.layers[0].canvas
    for layer in seen.layers:
        size = layer.canvas.height, layer.canvas.width
        if size != (first.height, first.width):
            raise InputError(
                f"layer {seen.layers[0].index} has {first.height} x {first.width} patches, layer "
                f"{layer.index} has {size[0]} x {size[1]}: choose layers of one size"
            )
    if choice.queries and not choice.mosaic:
        return list(dict.fromkeys(_parse(query) for query in choice.queries))
    height, width = content_size(seen)
    if choice.mosaic:
        step = stride_of((height, width))
        # As much is left out before the first as behind the last.
        ys, xs = (range((n - 1) % step // 2, n, step) for n in (height, width))
        return [(y, x) for y in ys for x in xs]
    return list(dict.fromkeys((height * n // 4, width * n // 4) for n in (2, 1, 3)))


def content_size(seen: Look) -> Place:
    """(height, width) in patches of what is no padding, whether the model knows it or not."""
    grid = seen.layers[0].canvas
    side = patch_side(seen.picture.shape[:2], (grid.height, grid.width))
    sides = zip(valid_size(grid), seen.content, strict=True)
    return tuple(min(patches, math.ceil(pixels / side)) for patches, pixels in sides)


def _parse(query: str) -> Place:
    try:
        y, x = query.split(",")
        return int(y), int(x)
    except ValueError:
        raise InputError(f"a query is `all` alone, or Y,X as in 3,10, not `{query}`") from None


def _choose_heads(choice: Choice, num_heads: int) -> list[Head]:
    heads: list[Head] = []
    for name in choice.heads or (("mean",) if choice.mosaic else ("mean", "all")):
        if name == "mean":
            heads.append("mean")
        elif name == "all":
            heads.extend(range(num_heads))
        elif name.isdecimal() and int(name) < num_heads:
            heads.append(int(name))
        else:
            raise InputError(
                f"no head `{name}`: there are {num_heads}, 0 to {num_heads - 1}, `mean` and `all`"
            )
    return list(dict.fromkeys(heads))


def _choose_kinds(choice: Choice, maps: Sequence[QueryMaps]) -> list[Kind]:
    bias = [DISTANCE if choice.invert else BIAS] if any(m.bias is not None for m in maps) else []
    if choice.what == "bias" and not bias:
        layers = ", ".join(str(n) for n in dict.fromkeys(m.layer for m in maps))
        raise InputError(
            f"no encoding of layer {layers} has a logit bias: draw what=attention, or add an "
            "encoding that has one"
        )
    return {"bias": bias, "attention": [ATTENTION], "both": [*bias, ATTENTION]}[choice.what]


def _notes(image: str, choice: Choice, seen: Look, maps: Sequence[QueryMaps]) -> list[str]:
    """What one must know to read the page."""
    grid = seen.layers[0].canvas
    (height, width), size = seen.picture.shape[:2], (grid.height, grid.width)
    notes = [
        f"{Path(image).name} as the model sees it: {height} x {width} pixels, "
        f"{size[0]} x {size[1]} patches"
    ]
    if (inner := content_size(seen)) != size:
        notes[0] += f", {inner[0]} x {inner[1]} without padding"
    if choice.mosaic and (step := stride_of(inner)) > 1:
        notes.append(f"a map for one patch in {step} of each row and column")
    if seen.passes > 1:
        notes.append(f"the model looks {seen.passes} times, at parts: drawn is the first")
    alike: dict[str, list[str]] = {}
    for layer in seen.layers:
        alike.setdefault(_about(layer, maps), []).append(str(layer.index))
    notes += [f"layer {', '.join(layers)}: {about}" for about, layers in alike.items()]
    return notes


def _about(layer: LayerInput, maps: Sequence[QueryMaps]) -> str:
    names = " + ".join(type(encoding).__name__ for encoding in layer.module.pos.values())
    about = f"attention encodings {names or 'none'}"
    if (layer.grid.height, layer.grid.width) != (layer.canvas.height, layer.canvas.width):
        about += f", windows of {layer.grid.height} x {layer.grid.width} patches"
    if all(each.bias is None for each in maps if each.layer == layer.index):
        about += ", no logit bias"
    return about
