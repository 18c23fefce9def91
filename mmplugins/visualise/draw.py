"""Pages of bias and attention: single queries by layer and head, or a map for every patch."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from mmplugins.visualise.maps import QueryMaps
from mmplugins.visualise.page import Block, Panel, Scene, draw_page
from mmplugins.visualise.paint import Kind, mosaic

Head = int | Literal["mean"]
MakePanel = Callable[[int, Kind, Head], Panel | None]  # of a layer


def draw_queries(scene: Scene, maps: Sequence[QueryMaps], heads: Sequence[Head]) -> Figure:
    """A block for each query; rows are layers, columns are heads."""
    by_place = {(each.query, each.layer): each for each in maps}
    queries, layers = (list(dict.fromkeys(part)) for part in zip(*by_place, strict=True))
    blocks = []
    for query in queries:

        def panel(layer: int, kind: Kind, head: Head, query=query) -> Panel | None:
            values = of_head(by_place[query, layer], kind, head)
            if values is None:
                return None
            return Panel(kind.paint(values), kind.range(values), mark=query)

        rows, columns = _table(layers, scene.kinds, heads, panel)
        blocks.append(Block(f"query {query[0]},{query[1]}", [query], rows))
    return draw_page(scene, blocks, columns, panel=2.0)


def draw_mosaic(scene: Scene, maps: Sequence[QueryMaps], heads: Sequence[Head]) -> Figure:
    """One block; each panel holds the maps of all queries, laid out as they lie in the picture."""
    queries = list(dict.fromkeys(each.query for each in maps))
    layers = list(dict.fromkeys(each.layer for each in maps))

    def panel(layer: int, kind: Kind, head: Head) -> Panel | None:
        own = {each.query: of_head(each, kind, head) for each in maps if each.layer == layer}
        if any(values is None for values in own.values()):
            return None
        return Panel(mosaic(own, kind), f"all maps: {kind.range(np.stack(list(own.values())))}")

    rows, columns = _table(layers, scene.kinds, heads, panel)
    block = Block(f"{len(queries)} queries", queries, rows)
    return draw_page(scene, [block], columns, panel=30.0)


def of_head(maps: QueryMaps, kind: Kind, head: Head) -> np.ndarray | None:
    """The map of a kind for one head, or the mean over all; None if the layer has none."""
    values: Tensor | None = maps.attention if kind.name == "attention" else maps.bias
    if values is None:
        return None
    return (values.mean(0) if head == "mean" else values[head]).numpy()


def _table(
    layers: Sequence[int], kinds: Sequence[Kind], heads: Sequence[Head], make: MakePanel
) -> tuple[list[tuple[str, list[Panel | None]]], list[str]]:
    """Rows of panels, and the names of columns; kinds lie side by side where heads are few."""
    beside = len(heads) <= 4
    rows = []
    for layer in layers:
        for group in [kinds] if beside else [[kind] for kind in kinds]:
            panels = [make(layer, kind, head) for kind in group for head in heads]
            label = f"layer {layer}" if beside else f"layer {layer}\n{group[0].name}"
            if any(panels):
                rows.append((label, panels))
    names = ["mean of heads" if head == "mean" else f"head {head}" for head in heads]
    if beside:
        names = [f"{kind.name}, {name}" for kind in kinds for name in names]
    return rows, names
