"""Masks as COCO's compressed run lengths: made of bitmaps, and moved, without drawing them.

Runs of zeros and ones take turns, column by column. In the compressed string a number is written in
characters of code 48 + 5 bits + 32 where more follow, low bits first and the highest bit for the
sign; from the fourth run on, what is written is the difference to the run two before.
https://github.com/cocodataset/cocoapi
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_masks

_FIRST_MORE = 48 + 32  # characters from here on have more to follow
_MORE = bytes(range(_FIRST_MORE, _FIRST_MORE + 32))


def encoded(masks: Bool[np.ndarray, "n H W"]) -> list[dict]:
    """Run lengths of bitmaps, of which only the rows and columns that they fill are looked at."""
    height, width = masks.shape[1:]
    # Eight pixels at a time, where the sides allow.
    rows = np.ascontiguousarray(masks).view(np.uint64 if width % 8 == 0 else np.uint8).any(2)
    found = []
    for mask, filled in zip(masks, rows, strict=True):
        top, bottom = _ends(filled)
        left, right = _ends(mask[top:bottom].any(0))
        runs = _runs(mask[top:bottom, left:right], top, left, (height, width))
        found.append(coco_masks.frPyObjects({"size": [height, width], "counts": runs}, 0, 0))
    return found


def moved(masks: Sequence[dict], dy: int, dx: int) -> list[dict]:
    """Masks of one size moved in their frame, zeros moving in.

    Where all of a mask stays in the frame, each of its pixels moves on by `dx * height + dy`, so
    only the first and the last run of zeros change; else (many times slower) it is drawn.
    """
    if not masks:
        return []
    height, width = masks[0]["size"]
    x, y, w, h = coco_masks.toBbox(list(masks)).T
    stays = (x + dx >= 0) & (y + dy >= 0) & (x + dx + w <= width) & (y + dy + h <= height)
    # In the last corner no zeros may be left at the end; and of nothing, nothing moves.
    stays &= (x + dx + w < width) | (y + dy + h < height)
    change = np.where(w > 0, dx * height + dy, 0).tolist()
    stays = (stays | (w == 0)).tolist()
    return [
        (inside and _lengthened(mask, by)) or _drawn(mask, dy, dx)
        for mask, inside, by in zip(masks, stays, change, strict=True)
    ]


def _lengthened(mask: dict, change: int) -> dict | None:
    """The first run longer, the last as much shorter; None if the last is not of zeros."""
    counts = mask["counts"]
    codes = counts if isinstance(counts, bytes) else counts.encode()
    if change == 0:
        return {"size": mask["size"], "counts": codes}
    if len(codes.translate(None, _MORE)) % 2 == 0:
        return None
    first, last = 0, len(codes) - 1
    while codes[first] >= _FIRST_MORE:
        first += 1
    while codes[last - 1] >= _FIRST_MORE:
        last -= 1
    # Neither is what another run's difference is taken to.
    start, end = _number(codes[: first + 1]) + change, _number(codes[last:]) - change
    return {
        "size": mask["size"],
        "counts": _written(start) + codes[first + 1 : last] + _written(end),
    }


def _drawn(mask: dict, dy: int, dx: int) -> dict:
    (height, width), pixels = mask["size"], coco_masks.decode(mask)
    drawn = np.zeros_like(pixels)
    (to_y, from_y), (to_x, from_x) = _windows(dy, height), _windows(dx, width)
    drawn[to_y, to_x] = pixels[from_y, from_x]
    return coco_masks.encode(drawn)


def _ends(filled: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    places = np.flatnonzero(filled)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def _runs(part: Bool[np.ndarray, "h w"], top: int, left: int, size: tuple[int, int]) -> list[int]:
    """Lengths of the runs of a mask of `size` of which this is the part that is filled."""
    height, width = size
    rows = part.shape[0]
    # A row of zeros below ends every column's last run, unless it is as high as the mask.
    columns = np.zeros((part.shape[1], rows + (rows < height)), np.int8)
    columns[:, :rows] = part.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=0, append=0))
    column, row = np.divmod(changes, columns.shape[1])
    places = (left + column) * height + top + row
    runs = np.diff(places, prepend=0, append=height * width).tolist()
    return runs if runs[-1] else runs[:-1]


def _number(codes: bytes) -> int:
    value = sum((code - 48 & 31) << 5 * place for place, code in enumerate(codes))
    negative = codes[-1] - 48 & 16
    return value - (1 << 5 * len(codes)) if negative else value


def _written(value: int) -> bytes:
    codes = []
    while True:
        low, value = value & 31, value >> 5
        if value == (-1 if low & 16 else 0):
            return bytes([*codes, low + 48])
        codes.append(low + 32 + 48)


def _windows(shift: int, size: int) -> tuple[slice, slice]:
    """Where pixels of one axis arrive, and where these came from."""
    start, stop = max(shift, 0), max(min(shift, 0) + size, 0)
    return slice(start, max(start, stop)), slice(start - shift, max(start, stop) - shift)
