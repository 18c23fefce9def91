"""SaPE2 against loops over the paper's equations, and its symmetries."""

import json
import math
from pathlib import Path

import pytest
import torch

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import Dims, SaPE2

HEADS, D, P = 2, 5, 4


def encoding(seed=0):
    torch.manual_seed(seed)
    sape2 = SaPE2(
        Dims(embed_dims=HEADS * D, num_heads=HEADS, depth=1, grid=(3, 4)), num_positions=P
    )
    for table in sape2.parameters():
        torch.nn.init.normal_(table)
    return sape2.double()


def queries_and_keys(height, width, batch=1):
    torch.manual_seed(height * width)
    return torch.randn(2, batch, HEADS, height * width, D, dtype=torch.float64)


def bias(sape2, q, k, height, width, **options):
    return sape2.logit_bias(q, k, k, TokenGrid(height, width, **options)).dense()


def loop(q, k, table, places):
    """Distances of one axis for one head; `places(i)` are the tokens of the line of i, in order."""
    q, k, table = q.tolist(), k.tolist(), table.tolist()

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    def interpolate(content, position):
        low, high = math.floor(position), math.ceil(position)
        at = [dot(content, [row[p] for row in table]) for p in (low, high)]
        return at[0] if low == high else (high - position) * at[0] + (position - low) * at[1]

    vectors = []
    for i in range(len(q)):
        line = places(i)
        gates = [1 / (1 + math.exp(-dot(q[i], k[j]) / math.sqrt(D))) for j in line]
        positions = [min(P - 1, sum(gates[m:])) for m in range(len(line))]
        vectors.append([interpolate(k[i], position) for position in positions])
    return torch.tensor([[math.dist(a, b) for b in vectors] for a in vectors], dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 6), (5, 2)])
def test_equals_loops_over_the_equations(height, width):
    sape2, (q, k) = encoding(), queries_and_keys(height, width)
    result = bias(sape2, q, k, height, width)
    for head in range(HEADS):
        rows = loop(
            q[0, head],
            k[0, head],
            sape2.table_x,
            lambda i: [i // width * width + x for x in range(width)],
        )
        cols = loop(
            q[0, head],
            k[0, head],
            sape2.table_y,
            lambda i: [y * width + i % width for y in range(height)],
        )
        torch.testing.assert_close(result[0, head], rows + cols, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_golden_values(masked):
    golden = json.loads((Path(__file__).parent / "data/sape2_golden.json").read_text())
    value = {
        k: torch.tensor(v, dtype=torch.float64) for k, v in golden.items() if isinstance(v, list)
    }
    dims = Dims(embed_dims=10, num_heads=2, depth=1, grid=(3, 4))
    sape2 = SaPE2(dims, num_positions=3).double()
    sape2.load_state_dict({"table_x": value["e_x"], "table_y": value["e_y"]})
    valid = value["valid"].bool().flatten(1) if masked else torch.ones(1, 12, dtype=torch.bool)
    result = bias(sape2, value["q"], value["k"], 3, 4, valid=valid if masked else None)
    suffix = "k_valid" if masked else "k"
    expected = value[f"bias_x_{suffix}"] + value[f"bias_y_{suffix}"]
    pairs = valid[:, None, :, None] & valid[:, None, None, :]
    assert pairs.sum() == (36 if masked else 144)
    torch.testing.assert_close(result * pairs, expected * pairs, rtol=0, atol=1e-12)


def test_is_a_pseudo_metric():
    sape2, (q, k) = encoding(), queries_and_keys(4, 6)
    b = bias(sape2, q, k, 4, 6)
    assert (b >= 0).all()
    assert torch.equal(b.diagonal(dim1=2, dim2=3), torch.zeros(1, HEADS, 24, dtype=torch.float64))
    torch.testing.assert_close(b, b.transpose(2, 3))
    detours = b[..., :, :, None] + b[..., None, :, :]  # i to j, then j to n
    assert (b[..., :, None, :] <= detours + 1e-12).all()


def test_vertical_rolls_leave_the_x_part():
    """Each axis sees only its own lines: rows may be permuted for x, columns for y."""
    sape2, (q, k) = encoding(), queries_and_keys(4, 6)
    torch.nn.init.zeros_(sape2.table_y)
    order = torch.arange(24).view(4, 6)[[2, 0, 3, 1]].flatten()
    b = bias(sape2, q, k, 4, 6)
    permuted = bias(sape2, q[:, :, order], k[:, :, order], 4, 6)
    torch.testing.assert_close(permuted, b[:, :, order][..., order], rtol=0, atol=1e-12)


def test_transpose():
    sape2, (q, k) = encoding(), queries_and_keys(3, 5)
    swapped = encoding()
    swapped.load_state_dict({"table_x": sape2.table_y, "table_y": sape2.table_x})
    order = torch.arange(15).view(3, 5).T.flatten()
    b = bias(sape2, q, k, 3, 5)
    other = bias(swapped, q[:, :, order], k[:, :, order], 5, 3)
    torch.testing.assert_close(other, b[:, :, order][..., order], rtol=0, atol=1e-12)


def test_uniform_content_carries_no_position():
    sape2, (q, k) = encoding(), queries_and_keys(1, 1)
    b = bias(sape2, q.expand(-1, -1, 12, -1), k.expand(-1, -1, 12, -1), 3, 4)
    assert b.abs().max() < 1e-7  # the root of a rounding error in the square


def test_regions_of_a_mask_are_computed_apart():
    """With the mask of shifted windows, a region's bias is what it would be alone."""
    sape2, (q, k) = encoding(), queries_and_keys(4, 6)
    left = (torch.arange(24) % 6) < 4
    mask = (left[:, None] == left)[None, None]
    b = bias(sape2, q, k, 4, 6, mask=mask)[:, :, left][..., left]
    alone = bias(sape2, q[:, :, left], k[:, :, left], 4, 4)
    torch.testing.assert_close(b, alone, rtol=0, atol=1e-12)


def test_autocast_changes_nothing():
    """Look-alikes, whose small distance half precision would lose, included."""
    sape2, (q, k) = encoding().float(), queries_and_keys(8, 9).float()
    k[:, :, 70] = k[:, :, 3] + 1e-3
    exact = bias(sape2, q, k, 8, 9)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = bias(sape2, q, k, 8, 9)
    torch.testing.assert_close(autocast, exact, rtol=0, atol=1e-4)


def test_single_precision_is_near():
    sape2, (q, k) = encoding(), queries_and_keys(8, 9)
    exact = bias(sape2, q, k, 8, 9)
    single = bias(sape2.float(), q.float(), k.float(), 8, 9)
    assert (single - exact).abs().max() < 1e-4 * exact.max()
