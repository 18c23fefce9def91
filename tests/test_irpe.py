"""iRPE against the published buckets and counts, and loops over the paper's equations."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope

from mmplugins.grid import TokenGrid
from mmplugins.models.vit import ViT
from mmplugins.position_encodings import IRPE, Dims
from mmplugins.position_encodings.irpe_buckets import displacement_buckets, piecewise_index
from mmplugins.registry import MODELS

HEADS, D = 2, 3


@pytest.mark.parametrize(
    ("ratio", "first"),
    [  # the first distance of each bucket, read off the authors' tables
        (1.9, [0, 1, 2, 4]),
        (2.0, [0, 1, 2, 4, 10]),
        (2.5, [0, 1, 2, 3, 6, 14]),
        (3.0, [0, 1, 2, 3, 5, 9, 17]),
        (3.5, [0, 1, 2, 3, 4, 7, 12, 21]),
    ],
)
def test_thresholds(ratio, first):
    x = torch.arange(-400, 401)
    index = piecewise_index(x, ratio)
    expected = sum((x.abs() >= start).long() for start in first[1:]) * x.sign()
    assert torch.equal(index, expected)
    assert torch.equal(index, -piecewise_index(-x, ratio))


@pytest.mark.parametrize(("ratio", "first", "last"), [(20.0, 152, 40), (33.0, 256, 66)])
def test_long_distances_share_the_last_bucket(ratio, first, last):
    assert piecewise_index(torch.tensor([first - 1, first, 4000]), ratio).tolist() == [
        last - 1,
        last,
        last,
    ]


@pytest.mark.parametrize(
    ("axis", "ratio", "allocated", "used"),
    [  # the counts that name the published models, the bucket of the class token included
        ("product", 1.9, 50, 50),
        ("euclidean", 20.0, 42, 20),
        ("quantisation", 33.0, 68, 51),
        ("rows", 20.0, 82, 28),
        ("cols", 20.0, 82, 28),
    ],
)
def test_published_buckets(axis, ratio, allocated, used):
    buckets = displacement_buckets(TokenGrid(14, 14, 1), axis, ratio, "piecewise")
    assert buckets.count + 1 == allocated
    assert len(buckets.pairs(0, 197).unique()) == used


def test_published_ids():
    """Product, ratio 1.9: a patch with itself 24, corner to corner 0 and 48, class token 49."""
    ids = displacement_buckets(TokenGrid(14, 14, 1), "product", 1.9, "piecewise").pairs(0, 197)
    assert (ids[0] == 49).all()
    assert (ids[:, 0] == 49).all()
    assert (ids.diagonal()[1:] == 24).all()
    assert (ids[1, -1], ids[-1, 1]) == (0, 48)


@pytest.mark.parametrize("ratio", [1.9, 2.0, 3.5])
def test_reversed_pairs_mirror_their_bucket(ratio):
    buckets = displacement_buckets(TokenGrid(5, 9), "product", ratio, "piecewise")
    ids = buckets.pairs(0, 45)
    assert torch.equal(ids.T, buckets.count - 1 - ids)


def g(x, ratio, index):
    """One displacement at a time, with Python's round (half to even)."""
    if index == "clip":
        return max(-int(2 * ratio), min(int(2 * ratio), x))
    if abs(x) <= ratio:
        return round(x)
    far = round(ratio + math.log(abs(x) / ratio) / math.log(8) * ratio)
    return int(math.copysign(int(min(2 * ratio, far)), x))


def bucket(dy, dx, axis, ratio, index):
    last = int(2 * ratio)
    if axis == "product":
        return (g(dy, ratio, index) + last) * (2 * last + 1) + g(dx, ratio, index) + last
    if axis in ("rows", "cols"):
        return g(dy if axis == "rows" else dx, ratio, index) + last
    square = dy * dy + dx * dx
    return g(round(math.sqrt(square)) if axis == "euclidean" else square, ratio, index)


def column(i, j, axis, *, width, prefix, ratio, index):
    """The bucket of a pair, -1 for the last."""
    if min(i, j) < prefix:
        return -1
    (yi, xi), (yj, xj) = (divmod(t - prefix, width) for t in (i, j))
    return bucket(yi - yj, xi - xj, axis, ratio, index)


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("mode", ["contextual", "bias"])
@pytest.mark.parametrize("shared_heads", [True, False])
@pytest.mark.parametrize(
    ("method", "ratio", "index"),
    [
        ("product", 1.9, "piecewise"),
        ("product", 2.0, "clip"),
        ("euclidean", 2.0, "piecewise"),
        ("quantisation", 3.0, "piecewise"),
        ("cross", 1.0, "piecewise"),
        ("cross", 1.0, "clip"),
    ],
)
def test_equals_loops_over_the_equations(method, ratio, index, mode, shared_heads, prefix):
    """q, k and, in mode contextual, v."""
    height, width = 3, 7
    torch.manual_seed(0)
    contextual = mode == "contextual"
    irpe = IRPE(
        Dims(embed_dims=HEADS * D, num_heads=HEADS, depth=1, grid=(14, 14), prefix=prefix),
        on="qkv" if contextual else "qk",
        method=method,
        mode=mode,
        shared_heads=shared_heads,
        ratio=ratio,
        index=index,
    ).double()
    for table in irpe.parameters():
        torch.nn.init.normal_(table)
    grid = TokenGrid(height, width, prefix)
    size = grid.num_tokens
    q, k, v = torch.randn(3, 1, HEADS, size, D, dtype=torch.float64)
    probs = torch.randn(1, HEADS, size, size, dtype=torch.float64).softmax(-1)
    bias = torch.zeros_like(probs)
    out = torch.zeros_like(v)
    where = dict(width=width, prefix=prefix, ratio=ratio, index=index)
    for axis in ("rows", "cols") if method == "cross" else (method,):
        tables = {
            side: module.tables[axis].detach().expand(HEADS, *module.tables[axis].shape[1:])
            for side, module in irpe.sides.items()
        }
        for i in range(size):
            for j in range(size):
                forth, back = column(i, j, axis, **where), column(j, i, axis, **where)
                if contextual:
                    for h in range(HEADS):
                        on_k = q[0, h, i] @ tables["k"][h, :, forth]
                        on_q = k[0, h, j] @ tables["q"][h, :, back]
                        bias[0, h, i, j] += (on_k + on_q) / math.sqrt(D)
                        out[0, h, i] += probs[0, h, i, j] * tables["v"][h, forth]
                else:
                    bias[0, :, i, j] += tables["k"][:, forth] + tables["q"][:, back]
    torch.testing.assert_close(
        irpe.logit_bias(q, k, v, grid).dense().expand_as(bias), bias, rtol=0, atol=1e-12
    )
    if contextual:
        found = irpe.context(grid).rows(probs, 0, size)
        torch.testing.assert_close(found, out, rtol=0, atol=1e-12)


def test_each_side_may_differ():
    irpe = IRPE(
        Dims(embed_dims=8, num_heads=2, depth=1, grid=(4, 5)),
        on="qkv",
        q=dict(mode="bias", shared_heads=False),
        v=dict(method="cross", ratio=1.0),
    )
    shapes = {name: tuple(value.shape) for name, value in irpe.state_dict().items()}
    assert shapes == {
        "sides.q.tables.product": (2, 49),
        "sides.k.tables.product": (1, 4, 49),
        "sides.v.tables.rows": (1, 5, 4),
        "sides.v.tables.cols": (1, 5, 4),
    }


def test_xavier_has_the_bounds_of_the_authors_detr():
    dims = Dims(embed_dims=256, num_heads=8, depth=1, grid=(25, 42))
    for options, bound in [
        (dict(ratio=2.0), 0.0474),
        ({}, 0.0609),
        (dict(ratio=2.0, shared_heads=False), 0.0430),
        (dict(ratio=2.0, mode="bias"), 0.2705),
    ]:
        (table,) = IRPE(dims, init="xavier", **options).parameters()
        assert 0.9 * bound < table.abs().max() <= bound + 5e-5


def test_starts_as_the_model_without_it():
    irpe = IRPE(Dims(embed_dims=6, num_heads=2, depth=1, grid=(3, 4)), on="qkv")
    grid, qkv = TokenGrid(3, 4), torch.randn(3, 1, 2, 12, 3)
    assert not irpe.logit_bias(*qkv, grid).dense().any()
    assert not irpe.context(grid).rows(torch.rand(1, 2, 12, 12), 0, 12).any()


def test_values_alone_leave_the_logits():
    irpe = IRPE(Dims(embed_dims=6, num_heads=2, depth=1, grid=(3, 4)), on="v")
    assert irpe.logit_bias(*torch.randn(3, 1, 2, 12, 3), TokenGrid(3, 4)) is None


def test_a_grid_with_other_prefix_tokens_is_named():
    irpe = IRPE(Dims(embed_dims=6, num_heads=2, depth=1, grid=(3, 4)))
    with pytest.raises(ValueError, match=r"49 buckets .* 2 prefix tokens: is Dims.prefix"):
        irpe.logit_bias(*torch.randn(3, 1, 2, 14, 3), TokenGrid(3, 4, prefix=2))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(on=""), ValueError, "on='' must be some of the letters q, k, v"),
        (dict(on="keys"), ValueError, "on='keys'"),
        (dict(on="kk"), ValueError, "on='kk'"),
        (dict(q=dict(ratio=2.0)), ValueError, "options for q, but on='k'"),
        (dict(on="v", mode="bias"), ValueError, "no bias mode on v"),
        (dict(ratio=0.0), ValueError, "ratio must be positive, not 0"),
        (
            dict(k=dict(method="prod")),
            ValueError,
            "IRPE on k: method is one of product, .*, not 'prod'",
        ),
        (
            dict(k=dict(ratios=2.0)),
            TypeError,
            "IRPE on k has no option `ratios`, did you mean `ratio`",
        ),
    ],
)
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        IRPE(Dims(embed_dims=6, num_heads=2, depth=1, grid=(3, 4)), **options)


@pytest.mark.parametrize(
    ("options", "millions"),
    [  # as published, with the classifier that a backbone has not
        (dict(on="k"), 22.089_064),
        (dict(on="qk"), 22.13),
        (dict(on="qkv"), 22.17),
        (dict(on="k", shared_heads=False), 22.28),
    ],
)
def test_parameter_counts_of_deit_small(options, millions):
    with torch.device("meta"):
        vit = ViT(
            "small",
            with_cls_token=True,
            position_encodings=[dict(type="LearnedAPE"), dict(type="IRPE", **options)],
        )
    count = sum(p.numel() for p in vit.parameters()) + 384 * 1000 + 1000
    assert count == millions * 1e6 or count == pytest.approx(millions * 1e6, abs=5e3)


def test_parameter_count_of_detr(monkeypatch):
    """9 x 9 buckets on k: 41,540,320 with the classifier of 91 classes."""
    leaf = Path(__file__).parents[1] / "configs/detr/detr_r50-sine-irpe-k_8xb2-150e_coco.py"
    monkeypatch.setattr(DefaultScope, "_instance_dict", DefaultScope._instance_dict.copy())
    init_default_scope("mmdet")
    with torch.device("meta"):
        detr = MODELS.build(Config.fromfile(leaf).model)
    frozen = sum(  # the authors' batch norms hold buffers, not parameters
        p.numel()
        for module in detr.modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for p in module.parameters()
    )
    ours = sum(p.numel() for p in detr.parameters()) - frozen
    assert ours + (91 - 80) * (256 + 1) == 41_540_320
