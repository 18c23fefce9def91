"""FlexAttention, in plain operations on a CPU and compiled on a GPU, against eager attention."""

import pytest
import torch
from layers import CASES, HEIGHT, WIDTH, case_id
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import flex_attention

from mmplugins.bias import BucketedContent, BucketedTable, PairwiseDistance, SumBias
from mmplugins.buckets import Buckets
from mmplugins.grid import TokenGrid
from mmplugins.kernels import eager
from mmplugins.kernels.flex import flex, is_readable, score_mod, supports
from mmplugins.position_encodings import AttentionEncoding, Dims
from mmplugins.registry import POSITION_ENCODINGS


def qkv(size, *, batch=2, heads=2, dims=16, **options):
    """Transposed views, as attention makes them."""
    options = {"dtype": torch.float64, **options}
    return [torch.randn(batch, size, heads, dims, **options).transpose(1, 2) for _ in range(3)]


def every_kind(height, width, prefix, **options):
    """A table, contents of queries and of keys, in buckets drawn at random; a sum in a sum."""
    options = {"dtype": torch.float64, **options}
    device, size = options.get("device"), prefix + height * width
    table = torch.randint(7, (2 * height - 1, 2 * width - 1), device=device)
    buckets, other = Buckets(table, 7, prefix), Buckets(table.flip(0), 9, prefix)
    lookups = [torch.randn(2, 2, size, 10, **options) for _ in range(2)]
    contents = (
        BucketedContent(lookups[0], other),
        BucketedContent(lookups[1], buckets, of_keys=True),
    )
    return SumBias([BucketedTable(torch.randn(2, 8, **options), buckets), SumBias(contents)])


def masks(size, device=None):
    """None, keys of each image, pairs of all images, pairs of each image."""
    keys, some, all_pairs = (
        torch.rand(shape, device=device) < 0.6
        for shape in [(2, 1, 1, size), (1, 1, size, size), (2, 1, size, size)]
    )
    for mask in (keys, some, all_pairs):
        mask[..., 0] = True  # nobody reads nothing
    return [None, keys, some, all_pairs]


def close(one, other, tolerance=1e-12):
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance)


def bias_of(cfg, prefix, q, k, v):
    dims = Dims(embed_dims=32, num_heads=2, depth=2, grid=(HEIGHT, WIDTH), prefix=prefix)
    encoding = POSITION_ENCODINGS.build(dict(cfg), default_args=dict(dims=dims)).double()
    for parameter in encoding.parameters():
        nn.init.normal_(parameter, std=0.4).requires_grad_(False)
    return encoding.logit_bias(q, k, v, TokenGrid(HEIGHT, WIDTH, prefix))


def has_bias(cfg):
    hook = getattr(POSITION_ENCODINGS.get(cfg["type"]), "logit_bias", None)
    return hook not in (None, AttentionEncoding.logit_bias)


BIASED = [cfg for cfg in CASES if has_bias(cfg)]
UNREADABLE = {"CoPE", "SaPE2"}


@pytest.mark.parametrize("cfg", BIASED, ids=case_id)
def test_equals_eager_for_every_encoding(cfg):
    for prefix in range(3):
        size = prefix + HEIGHT * WIDTH
        q, k, v = qkv(size)
        bias, mask = bias_of(cfg, prefix, q, k, v), masks(size)[1]
        assert is_readable(bias) == (cfg["type"] not in UNREADABLE)
        if is_readable(bias):
            exact = eager(q, k, v, bias=bias, mask=mask)
            assert close(flex(q, k, v, bias=bias, mask=mask), exact)
            assert not close(exact, eager(q, k, v, mask=mask), 1e-2)
        else:
            with pytest.raises(ValueError, match="flex reads biases from small tensors, which"):
                flex(q, k, v, bias=bias, mask=mask)


@pytest.mark.parametrize("prefix", [0, 2])
def test_any_grid_and_mask(prefix):
    for height, width in [(3, 4), (1, 6), (6, 1)]:
        size = prefix + height * width
        q, k, v = qkv(size)
        bias = every_kind(height, width, prefix)
        for mask in masks(size):
            out = flex(q, k, v, bias=bias, mask=mask)
            assert close(out, eager(q, k, v, bias=bias, mask=mask))


def test_a_bias_of_one_head_and_image_serves_all():
    q, k, v = qkv(12)
    table, content, _ = parts(every_kind(3, 4, 0))
    lookup = content.lookup[:1, :1]
    one = SumBias(
        [BucketedTable(table.table[:1], table.buckets), BucketedContent(lookup, content.buckets)]
    )
    every = SumBias(
        [
            BucketedTable(table.table[:1].expand(2, -1), table.buckets),
            BucketedContent(lookup.expand(2, 2, -1, -1), content.buckets),
        ]
    )
    assert close(flex(q, k, v, bias=one), eager(q, k, v, bias=every))


def parts(bias):
    return [bias.biases[0], *bias.biases[1].biases]


def gradients(run, q, k, v, bias, mask, learned):
    return torch.autograd.grad(run(q, k, v, bias=bias, mask=mask).sin().sum(), learned)


def learning(bias):
    """The tensors of `every_kind`, from now on learned."""
    table, *contents = parts(bias)
    return [t.requires_grad_() for t in (table.table, *(content.lookup for content in contents))]


def test_gradients_of_a_bias():
    """Those of q, k and v exist on a GPU alone."""
    q, k, v = qkv(13)
    bias, mask = every_kind(3, 4, 1), masks(13)[1]
    learned = learning(bias)
    found, exact = (gradients(run, q, k, v, bias, mask, learned) for run in (flex, eager))
    assert all(close(*pair) for pair in zip(found, exact, strict=True))
    with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
        flex(q.requires_grad_(), k, v, bias=bias, mask=mask)


def test_compiles_once_for_any_size():
    """The first size, then all others, prefix tokens or not; `score_mod` names no number."""
    counter = CompileCounter()
    compiled = torch.compile(flex_attention, backend=counter)
    for height, width, prefix in [(3, 4, 1), (4, 3, 1), (5, 7, 2), (2, 9, 1), (6, 6, 3)]:
        size = prefix + height * width
        q, k, v = qkv(size)
        bias, mask = every_kind(height, width, prefix), masks(size)[1]
        out = compiled(q, k, v, score_mod=score_mod(bias, mask, batch=2, heads=2))
        assert close(out, eager(q, k, v, bias=bias, mask=mask))
    assert counter.frame_count == 2


def test_without_bias():
    assert score_mod(None, batch=2, heads=2) is None
    for size in (12, 1):
        q, k, v = qkv(size)
        for mask in masks(size)[:2]:
            assert close(flex(q, k, v, mask=mask), eager(q, k, v, mask=mask))


def test_refuses_dropout():
    with pytest.raises(ValueError, match="flex drops no attention weights: use kernel auto"):
        flex(*qkv(12), dropout=0.1)


def test_is_of_use_on_a_gpu_without_gradients():
    pytest.importorskip("triton")
    assert not supports(qkv(12)[0], None, None, 0.0)
    with FakeTensorMode():  # tensors that say they are on a GPU
        half = dict(dtype=torch.bfloat16, device="cuda")
        q, bias = qkv(12, **half)[0], every_kind(3, 4, 0, **half)
        mask = torch.empty(2, 1, 12, 12, dtype=torch.bool, device="cuda")
        assert supports(q, None, None, 0.0)
        assert supports(q, bias, mask, 0.0)
        assert not supports(q, bias, mask, 0.1)
        assert not supports(q.double(), bias, mask, 0.0)
        assert not supports(q[..., :8], bias, mask, 0.0)
        assert not supports(q, PairwiseDistance([q]), mask, 0.0)
        assert not supports(q, SumBias([bias, PairwiseDistance([q])]), mask, 0.0)
        large = qkv(2**8, batch=2**15, **half)[0]
        pairs = torch.empty(2**15, 1, 2**8, 2**8, dtype=torch.bool, device="cuda")
        assert supports(large, None, pairs[1:], 0.0)
        assert not supports(large, None, pairs, 0.0)
        learned = learning(bias)
        assert not supports(q, bias, mask, 0.0)
        with torch.no_grad():
            assert supports(q, bias, mask, 0.0)
        for tensor in learned:
            tensor.requires_grad_(False)
        assert supports(q, bias, mask, 0.0)
        assert not supports(q.requires_grad_(), bias, mask, 0.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compiled on a GPU alone")
def test_equals_eager_on_a_gpu():
    for height, width, prefix in [(12, 17, 1), (9, 31, 1), (7, 8, 0)]:
        size = prefix + height * width
        options = dict(device="cuda", dtype=torch.float32)
        bias, mask = every_kind(height, width, prefix, **options), masks(size, "cuda")[1]
        terms = [t.requires_grad_() for t in qkv(size, **options)]
        learned = [*terms, *learning(bias)]
        with torch.no_grad():
            assert close(*(run(*terms, bias=bias, mask=mask) for run in (flex, eager)), 1e-4)
        found, exact = (gradients(run, *terms, bias, mask, learned) for run in (flex, eager))
        assert all(close(*pair, 1e-3) for pair in zip(found, exact, strict=True))
