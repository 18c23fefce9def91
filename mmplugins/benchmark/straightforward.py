"""Attention as the formulas are written down and their authors compute them: what ours is held to.

Each function makes one of q, k, v [B, h, N, d] to the output [B, N, C], before its projection, from
the same parameters as ours. What the authors make once for a grid and keep, indices of pairs, is
made beforehand. For encodings with their default options; there are neither prefix tokens nor
padding.

Sources: iRPE, https://arxiv.org/abs/2107.14222, eq. 13 to 26; SaPE2, https://arxiv.org/abs/2505.09466,
eq. 9 to 15. Written from these and measured alike, no code of the authors.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.position_encodings.irpe import IRPE
from mmplugins.position_encodings.sape2 import SaPE2

Core = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Torch's attention without any encoding."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def irpe(encoding: IRPE, *, height: int, width: int) -> Core:
    """On q and k by an index into the flattened look-up, on v by an (N, N, d) tensor of vectors."""
    tables = {name: _tables(encoding, name, height=height, width=width) for name in "qkv"}

    def core(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scale = q.shape[-1] ** -0.5
        q = q * scale
        logits = q @ k.mT
        for table, index in tables["k"]:
            logits += (q @ table).flatten(2)[:, :, index].view_as(logits)
        for table, index in tables["q"]:
            logits += (k * scale @ table).flatten(2)[:, :, index].view_as(logits).mT
        probs = logits.softmax(-1)
        out = probs @ v
        for table, index in tables["v"]:
            vectors = table[:, index].unflatten(1, probs.shape[2:])  # [1 or h, N, N, d]
            out += (probs.permute(1, 2, 0, 3) @ vectors).permute(2, 0, 1, 3)
        return out.transpose(1, 2).flatten(2)

    return core


def _tables(encoding: IRPE, name: str, *, height: int, width: int) -> list[tuple[Tensor, Tensor]]:
    """Each table of a side, with an index for every pair: into the table, or the flat look-up.

    Raises:
        ValueError: options that this form is not written for.
    """
    found = []
    if name in encoding.sides:
        side = encoding.sides[name]
        options = side.options
        if (options.mode, options.index) != ("contextual", "piecewise"):
            raise ValueError(f"iRPE has no straightforward form for {options}")
        for axis, table in side.tables.items():
            ids = pair_buckets(axis, options.ratio, height=height, width=width).to(table.device)
            if name != "v":  # the look-up has K entries for each token
                ids = ids + torch.arange(len(ids), device=ids.device)[:, None] * table.shape[-1]
            found.append((table, ids.flatten()))
    return found


def pair_buckets(axis: str, ratio: float, *, height: int, width: int) -> Tensor:
    """b(i, j) of all pairs, [N, N].

    Raises:
        ValueError: buckets of distances.
    """
    last = int(2 * ratio)
    places = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    rows, cols = (piecewise(place[:, None] - place, ratio) + last for place in places)
    buckets = {"product": rows * (2 * last + 1) + cols, "rows": rows, "cols": cols}
    if axis not in buckets:
        raise ValueError(f"iRPE has no straightforward form for buckets of {axis}")
    return buckets[axis]


def piecewise(x: Tensor, ratio: float) -> Tensor:
    """Eq. 18: exact up to `ratio`, logarithmic further out, up to twice that."""
    distance = x.abs().float()
    far = ratio + torch.log(distance.clamp(min=ratio) / ratio) / math.log(8) * ratio
    far = far.round().clamp(max=2 * ratio)
    return (torch.where(distance <= ratio, distance, far) * x.sign()).long()


def sape2(encoding: SaPE2, *, height: int, width: int) -> Core:
    """Vectors by ceil and floor, all distances at once, all logits at once.

    Raises:
        ValueError: options other than the paper's.
    """
    plain = encoding.gate == "qk" and encoding.bias_scale == 1
    if not plain or encoding.train_grid is not None or encoding.head_scale is not None:
        raise ValueError("SaPE2 has a straightforward form with the paper's options only")

    def core(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, tokens, _ = q.shape
        biases = []
        for axis, table in (("x", encoding.table_x), ("y", encoding.table_y)):
            # Lines become a part of the batch: [B L, h, n, d].
            order = (0, 2, 1, 3, 4) if axis == "x" else (0, 3, 1, 2, 4)
            query, key = (
                t.unflatten(2, (height, width)).permute(order).flatten(0, 1) for t in (q, k)
            )
            gates = torch.sigmoid(query @ key.mT * encoding.gate_scale)
            places = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=table.shape[1] - 1)
            above, below = places.ceil().long(), places.floor().long()
            content = (key if encoding.operand == "k" else query) @ table  # [B L, h, n, P]
            weight = places - below
            vectors = content.gather(-1, above) * weight + content.gather(-1, below) * (1 - weight)
            back = (0, 2, 1, 3, 4) if axis == "x" else (0, 2, 3, 1, 4)
            vectors = vectors.unflatten(0, (batch, -1)).permute(back)  # [B, h, H, W, n]
            vectors = vectors.reshape(batch, heads, tokens, -1)
            biases.append(torch.cdist(vectors, vectors))
        logits = q * q.shape[-1] ** -0.5 @ k.mT
        logits += biases[0] + biases[1]
        return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)

    return core


FORMS: Mapping[str, Callable[..., Core]] = {"IRPE": irpe, "SaPE2": sape2}  # by registered type
