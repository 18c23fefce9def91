"""What SaPE2's bias is invariant to, as equalities; what it is not, as errors one can see.

Errors are relative: the largest difference over the largest bias, on random content.
"""

import pytest
import torch

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import Dims, SaPE2

HEIGHT, WIDTH, HEADS, D = 6, 8, 2, 16
SIZE = HEIGHT * WIDTH


def build(num_positions=4, **options):
    torch.manual_seed(0)
    dims = Dims(embed_dims=HEADS * D, num_heads=HEADS, depth=1, grid=(HEIGHT, WIDTH))
    sape2 = SaPE2(dims, num_positions=num_positions, **options).double()
    for table in sape2.parameters():
        torch.nn.init.normal_(table)
    return sape2


def content(size=SIZE):
    torch.manual_seed(size)
    return torch.randn(3, 1, HEADS, size, D, dtype=torch.float64)


def part(axis, sape2, qkv, *, height=HEIGHT, width=WIDTH):
    """The bias of one axis, or of both: the other's table is zero."""
    for other in {"x", "y"} - set(axis):
        torch.nn.init.zeros_(getattr(sape2, f"table_{other}"))
    return sape2.logit_bias(*qkv, TokenGrid(height, width)).dense()


def error_under(order, axis, **options):
    """How far b(content in another order) is from b(content) in that order."""
    sape2, qkv = build(**options), content()
    order = order.flatten()
    b = part(axis, sape2, qkv)
    moved = part(axis, sape2, qkv[:, :, :, order])
    return ((moved - b[:, :, order][..., order]).abs().max() / b.max()).item()


PATCHES = torch.arange(SIZE).view(HEIGHT, WIDTH)
ROWS, COLUMNS = PATCHES[torch.randperm(HEIGHT)], PATCHES[:, torch.randperm(WIDTH)]
ANY = PATCHES.flatten()[torch.randperm(SIZE)]


@pytest.mark.parametrize("operand", ["k", "q"])
@pytest.mark.parametrize(
    ("order", "axis"),
    [(ROWS, "x"), (PATCHES.roll(2, 0), "x"), (COLUMNS, "y"), (PATCHES.roll(3, 1), "y")],
    ids=["rows-x", "roll-down-x", "columns-y", "roll-right-y"],
)
def test_lines_may_be_permuted(order, axis, operand):
    assert error_under(order, axis, operand=operand) < 1e-12


@pytest.mark.parametrize(
    ("order", "axis", "least"),
    [
        (PATCHES.roll(1, 1), "x", 0.1),
        (PATCHES.roll(1, 1), "xy", 0.1),
        (PATCHES.roll(1, 0), "y", 0.1),
        (PATCHES.roll((1, 1), (0, 1)), "xy", 0.1),
        (PATCHES.flip(1), "x", 0.1),
        (ROWS, "y", 0.1),
        (ANY, "xy", 0.1),
    ],
    ids=["right-x", "right", "down-y", "both", "mirror-x", "rows-y", "any"],
)
def test_it_is_not_equivariant_along_a_line(order, axis, least):
    """The sum is anchored to the end of the line: SaPE2 is no translation-equivariant encoding."""
    assert error_under(order, axis) > least


def test_constant_gates_know_no_order():
    """With k = 0 all gates are one half: position comes from gate variation alone."""
    sape2, qkv = build(operand="q"), content()
    qkv[1] = 0
    b, order = part("xy", sape2, qkv), ANY
    moved = part("xy", sape2, qkv[:, :, :, order])
    torch.testing.assert_close(moved, b[:, :, order][..., order], rtol=0, atol=1e-12)


def test_is_a_pseudo_metric():
    b = part("xy", build(), content())
    assert (b >= 0).all()
    assert not b.diagonal(dim1=2, dim2=3).any()
    torch.testing.assert_close(b, b.mT)
    detours = b[..., :, :, None] + b[..., None, :, :]  # i to j, then j to n
    assert (b[..., :, None, :] <= detours + 1e-12).all()


@pytest.mark.parametrize("factor", [3.0, -3.0])
def test_scale_of_the_tables_is_that_of_the_bias(factor):
    """Not its sign, which no table can learn."""
    sape2, qkv = build(), content()
    b = part("xy", sape2, qkv)
    for table in sape2.parameters():
        table.data *= factor
    torch.testing.assert_close(part("xy", sape2, qkv), 3 * b)


def test_transpose():
    sape2, swapped, qkv = build(), build(), content()
    swapped.load_state_dict({"table_x": sape2.table_y, "table_y": sape2.table_x})
    order, b = PATCHES.T.flatten(), part("xy", sape2, qkv)
    other = part("xy", swapped, qkv[:, :, :, order], height=WIDTH, width=HEIGHT)
    torch.testing.assert_close(other, b[:, :, order][..., order], rtol=0, atol=1e-12)


def test_same_query_in_the_same_row_is_at_distance_zero():
    sape2, qkv = build(operand="q"), content()
    qkv[0, :, :, 5] = qkv[0, :, :, 2]
    b = part("x", sape2, qkv)
    assert b[:, :, 2, 5].abs().max() < 1e-6 * b.max()  # the root of a rounding error
    assert b[:, :, 2, 4].min() > 0.1


def test_uniform_content_carries_no_position():
    sape2, qkv = build(), content(1).expand(-1, -1, -1, SIZE, -1)
    assert part("xy", sape2, qkv).max() < 1e-6


def test_positions_fall_along_the_line_and_count_it():
    """0 < p[i, m] < n - m + 1, non-increasing in m: read off with a table that holds p itself."""
    sape2, qkv = build(num_positions=WIDTH + 1, operand="q"), content()
    sape2.table_x.data = torch.arange(WIDTH + 1.0).double().expand(D, -1) / D
    qkv[0] = 1  # q . T[:, p] = p
    z = sape2._line_vectors("x", *qkv.unflatten(3, (HEIGHT, WIDTH)), None)
    assert (z > 0).all()
    assert (z < torch.arange(WIDTH, 0, -1) + 1e-12).all()
    assert (z.diff(dim=-1) <= 0).all()


def test_saturated_interior_may_be_rearranged():
    """Where every query has reached the last position, the columns carry no more information."""
    height, width = 3, 40
    sape2, qkv = build(num_positions=4), content(height * width)
    columns = torch.arange(width)
    columns[2:16] = columns[2:16][torch.randperm(14)]
    order = torch.arange(height * width).view(height, width)[:, columns].flatten()
    b = part("x", sape2, qkv, height=height, width=width)
    moved = part("x", sape2, qkv[:, :, :, order], height=height, width=width)
    torch.testing.assert_close(moved, b[:, :, order][..., order], rtol=0, atol=1e-12)


def test_without_saturation_an_object_cannot_move_freely():
    """The same object elsewhere on a flat background, near the end of the row or unsaturated."""
    height, width = 1, 64

    def error(num_positions, shift):
        sape2 = build(num_positions=num_positions)
        flat = content(1).expand(-1, -1, -1, width, -1).clone()
        flat[:, :, :, 30:34] = content(4)
        moved = flat.roll(shift, 3)
        b = part("x", sape2, flat, height=height, width=width)
        other = part("x", sape2, moved, height=height, width=width).roll((-shift, -shift), (2, 3))
        kept = slice(30, 34)
        return ((other - b)[:, :, kept, kept].abs().max() / b.max()).item()

    assert error(5, shift=-8) < 1e-6
    assert error(5, shift=27) > 1e-3
    assert error(65, shift=-8) > 1e-3


@pytest.mark.parametrize(("normalize", "grows"), [("none", True), ("rms", False)])
def test_mean_bias_grows_like_the_root_of_the_side(normalize, grows):
    def mean(width):
        sape2 = build(num_positions=10, normalize=normalize)
        return part("x", sape2, content(4 * width), height=4, width=width).mean()

    ratio = mean(64) / mean(16)
    assert (1.6 < ratio < 2.6) == grows
    assert grows or 0.7 < ratio < 1.4


def test_regions_of_a_mask_are_computed_apart():
    """With the mask of shifted windows, a region's bias is what it would be alone."""
    sape2, qkv = build(normalize="rms"), content()
    left = (torch.arange(SIZE) % WIDTH) < 5
    mask = (left[:, None] == left)[None, None]
    b = sape2.logit_bias(*qkv, TokenGrid(HEIGHT, WIDTH, mask=mask)).dense()[:, :, left][..., left]
    alone = part("xy", sape2, qkv[..., left, :], width=5)
    torch.testing.assert_close(b, alone, rtol=0, atol=1e-12)
