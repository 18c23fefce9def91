"""What one pass says of pairs of patches: cosine, attention and bias of every block.

    cosine       of the features that the block leaves, centred over the patches with a class
    attention    softmax(q k^T / sqrt(d) + bias), the mean over heads
    bias         what encodings add to the logits, the mean over heads; absent if nothing does

Pairs that attention does not read, such as those of two windows, have no attention and no bias.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from mmplugins.attention import SelfAttention
from mmplugins.bias import DenseBias, LogitBias
from mmplugins.evaluation.features.affinity import IGNORE, PREFIX, affinity
from mmplugins.evaluation.features.levels import token_layers
from mmplugins.evaluation.features.patches import chosen, patch_labels
from mmplugins.kernels import probabilities
from mmplugins.visualise.record import LayerInput

PATCHES = 256  # of an image
ROWS = 256  # of a bias at a time: bounds the memory

Values = Float[np.ndarray, "n n"]


def affinity_sums(
    model: nn.Module,
    levels: Mapping[str, Float[Tensor, "_ _ _"]],
    inputs: Mapping[SelfAttention, LayerInput],
    labels: Integer[np.ndarray, "H W"],
    *,
    image: int = 0,
) -> dict[str, Float[np.ndarray, "2 bins"]]:
    """Sums of one view, `affinity/blocks.3/attention` and so on; see `affinity`.

    Args:
        model: that made the pass.
        levels: maps of the view.
        inputs: of attention, of the whole batch, where it is ours.
        labels: class of each pixel of the view.
        image: number of the view in the batch.
    """
    sums = {}
    for name, layer in token_layers(model).items():
        if name not in levels:
            continue
        features = levels[name]
        classes = patch_labels(labels, -(-labels.shape[0] // features.shape[1]))
        patches = chosen(classes, PATCHES)
        if not len(patches):
            continue
        places = np.stack(np.divmod(patches, classes.shape[1]), axis=-1)
        values = {"cosine": (_cosine(features, classes, patches), None)}
        for attention in layer.modules():
            if attention in inputs:
                values |= attention_pairs(inputs[attention], patches, image=image)
        for kind, (each, readable) in values.items():
            sums[f"{PREFIX}{name}/{kind}"] = affinity(
                each, classes.ravel()[patches], places, readable=readable
            )
    return sums


@torch.no_grad()
def attention_pairs(
    layer: LayerInput, patches: Int[np.ndarray, " n"], *, image: int = 0
) -> dict[str, tuple[Values, Bool[np.ndarray, "n n"]]]:
    """Attention and bias between some patches of an image, and which pairs have them.

    Args:
        layer: what its attention was given.
        patches: numbers of patches of `layer.canvas`, in row-major order.
        image: number in the batch.
    """
    rows, columns = layer.windows
    x, grid = layer.part(slice(image * rows * columns, (image + 1) * rows * columns))
    weight = next(layer.module.parameters())
    terms = layer.module.terms(x.to(weight.dtype), grid)  # tokens of a pass in mixed precision
    y, x = np.divmod(patches, layer.canvas.width)
    window = y // grid.height * columns + x // grid.width
    token = grid.prefix + y % grid.height * grid.width + x % grid.width
    queries, query = np.unique(token, return_inverse=True)
    wanted = torch.from_numpy(queries).to(terms.q.device)

    def pairs(matrix: Tensor) -> np.ndarray:
        """From [windows, queries, N] to [n, n]; what is of two windows is not to be read."""
        matrix = matrix.expand(rows * columns, -1, -1).cpu().numpy()
        return matrix[window[:, None], query[:, None], token]

    bias = None if terms.bias is None else _some_rows(terms.bias, wanted)
    mask = grid.attention_mask
    mask = mask if mask is None or mask.shape[2] == 1 else mask[:, :, wanted]
    probs = probabilities(terms.q[:, :, wanted], terms.k, bias=bias, mask=mask)
    readable = window[:, None] == window
    if mask is not None:
        readable &= pairs(mask[:, 0].expand(-1, len(queries), -1))
    values = {"attention": (pairs(probs.mean(1).double()), readable)}
    if bias is not None:
        values["bias"] = (pairs(bias.values.double().mean(1)), readable)
    return values


def _some_rows(bias: LogitBias, wanted: Int[Tensor, " n"]) -> DenseBias:
    """Some rows of a bias, which is never whole in memory."""
    parts = []
    for start in range(0, bias.num_tokens, ROWS):
        stop = min(start + ROWS, bias.num_tokens)
        inside = wanted[(start <= wanted) & (wanted < stop)]
        if len(inside):
            parts.append(bias.rows(start, stop)[:, :, inside - start])
    return DenseBias(torch.cat(parts, dim=2))


def _cosine(
    features: Float[Tensor, "C h w"],
    classes: Integer[np.ndarray, "h w"],
    patches: Int[np.ndarray, " n"],
) -> Values:
    """Between patches, of features centred over those with a class."""
    flat = features.flatten(1).T
    known, some = (
        flat[torch.from_numpy(which).to(flat.device)].double()
        for which in (np.flatnonzero(classes != IGNORE), patches)
    )
    directions = F.normalize(some - known.mean(0), dim=1)
    return (directions @ directions.T).cpu().numpy()
