"""The kernel that goes through attention tile by tile, and the choice among kernels."""

import gc
import subprocess
import sys
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import CASES, Model, case_id, tokens

from mmplugins.bias import BucketedContent, BucketedValues, DenseBias, LogitBias
from mmplugins.grid import TokenGrid
from mmplugins.kernels import KernelOptions, choose_kernel, chunked, eager
from mmplugins.kernels.chunked import tile_shape
from mmplugins.position_encodings import Dims
from mmplugins.position_encodings.builder import build_attention_encodings
from mmplugins.position_encodings.irpe_buckets import displacement_buckets

BIASED = [cfg for cfg in CASES if cfg["type"] in {"IRPE", "SaPE2", "CoPE", "LogCPB"}]


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("cfg", BIASED, ids=case_id)
def test_keeps_nothing_for_each_pair_of_tokens(cfg):
    model = Model([cfg], grid=(9, 10))
    kernel = {"name": "chunked", "limit_mib": 4 * 10 * 90 / 2**20}  # ten rows of one head
    sizes = []

    def pack(saved):
        sizes.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        x = tokens(batch=1, height=9, width=10, dtype=torch.float32)
        out = model.set_kernel(kernel)(x, TokenGrid(9, 10))
    out.sum().backward()
    assert 0 < max(sizes) < 2 * 90 * 90


@pytest.mark.parametrize("cfg", BIASED, ids=case_id)
def test_what_the_bias_is_made_of_is_left_to_autograd(cfg):
    """So that checkpointing, and whoever else asks autograd, can drop it."""
    (encoding,) = build_attention_encodings([cfg], Dims(8, 2, 1, (5, 6))).double().values()
    q, k, v = (random(1, 2, 30, 4) for _ in range(3))
    bias = encoding.logit_bias(q, k, v, TokenGrid(5, 6))
    made = [weakref.ref(tensor) for tensor in bias.tensors]
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda saved: saved):
        out = chunked(q, k, v, bias=bias)
    del bias
    gc.collect()
    assert [ref() for ref in made] == [None] * len(made)
    out.sum().backward()


def test_an_empty_batch_and_all_weights_dropped():
    q, k, v = (random(0, 2, 6, 4) for _ in range(3))
    assert chunked(q, k, v, bias=DenseBias(random(0, 2, 6, 6))).shape == (0, 2, 6, 4)
    q, k, v = (random(1, 2, 6, 4) for _ in range(3))
    assert not chunked(q, k, v, dropout=1.0).any()


@given(
    images=st.integers(0, 9),
    heads=st.integers(1, 9),
    rows=st.integers(1, 400),
    keys=st.integers(1, 400),
    size=st.integers(1, 10**6),
)
def test_a_tile_is_no_larger_than_asked_for(images, heads, rows, keys, size):
    shape = tile_shape(images, heads, rows, keys, size=size)
    assert all(
        1 <= tile <= max(whole, 1) for tile, whole in zip(shape, (images, heads, rows), strict=True)
    )
    logits = shape[0] * shape[1] * shape[2] * keys
    assert logits <= size or shape == (1, 1, 1)
    # Heads are only taken together when their rows are, and images when all heads are.
    assert shape[1] == 1 or shape[2] == rows
    assert shape[0] == 1 or shape[1] == heads


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    height=st.integers(1, 4),
    width=st.integers(1, 5),
    prefix=st.integers(0, 2),
    rows=st.integers(1, 24),
    masked=st.sampled_from(["none", "keys", "pairs"]),
    shared=st.tuples(*[st.booleans()] * 3),
    turned=st.booleans(),
)
def test_equals_the_specification(
    batch, heads, height, width, prefix, rows, masked, shared, turned
):
    """With biases that are the same for all images or heads, or not, and a term in the values."""
    count = prefix + height * width
    q, k, v = (random(batch, heads, count, 4) for _ in range(3))
    values = random(1 if shared[0] else batch, heads, count, count)
    lookup = random(1 if shared[1] else batch, 1 if shared[2] else heads, count, 26)
    grid = TokenGrid(height, width, prefix)
    table = random(heads, 26, 4)
    buckets = displacement_buckets(grid, "product", 1.0, "piecewise")
    mask = None
    if masked != "none":
        mask = torch.rand(batch, 1, 1 if masked == "keys" else count, count) < 0.5
        mask |= ~mask.any(-1, keepdim=True)

    def run(kernel, **options):
        biases = [DenseBias(values), BucketedContent(lookup, buckets)]
        bias = LogitBias.sum(biases[::-1] if turned else biases)
        context = BucketedValues(table, buckets)
        out = kernel(q, k, v, bias=bias, mask=mask, context=context, **options)
        return [out, *torch.autograd.grad(out.sin().sum(), [q, k, v, values, lookup, table])]

    tile = rows * count / 2**18
    for a, b in zip(run(chunked, tile_mib=tile), run(eager), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_dropout_drops_as_many_and_keeps_the_sum():
    q, k = random(2, 2, 50, 50), random(2, 2, 50, 50)
    ones = torch.eye(50, dtype=torch.float64).expand(2, 2, 50, 50)  # the output is p itself
    probs = chunked(q, k, ones)
    torch.manual_seed(0)
    dropped = chunked(q, k, ones, dropout=0.3, tile_mib=0.01)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], (probs / 0.7)[kept])
    assert abs(kept.double().mean() - 0.7) < 0.02
    torch.manual_seed(0)
    assert torch.equal(chunked(q, k, ones, dropout=0.3, tile_mib=0.01), dropped)
    assert not torch.equal(chunked(q, k, ones, dropout=0.3, tile_mib=0.01), dropped)


def test_dropout_drops_the_same_in_the_backward_pass():
    """By finite differences of what one seed draws."""
    q, k, v = (random(1, 2, 5, 3) for _ in range(3))
    buckets = displacement_buckets(TokenGrid(1, 5), "cols", 1.0, "clip")
    values, table = random(1, 2, 5, 5), random(2, 5, 3)

    def run(q, k, v, values, table):
        torch.manual_seed(3)
        context = BucketedValues(table, buckets)
        options = dict(bias=DenseBias(values), context=context, dropout=0.4)
        return chunked(q, k, v, **options, tile_mib=4 / 2**18)

    assert torch.autograd.gradcheck(run, (q, k, v, values, table))


def test_under_autocast_it_is_as_precise_as_torch():
    q, k, v = (torch.randn(1, 2, 30, 8, requires_grad=True) for _ in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        out = chunked(q, k, v)
    assert out.dtype == theirs.dtype == torch.bfloat16
    assert (out - exact).norm() < 1.5 * (theirs - exact).norm()
    out.sum().backward()
    assert q.grad.dtype == torch.float32
    assert q.grad.isfinite().all()


def kernel(cfg="auto", **given):
    q = given.pop("q", torch.zeros(1, 1, 4, 2))
    given = dict(bias=None, context=None, mask=None, dropout=0.0) | given
    return choose_kernel(cfg, q=q, **given)


def test_the_choice():
    bias = DenseBias(torch.zeros(1, 1, 4, 4))
    assert kernel().__name__ == "sdpa"
    assert kernel("sdpa", bias=bias).__name__ == "sdpa"
    assert kernel({"limit_mib": 15 * 4 / 2**20}, dropout=0.1).func is chunked
    assert kernel(dropout=0.1).func is eager
    assert kernel(bias=bias).func is kernel("eager", bias=bias).func is eager
    with torch.no_grad():
        assert kernel(bias=bias).__name__ == "sdpa"
    assert kernel("chunked", bias=bias).func is chunked
    for device in ("cpu", "meta"):  # the other as on a GPU
        q = torch.zeros(1, 1, 4, 2, device=device)
        small, exact = ({"limit_mib": 4 * logits / 2**20} for logits in (15, 16))
        assert kernel(small, bias=bias, q=q).func is chunked
        assert kernel(exact, bias=bias, q=q) != kernel(small, bias=bias, q=q)
        assert kernel(small, bias=bias, q=q).keywords["tile_mib"] == small["limit_mib"]


@pytest.mark.parametrize(
    ("tokens", "mib"), [(4, 4.0), (2**11, 4.0), (2**12, 8.0), (2**15, 32.0), (2**16, 32.0)]
)
def test_tiles_on_a_cpu_have_four_mib_or_512_rows_up_to_the_limit(tokens, mib):
    bias, q = DenseBias(torch.zeros(1, 1, 4, 4)), torch.zeros(1, 1, tokens, 1)
    assert kernel("chunked", bias=bias, q=q).keywords["tile_mib"] == mib


def test_nothing_slow_is_imported_with_the_package():
    code = (
        "import sys, mmplugins.kernels; print(sorted({'triton', 'torch._dynamo'} & {*sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("cfg", "error", "message"),
    [
        ("flash", ValueError, "kernel: name is one of auto, eager, sdpa"),
        ({"limit": 3}, TypeError, "kernel has no option `limit`, did you mean `limit_mib`"),
        ({"limit_mib": 0}, ValueError, "limit_mib must be positive, not 0"),
        (None, TypeError, "kernel is a name or a dict of options, not None"),
        ({"limit_mib": "3"}, TypeError, r"limit_mib is of type float \| None, not '3'"),
    ],
)
def test_options_are_checked(cfg, error, message):
    with pytest.raises(error, match=message):
        KernelOptions.of(cfg)
