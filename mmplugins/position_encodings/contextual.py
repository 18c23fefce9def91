"""Positions counted by gates, and what a table holds at them: shared by CoPE and SaPE2."""

import torch
from jaxtyping import Float
from torch import Tensor


def sum_to_the_end(gates: Float[Tensor, "*l n"], *, itself: bool = True) -> Float[Tensor, "*l n"]:
    """Sum of gates[j] over j >= m, or j > m without `itself`, for each place m of a line."""
    # A product in place of cumsum: deterministic on every device, and exportable.
    length = gates.shape[-1]
    ones = torch.ones(length, length, dtype=gates.dtype, device=gates.device)
    return gates @ ones.tril(0 if itself else -1)


def at_positions(
    content: Float[Tensor, "*i P"], place: Float[Tensor, "*i n"]
) -> Float[Tensor, "*i n"]:
    """content[lo] + w (content[lo + 1] - content[lo]), lo = floor(p), w = p - lo, p <= P - 1."""
    last = content.shape[-1] - 1
    place = place.clamp(max=last)
    # Where p is an integer, ceil(p) in place of lo + 1 would leave no slope to learn from.
    low = place.detach().floor().clamp(max=last - 1)
    weight, index = place - low, low.long()
    return content.gather(-1, index) + weight * content.diff(dim=-1).gather(-1, index)
