"""SaPE2 and CoPE against loops over their papers' equations, and their numerics."""

import json
import math
from pathlib import Path

import pytest
import torch

from mmplugins.bias import PairwiseDistance
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings import CoPE, Dims, SaPE2
from mmplugins.position_encodings import cope as cope_module
from mmplugins.position_encodings.contextual import sum_to_the_end
from mmplugins.precision import full_precision

HEADS, D, P, GRID = 2, 5, 4, (3, 4)


def dims(prefix=0):
    return Dims(embed_dims=HEADS * D, num_heads=HEADS, depth=1, grid=GRID, prefix=prefix)


def random(encoding, seed=0):
    torch.manual_seed(seed)
    for parameter in encoding.parameters():
        torch.nn.init.normal_(parameter)
    return encoding.double()


def encoding(**options):
    return random(SaPE2(dims(), **{"num_positions": P, **options}))


def content(height, width, prefix=0):
    """Random q, k, v."""
    torch.manual_seed(height * width)
    return torch.randn(3, 1, HEADS, prefix + height * width, D, dtype=torch.float64)


def bias(encoding, qkv, height, width, **options):
    return encoding.logit_bias(*qkv, TokenGrid(height, width, **options)).dense()


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def at(operand, table, position):
    """The paper's interpolation, by floor and ceil."""
    low, high = math.floor(position), math.ceil(position)
    value = [dot(operand, [row[p] for row in table]) for p in (low, high)]
    return value[0] if low == high else (high - position) * value[0] + (position - low) * value[1]


def place(q, compared, line, m, *, scale, last):
    """Gates summed from the m-th place of the line to its end, cut off at `last`."""
    gates = [1 / (1 + math.exp(-scale * dot(q, compared[j]))) for j in line[m:]]
    return min(last, sum(gates))


def loop(q, compared, operand, table, places, *, scale, length):
    """Distances of one axis for one head; `places(i)` are the tokens of the line of i, in order."""
    q, compared, operand, table = (t.tolist() for t in (q, compared, operand, table))
    vectors = []
    for i in range(len(q)):
        line = places(i)
        spots = [
            place(q[i], compared, line, m, scale=scale, last=len(table[0]) - 1)
            for m in range(len(line))
        ]
        factor = math.sqrt(length / len(line)) if length else 1
        vectors.append([factor * at(operand[i], table, spot) for spot in spots])
    return torch.tensor([[math.dist(a, b) for b in vectors] for a in vectors], dtype=torch.float64)


@pytest.mark.parametrize(("height", "width", "prefix"), [(3, 4, 2), (1, 6, 0), (5, 2, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"operand": "q"},
        {"gate": "sep", "operand": "q"},
        {"gate": "v", "gate_scale": "none"},
        {"normalize": "rms", "bias_scale": "inv_sqrt_dim"},
        {"num_positions": "grid", "head_scale": True},
    ],
    ids=str,
)
def test_equals_loops_over_the_equations(height, width, prefix, options):
    sape2, qkv = encoding(**options), content(height, width, prefix)
    result = bias(sape2, qkv, height, width, prefix=prefix)
    assert not result[:, :, :prefix].any()
    assert not result[..., :prefix].any()
    result, qkv = result[:, :, prefix:, prefix:], qkv[:, :, :, prefix:]
    scale = 1 if options.get("gate_scale") == "none" else 1 / math.sqrt(D)
    for head in range(HEADS):
        q, k, v = qkv[:, 0, head]
        gated = {"v": (v, v), "qk": (k, k)}.get(options.get("gate", "qk"))
        if gated is None:
            gated = k @ sape2.gate_x, k @ sape2.gate_y
        operand = q if options.get("operand") == "q" else k
        lines = [
            (sape2.table_x, gated[0], GRID[1], row_of(width)),
            (sape2.table_y, gated[1], GRID[0], column_of(height, width)),
        ]
        expected = sum(
            loop(
                *(q, compared, operand, table, places),
                scale=scale,
                length=side if options.get("normalize") == "rms" else None,
            )
            for table, compared, side, places in lines
        )
        if options.get("bias_scale"):
            expected = expected / math.sqrt(D)
        if options.get("head_scale"):
            expected = expected * sape2.head_scale[head]
        torch.testing.assert_close(result[0, head], expected, rtol=0, atol=1e-12)


def row_of(width):
    return lambda i: [i // width * width + x for x in range(width)]


def column_of(height, width):
    return lambda i: [y * width + i % width for y in range(height)]


def test_as_many_positions_as_the_training_grid_can_reach():
    sape2 = SaPE2(dims(), num_positions="grid")
    assert (sape2.table_y.shape, sape2.table_x.shape) == ((D, 4), (D, 5))


@pytest.mark.parametrize("operand", ["k", "q"])
@pytest.mark.parametrize("masked", [False, True])
def test_golden_values(operand, masked):
    golden = json.loads((Path(__file__).parent / "data/sape2_golden.json").read_text())
    value = {
        k: torch.tensor(v, dtype=torch.float64) for k, v in golden.items() if isinstance(v, list)
    }
    sape2 = SaPE2(dims(), num_positions=3, operand=operand).double()
    sape2.load_state_dict({"table_x": value["e_x"], "table_y": value["e_y"]})
    valid = value["valid"].bool().flatten(1) if masked else torch.ones(1, 12, dtype=torch.bool)
    qkv = value["q"], value["k"], value["k"]
    result = bias(sape2, qkv, 3, 4, valid=valid if masked else None)
    suffix = f"{operand}_valid" if masked else operand
    expected = value[f"bias_x_{suffix}"] + value[f"bias_y_{suffix}"]
    pairs = valid[:, None, :, None] & valid[:, None, None, :]
    assert pairs.sum() == (36 if masked else 144)
    torch.testing.assert_close(result * pairs, expected * pairs, rtol=0, atol=1e-12)


def test_autocast_changes_nothing():
    """Look-alikes, whose small distance half precision would lose, included."""
    sape2, qkv = encoding().float(), content(8, 9).float()
    qkv[1, :, :, 70] = qkv[1, :, :, 3] + 1e-3
    exact = bias(sape2, qkv, 8, 9)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = bias(sape2, qkv, 8, 9)
    torch.testing.assert_close(autocast, exact, rtol=0, atol=1e-4)


def test_a_large_common_part_does_not_drown_small_distances():
    """In single precision: vectors that are clamped alike differ by little."""
    torch.manual_seed(0)
    z = 100 + torch.randn(1, 1, 40, 50, dtype=torch.float64)
    z[:, :, 7] = z[:, :, 3] + 1e-3 * torch.randn(50, dtype=torch.float64)
    exact, single = (PairwiseDistance([t]).dense() for t in (z, z.float()))
    assert (single - exact).abs().max() < 1e-3


@pytest.fixture
def fast_products():
    """What a user may have set for speed: float32 products in TF32 (CUDA) or bfloat16 (CPU)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield torch.backends.mkldnn.matmul
    torch.set_float32_matmul_precision(before)


def test_fast_products_are_off_inside(fast_products):
    if not hasattr(fast_products, "fp32_precision"):
        pytest.skip("this torch cannot tell the precision of products on a CPU")
    with full_precision(torch.device("cpu")):
        assert fast_products.fp32_precision == "ieee"
    assert fast_products.fp32_precision == "bf16"
    with pytest.raises(KeyError), full_precision(torch.device("cpu")):
        raise KeyError
    assert torch.get_float32_matmul_precision() == "medium"


def test_fast_products_change_nothing(fast_products):
    x = torch.randn(64, 64)
    if torch.equal(x @ x, (x.double() @ x.double()).float()):
        pytest.skip("this CPU has no fast products")
    sape2, qkv = encoding(), content(8, 9)
    exact = bias(sape2, qkv, 8, 9)
    single = bias(sape2.float(), qkv.float(), 8, 9)
    assert (single - exact).abs().max() < 1e-4 * exact.max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operand": "v"}, "SaPE2: operand is one of k, q, not 'v'"),
        ({"num_positions": 1}, "num_positions must be 2 or more, or 'grid', not 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        SaPE2(dims(), **options)


def test_gates_of_their_own_start_as_those_of_the_keys():
    plain, sep = SaPE2(dims()).double(), SaPE2(dims(), gate="sep").double()
    sep.load_state_dict(plain.state_dict(), strict=False)
    qkv = content(3, 4)
    torch.testing.assert_close(bias(plain, qkv, 3, 4), bias(sep, qkv, 3, 4), rtol=0, atol=0)


def test_starts_without_dead_parameters():
    """From the initialisation itself, not from large random tables, everything learns."""
    for options in ({}, {"operand": "q", "gate": "sep"}, {"gate": "v", "head_scale": True}):
        sape2 = SaPE2(dims(), **options).double()
        bias(sape2, content(3, 4), 3, 4).sin().sum().backward()
        assert all(parameter.grad.any() for parameter in sape2.parameters())


@pytest.mark.parametrize("prefix", [0, 2])
def test_cope_equals_loops_over_the_equations(prefix):
    height, width = 3, 4
    cope, qkv = random(CoPE(dims(prefix), num_positions=P)), content(height, width, prefix)
    result = bias(cope, qkv, height, width, prefix=prefix)
    raster = list(range(height * width))
    for head in range(HEADS):
        q, k = (t[0, head, prefix:].tolist() for t in qkv[:2])
        table = cope.table.tolist()
        expected = torch.zeros_like(result[0, head])
        for i in raster:
            for m in raster:
                spot = place(q[i], k, raster, m, scale=1 / math.sqrt(D), last=P - 1)
                expected[prefix + i, prefix + m] = at(q[i], table, spot)
        torch.testing.assert_close(result[0, head], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("kind", [CoPE, SaPE2])
def test_regions_of_a_mask_are_counted_apart(kind, prefix):
    """With the mask of shifted windows, a region's bias is what it would be alone."""
    encoding, qkv = random(kind(dims(prefix), num_positions=P)), content(4, 6, prefix)
    left = torch.nn.functional.pad((torch.arange(24) % 6) < 4, (prefix, 0), value=True)
    mask = (left[:, None] == left)[None, None]
    b = bias(encoding, qkv, 4, 6, prefix=prefix, mask=mask)[:, :, left][..., left]
    alone = bias(encoding, qkv[..., left, :], 4, 4, prefix=prefix)
    torch.testing.assert_close(b, alone, rtol=0, atol=1e-12)


def test_cope_positions_survive_fast_products(monkeypatch):
    """Sums of rounded gates do not fall below zero."""

    def rounded(gates, **options):
        return sum_to_the_end(gates.bfloat16().to(gates.dtype), **options)

    monkeypatch.setattr(cope_module, "sum_to_the_end", rounded)
    cope, qkv = random(CoPE(dims(), num_positions=P)), 3 * content(9, 11)
    assert bias(cope, qkv, 9, 11).isfinite().all()


def test_cope_starts_as_the_model_without_it():
    assert not bias(CoPE(dims()).double(), content(3, 4), 3, 4).any()
    with pytest.raises(ValueError, match="num_positions must be 2 or more, not 1"):
        CoPE(dims(), num_positions=1)
