"""The kernel for distances against `eager`: tile by tile in Triton's interpreter, or on a GPU.

Whether Triton interprets is settled when it is imported, so `test_in_the_interpreter` runs the rest
of this file once more, in a process of its own on the CPU.
"""

import os
import subprocess
import sys

import pytest
import torch
from torch.library import opcheck
from torch.testing import assert_close

from mmplugins.bias import BucketedTable, LogitBias, PairwiseDistance
from mmplugins.buckets import Buckets
from mmplugins.kernels import eager
from mmplugins.kernels.distance import _attend, distance, shared_memory, supports, tile_side

NO_GPU = "there is no GPU for it: `test_in_the_interpreter` runs this"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LOADED = "mmplugins.kernels.distance_tiles" in sys.modules
SMALL, CONSUMERS, H100 = (kib * 1024 for kib in (16, 99, 227))


only_interpreted = pytest.mark.skipif(not INTERPRETED, reason="a matter of a fresh process")


@pytest.fixture
def device():
    """Where the kernel runs."""
    if INTERPRETED:
        return torch.device("cpu")
    if not torch.cuda.is_available() or not shared_memory(torch.device("cuda", 0)):
        pytest.skip(NO_GPU)
    return torch.device("cuda", 0)


@pytest.mark.skipif(INTERPRETED, reason="it runs in it")
def test_in_the_interpreter():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTEST_ADDOPTS", None)
    # Without the options of pyproject.toml: dynamo cannot trace what jaxtyping checks.
    options = ["-rs", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    command = [sys.executable, "-m", "pytest", *options, __file__]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert NO_GPU not in ran.stdout, ran.stdout


def draw(device, *, batch=2, heads=2, grid=(5, 7), prefix=1, dims=12, dtype=torch.float32):
    """Leaves: queries, keys and values of one projection, vectors of both axes, a scale."""
    height, width = grid
    size = height * width
    leaves = [
        torch.randn(batch, prefix + size, 3 * heads * dims).to(dtype),
        torch.randn(batch, heads, size, width),
        torch.randn(batch, heads, size, height),
        torch.tensor([1.5, -0.7][:heads]).view(1, heads, 1, 1),
    ]
    return [leaf.to(device) for leaf in leaves]


def run(kernel, leaves, weight, *, dtype=None, prefix=1, learned=True, **options):
    """The result, and the gradients of all leaves of `weight` times it."""
    leaves = [leaf.detach().to(dtype or leaf.dtype).requires_grad_() for leaf in leaves]
    projected, *vectors, scale = leaves
    heads = scale.shape[1]
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in projected.chunk(3, -1))
    k, v = k.contiguous(), v.mT.contiguous().mT  # each lies in memory in another order
    if not learned:
        leaves, scale = leaves[:3], 0.5
    bias = PairwiseDistance(vectors, prefix=prefix, scale=scale)
    out = kernel(q, k, v, bias=bias, **options)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


def compare(leaves, *, rtol, atol, **options):
    """The kernel with `eager` in double precision."""
    projected, _, _, scale = leaves
    tokens, heads = projected.shape[1], scale.shape[1]
    dims = projected.shape[2] // 3 // heads
    weight = torch.randn(len(projected), heads, tokens, dims).to(projected)
    shared = SMALL if INTERPRETED else None
    ours = run(distance, leaves, weight, shared=shared, **options)
    exact = run(eager, leaves, weight.double(), dtype=torch.float64, **options)
    for got, want in zip(ours, exact, strict=True):
        assert_close(got.double(), want, rtol=rtol, atol=atol)
    return ours


def first_and_last_read_by_nobody(device, prefix, tokens):
    mask = torch.ones(2, 1, 1, tokens, dtype=torch.bool, device=device)
    mask[0, ..., :20] = False  # a whole tile, before there is anything to read
    mask[1, ..., 20:] = False
    return mask


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_values_and_gradients_are_eagers(device, prefix):
    """Tiles that end past the last token, heads whose width is no power of two, a learned scale."""
    leaves = draw(device, prefix=prefix, batch=1 if prefix == 0 else 2)
    tokens = prefix + 35
    mask = None if prefix == 0 else first_and_last_read_by_nobody(device, prefix, tokens)
    compare(leaves, rtol=1e-4, atol=2e-5, prefix=prefix, mask=mask, learned=prefix > 0)


def test_a_mask_of_all_images_and_very_negative_logits(device):
    """Token 4 may not read the one key that is near: exp of any of its logits is zero."""
    leaves = draw(device, grid=(3, 6), heads=1)
    leaves[3].fill_(-200)
    mask = torch.arange(19, device=device).view(1, 1, 1, 19) % 4 != 0
    ours = compare(leaves, rtol=1e-3, atol=1e-3, mask=mask)
    assert all(tensor.isfinite().all() for tensor in ours)


def test_tokens_that_are_alike_pull_nobody(device):
    """Whole numbers whose mean is zero: here distances between twins are exactly zero."""
    leaves = draw(device, grid=(4, 4), heads=1)
    for vectors in leaves[1:3]:
        some = torch.randint(-2, 3, (2, 1, 4, 4)).to(vectors)
        vectors.copy_(torch.cat([some, some, -some, -some], 2))
    compare(leaves, rtol=1e-4, atol=2e-5)
    for vectors in leaves[1:3]:
        vectors.zero_()
    assert not any(gradient.any() for gradient in run(distance, leaves, 1, shared=SMALL)[2:4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(device, dtype):
    """Results in it, vectors in single precision."""
    if INTERPRETED and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 as whole numbers")
    leaves = draw(device, grid=(4, 5), dtype=dtype, batch=1)
    ours = compare(leaves, rtol=2e-2, atol=6e-2 if dtype == torch.bfloat16 else 8e-3)
    assert [t.dtype for t in ours] == [dtype, dtype, *[torch.float32] * 3]


def test_the_operator_keeps_the_rules_of_torch(device):
    projected, x, y, scale = draw(device, grid=(3, 4), batch=1)
    q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in projected.chunk(3, -1))
    tensors = [t.requires_grad_() for t in (q, k, v, x, y, scale.flatten())]
    opcheck(_attend, (*tensors, torch.ones(1, 1, 1, 13, dtype=torch.bool, device=device), 1, 16))


@only_interpreted
def test_a_graph_is_not_broken(device):
    leaves = draw(device, grid=(3, 4), batch=1)

    def attend(q, k, v, *, bias):
        assert not supports(q, bias, None, 0.0)  # the device is asked within the graph
        return distance(q, k, v, bias=bias, shared=SMALL)

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for got, want in zip(run(compiled, leaves, 1), run(attend, leaves, 1), strict=True):
        assert_close(got, want)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_grows_with_tokens_and_not_their_square(device):
    leaves = draw(device, batch=1, heads=4, grid=(64, 64), dims=64, dtype=torch.bfloat16)
    run(distance, leaves, 1)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run(distance, leaves, 1)
    tokens = 64 * 64 + 1
    one_matrix = 4 * 4 * tokens**2  # bytes of single precision
    assert torch.cuda.max_memory_allocated(device) - before < one_matrix / 2


@pytest.mark.skipif(INTERPRETED, reason="interprets instead")
@pytest.mark.parametrize("name", ["forward", "backward"])
def test_it_compiles_for_an_h100(name, tmp_path, monkeypatch):
    """At the size of a detector's last blocks, so that two programs share a multiprocessor."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    from mmplugins.kernels import distance_launch, distance_tiles

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    width = {"DEPTH": 64, "X": 64, "Y": 64}
    options = {"half": True} if name == "backward" else {}
    tile = getattr(distance_launch, f"{name}_tile")(width, side=32, **options)
    constants = {**width, "ROWS": tile["ROWS"], "COLUMNS": tile["COLUMNS"], "HAS_MASK": True}
    kernel = getattr(distance_tiles, name)
    types = dict.fromkeys(kernel.arg_names, "i32") | dict.fromkeys(constants, "constexpr")
    types |= dict.fromkeys({"q", "k", "v", "out", "grad", "dq", "dk", "dv"} & set(types), "*bf16")
    single = {"x", "y", "x_norm", "y_norm", "scale", "lse", "delta", "dx", "dy"} & set(types)
    types |= dict.fromkeys(single, "*fp32") | {"mask": "*u8", "qk_scale": "fp32"}
    compiled = triton.compile(
        triton.compiler.ASTSource(kernel, types, constants),
        target=GPUTarget("cuda", 90, 32),
        options={key: tile[key] for key in ("num_warps", "num_stages")},
    )
    assert 0 < compiled.metadata.shared <= H100 // 2


def request(*, dims=64, grid=(64, 64), dtype=torch.bfloat16, vectors=torch.float32):
    height, width = grid
    size = height * width
    q = torch.empty(1, 1, size + 1, dims, dtype=dtype, device="meta")
    z = [torch.empty(1, 1, size, side, dtype=vectors, device="meta") for side in (width, height)]
    return q, PairwiseDistance(z, prefix=1)


@pytest.mark.parametrize(
    ("shared", "options", "side"),
    [
        (H100, {}, 32),
        (CONSUMERS, {}, 32),
        (CONSUMERS, {"dtype": torch.float32}, 16),
        (H100, {"grid": (50, 76), "dims": 32}, 32),
        (H100, {"grid": (128, 128), "dims": 128, "dtype": torch.float32}, 16),
        (CONSUMERS, {"grid": (128, 128), "dims": 128, "dtype": torch.float32}, None),
        (H100, {"grid": (8, 129)}, None),
        (H100, {"grid": (129, 8)}, None),
        (H100, {"dims": 129}, None),
        (0, {}, None),
    ],
)
def test_tiles_fit_the_memory_of_the_chip(shared, options, side):
    q, bias = request(**options)
    assert tile_side(q, bias, shared) == side
    assert supports(q, bias, None, 0.0, shared=shared) is (side is not None)


def test_what_it_does_not_support():
    q, bias = request(grid=(4, 5))
    keys = torch.ones(1, 1, 1, 21, dtype=torch.bool)
    assert supports(q, bias, keys, 0.0, shared=H100)
    assert not supports(q, bias, keys.expand(1, 1, 21, 21), 0.0, shared=H100)
    assert not supports(q, bias, None, 0.1, shared=H100)
    assert not supports(q, bias, None, 0.0), "no GPU"
    assert not supports(q, None, None, 0.0, shared=H100)
    assert not supports(q, LogitBias.sum([bias, bias]), None, 0.0, shared=H100)
    table = BucketedTable(torch.zeros(1, 2), Buckets(torch.zeros(7, 9, dtype=torch.long), 1, 1))
    assert not supports(q, table, None, 0.0, shared=H100)
    assert not supports(q.double(), bias, None, 0.0, shared=H100)
    other = PairwiseDistance(bias.vectors[:1], prefix=1)
    assert not supports(q, other, None, 0.0, shared=H100), "one axis"
    _, other = request(grid=(4, 5), vectors=torch.float64)
    assert not supports(q, other, None, 0.0, shared=H100)


def test_where_it_cannot_run_it_says_so():
    leaves = draw("cpu", grid=(2, 3), batch=1)
    with pytest.raises(ValueError, match=r"PairwiseDistance .* NVIDIA .*: use kernel auto"):
        run(distance, leaves, 1)


@pytest.mark.skipif(INTERPRETED, reason="Triton is there")
def test_without_triton_it_says_what_to_install(monkeypatch):
    for name in ("distance_tiles", "distance_launch"):
        monkeypatch.delitem(sys.modules, f"mmplugins.kernels.{name}", raising=False)
        monkeypatch.delattr(f"mmplugins.kernels.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="pip install triton"):
        run(distance, draw("cpu", grid=(2, 3), batch=1), 1, shared=SMALL)


@only_interpreted
def test_nobody_imports_the_tiles_before_they_are_needed():
    assert not LOADED
