"""How large a logit bias is on grids of any size, the first thing that a new resolution changes.

    b(n) = mean over images, heads and pairs of patches of |bias|, in logits, on n x n patches

Reads the encoding as it is, for queries, keys and values that are drawn standard normal, each patch
by itself: what a trained model makes of its contents is not in it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from mmplugins.evaluation.results.figures import COLOURS, DPI, HEIGHT, MARKERS, WIDTH
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.registry import POSITION_ENCODINGS, position_encoding_class

Curve = Float[np.ndarray, " sides"]
STD = 0.02  # of tables, as most encodings draw them
ROWS = 256  # queries at a time: bounds the memory


def random_encoding(cfg: dict, dims: Dims, *, seed: int = 0) -> AttentionEncoding:
    """An encoding as it initialises itself, but parameters that would be zero are drawn as well.

    Raises:
        KeyError, TypeError, ValueError: `cfg` is none of an encoding with a logit bias.
    """
    kind = position_encoding_class(cfg, POSITION_ENCODINGS)
    if getattr(kind, "logit_bias", None) in (None, AttentionEncoding.logit_bias):
        raise ValueError(f"{kind.__name__} has no logit bias")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoding = POSITION_ENCODINGS.build(cfg, default_args=dict(dims=dims))
        for parameter in encoding.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=STD)
    return encoding


@torch.no_grad()
def mean_bias(
    encoding: AttentionEncoding, dims: Dims, sides: Sequence[int], *, images: int = 1, seed: int = 0
) -> Curve:
    """b(n) for each n of `sides`.

    Args:
        encoding: with a logit bias, trained or not.
        dims: that it was built for.
        sides: n.
        images: so many contents are drawn.
        seed: of the contents.

    Raises:
        ValueError: it has no bias with these options.
    """
    found = []
    for side in sides:
        grid = TokenGrid(height=side, width=side, prefix=dims.prefix)
        generator = torch.Generator().manual_seed(seed)
        shape = images, dims.num_heads, grid.num_tokens, dims.head_dims
        q, k, v = (torch.randn(shape, generator=generator) for _ in range(3))
        bias = encoding.logit_bias(q, k, v, grid)
        if bias is None:
            raise ValueError(f"{type(encoding).__name__} has no logit bias with these options")
        means = [  # all rows are of one length, so that their means can be averaged
            bias.rows(start, min(start + ROWS, grid.num_tokens))[..., grid.prefix :]
            .abs()
            .mean((0, 1, 3), dtype=torch.float64)
            for start in range(grid.prefix, grid.num_tokens, ROWS)
        ]
        found.append(float(torch.cat(means).mean()))
    return np.array(found)


def draw_growth(curves: Mapping[str, Curve], sides: Sequence[int], train: int) -> Figure:
    """Two panels, in logits and relative to the training grid, where a dashed line is its root.

    Args:
        curves: b by name, up to seven.
        sides: n of all curves, `train` among them.
        train: side of the training grid.

    Raises:
        ValueError: too many curves, or the training grid is not among the sides.
    """
    if train not in sides:
        raise ValueError(f"the training grid's side, {train}, is not among {list(sides)}")
    if len(curves) > len(COLOURS):
        raise ValueError(
            f"{len(curves)} curves are too many for one figure: {len(COLOURS)} at most"
        )
    order = np.argsort(sides)
    sides = np.asarray(sides)[order]
    figure = Figure((WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    figure.suptitle(
        "Mean absolute logit bias on n x n patches\n"
        f"random weights and contents; thin line: the training grid, n = {train}",
        fontsize=10,
        x=0.012,
        ha="left",
    )
    absolute, relative = figure.subplots(1, 2)
    for number, (name, values) in enumerate(curves.items()):
        values = values[order]
        style = dict(color=COLOURS[number], marker=MARKERS[number], ms=max(4, 10 - 2 * number))
        absolute.plot(sides, values, label=name, **style)
        relative.plot(sides, values / values[sides == train], **style)
    smooth = np.geomspace(sides[0], sides[-1])
    root = dict(color="black", lw=1, ls="--", label="root of n", zorder=1)
    relative.plot(smooth, np.sqrt(smooth / train), **root)
    absolute.set_yscale("log")
    for axes, label in ((absolute, "mean |bias|, logits"), (relative, "relative to training")):
        _sides(axes, sides, train)
        axes.set_ylabel(label)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _sides(axes: Axes, sides: Sequence[int], train: int) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sides))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("n, patches of a side")
    axes.axvline(train, color="#999999", lw=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
