"""Tiles of the kernel `distance`, written in Triton.

A program holds tokens i, a block of one head of one image, and goes through all tokens j. With
logits s, distances D between vectors z of one axis and delta_i = grad_i . out_i:
    p[i, j] = exp(s[i, j] - lse_i),   ds[i, j] = p[i, j] (grad_i . v_j - delta_i)
    dq_i = sum_j ds[i, j] k_j,   dk_i = sum_j ds[j, i] q_j,   dv_i = sum_j p[j, i] grad_j
    r[i, j] = (ds[i, j] + ds[j, i]) / D[i, j], or 0 where D is,   dz_i = sum_j r[i, j] (z_i - z_j)
Backward, one tile of distances serves both directions, as D[i, j] = D[j, i]; and a program writes
what is its own, so results do not depend on the order of programs. The bias's factor is left to
the host: dz is linear in it, and its own gradient is sum_i z_i . dz_i, as D is homogeneous of
degree one. Logits, and lse, are in base 2.
"""

from typing import no_type_check  # else type checks of tests wrap what Triton has to read

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
# Finite, so that a row that has met masked keys only has no inf - inf: what it has summed up by
# then is multiplied by exp2(-1e30 - highest) = 0 at the first key that counts.
MASKED = tl.constexpr(-1.0e30)
# Products of float32 come from tensor cores in three parts, as exact as float32. Those of float32
# units ("ieee") are unrolled by Triton into more values than a thread has registers for.
PRECISION = tl.constexpr("tf32x3")


@triton.jit
@no_type_check
def _load(pointer, index, first, last, stride, width, WIDTH: tl.constexpr):  # noqa: N803
    """Rows `index` of a matrix of `width` columns, zero outside of it and of [first, last)."""
    column = tl.arange(0, WIDTH)
    inside = ((index >= first) & (index < last))[:, None] & (column < width)[None, :]
    return tl.load(pointer + index[:, None] * stride + column[None, :], mask=inside, other=0.0)


@triton.jit
@no_type_check
def _store(pointer, index, first, last, stride, width, value):
    """The same for writing."""
    column = tl.arange(0, value.shape[1])
    inside = ((index >= first) & (index < last))[:, None] & (column < width)[None, :]
    place = pointer + index[:, None] * stride + column[None, :]
    tl.store(place, value.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _allowed(mask, index, tokens, HAS_MASK: tl.constexpr):  # noqa: N803
    """Whether tokens may be read."""
    allowed = index < tokens
    if HAS_MASK:
        allowed = allowed & (tl.load(mask + index, mask=allowed, other=0) != 0)
    return allowed


@triton.jit
@no_type_check
def _distance(z_i, z_j, norm, i, j, prefix, tokens):
    """||z_i - z_j|| of pairs of different patches, else 0."""
    patch_i = (i >= prefix) & (i < tokens)
    patch_j = (j >= prefix) & (j < tokens)
    norm_i = tl.load(norm + i, mask=patch_i, other=0.0)
    norm_j = tl.load(norm + j, mask=patch_j, other=0.0)
    product = tl.dot(z_i, tl.trans(z_j), input_precision=PRECISION)
    square = norm_i[:, None] + norm_j[None, :] - 2.0 * product
    apart = patch_i[:, None] & patch_j[None, :] & (i[:, None] != j[None, :])
    return tl.sqrt(tl.where(apart & (square > 0), square, 0.0))


@triton.jit
@no_type_check
def forward(
    q, k, v, out, lse, x, y, x_norm, y_norm, scale, mask,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, o_b, o_h, o_n, mask_b,
    heads, tokens, prefix, depth, x_width, y_width, qk_scale,
    DEPTH: tl.constexpr, X: tl.constexpr, Y: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, HAS_MASK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """One block of queries over all keys, with a softmax that is rescaled as it goes."""
    blocks = tl.cdiv(tokens, ROWS)
    layer = (tl.program_id(0) // blocks).to(tl.int64)  # of an image and a head
    b, h = layer // heads, layer % heads
    q, k, v = q + b * q_b + h * q_h, k + b * k_b + h * k_h, v + b * v_b + h * v_h
    patches = layer * (tokens - prefix) - prefix  # prefix tokens have no vectors
    x, x_norm = x + patches * x_width, x_norm + patches
    y, y_norm = y + patches * y_width, y_norm + patches
    bias_scale = tl.load(scale + h) * LOG2_E

    i = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    q_i = _load(q, i, 0, tokens, q_n, depth, DEPTH)
    x_i = _load(x, i, prefix, tokens, x_width, x_width, X)
    y_i = _load(y, i, prefix, tokens, y_width, y_width, Y)

    highest = tl.full([ROWS], MASKED, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, DEPTH], tl.float32)
    for start in range(0, tokens, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        x_j = _load(x, j, prefix, tokens, x_width, x_width, X)
        y_j = _load(y, j, prefix, tokens, y_width, y_width, Y)
        apart = _distance(x_i, x_j, x_norm, i, j, prefix, tokens)
        apart += _distance(y_i, y_j, y_norm, i, j, prefix, tokens)
        k_j = _load(k, j, 0, tokens, k_n, depth, DEPTH)
        logits = tl.dot(q_i, tl.trans(k_j), input_precision=PRECISION)
        logits = logits * qk_scale + apart * bias_scale
        allowed = _allowed(mask + b * mask_b, j, tokens, HAS_MASK)
        logits = tl.where(allowed[None, :], logits, MASKED)

        higher = tl.maximum(highest, tl.max(logits, 1))
        p = tl.exp2(logits - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(p, 1)
        v_j = _load(v, j, 0, tokens, v_n, depth, DEPTH)
        sums = sums * shrink[:, None] + tl.dot(p.to(v_j.dtype), v_j, input_precision=PRECISION)
        highest = higher

    _store(out + b * o_b + h * o_h, i, 0, tokens, o_n, depth, sums / total[:, None])
    tl.store(lse + layer * tokens + i, highest + tl.log2(total), mask=i < tokens)


@triton.jit
@no_type_check
def _weights(asking, asked, grad, value, bias, lse, delta, allowed, qk_scale):
    """P, and the gradient of its logits."""
    logits = tl.dot(asking, tl.trans(asked), input_precision=PRECISION) * qk_scale + bias
    p = tl.where(allowed, tl.exp2(logits - lse), 0.0)
    return p, p * (tl.dot(grad, tl.trans(value), input_precision=PRECISION) - delta)


@triton.jit
@no_type_check
def _over(ds, distance):
    """The r of one axis, for ds of both directions."""
    return tl.where(distance > 0, ds / tl.where(distance > 0, distance, 1.0), 0.0)


@triton.jit
@no_type_check
def backward(
    q, k, v, grad, dq, dk, dv, dx, dy, lse, delta, x, y, x_norm, y_norm, scale, mask,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, g_b, g_h, g_n, o_b, o_h, o_n, mask_b,
    heads, tokens, prefix, depth, x_width, y_width, qk_scale,
    DEPTH: tl.constexpr, X: tl.constexpr, Y: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, HAS_MASK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """All gradients of one block of tokens, which ask all tokens and are asked by them."""
    blocks = tl.cdiv(tokens, ROWS)
    layer = (tl.program_id(0) // blocks).to(tl.int64)  # of an image and a head
    b, h = layer // heads, layer % heads
    q, k, v = q + b * q_b + h * q_h, k + b * k_b + h * k_h, v + b * v_b + h * v_h
    grad, lse, delta = grad + b * g_b + h * g_h, lse + layer * tokens, delta + layer * tokens
    patches = layer * (tokens - prefix) - prefix  # prefix tokens have no vectors
    x, x_norm, dx = x + patches * x_width, x_norm + patches, dx + patches * x_width
    y, y_norm, dy = y + patches * y_width, y_norm + patches, dy + patches * y_width
    mask += b * mask_b
    bias_scale = tl.load(scale + h) * LOG2_E

    i = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    q_i = _load(q, i, 0, tokens, q_n, depth, DEPTH)
    k_i = _load(k, i, 0, tokens, k_n, depth, DEPTH)
    v_i = _load(v, i, 0, tokens, v_n, depth, DEPTH)
    grad_i = _load(grad, i, 0, tokens, g_n, depth, DEPTH)
    x_i = _load(x, i, prefix, tokens, x_width, x_width, X)
    y_i = _load(y, i, prefix, tokens, y_width, y_width, Y)
    # Queries past the end weigh nothing: exp2(logit - inf) = 0.
    lse_i = tl.load(lse + i, mask=i < tokens, other=float("inf"))[:, None]
    delta_i = tl.load(delta + i, mask=i < tokens, other=0.0)[:, None]
    allowed_i = _allowed(mask, i, tokens, HAS_MASK)[:, None]

    dq_i = tl.zeros([ROWS, DEPTH], tl.float32)
    dk_i = tl.zeros([ROWS, DEPTH], tl.float32)
    dv_i = tl.zeros([ROWS, DEPTH], tl.float32)
    x_sum, x_product = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, X], tl.float32)
    y_sum, y_product = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, Y], tl.float32)
    for start in range(0, tokens, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        x_j = _load(x, j, prefix, tokens, x_width, x_width, X)
        y_j = _load(y, j, prefix, tokens, y_width, y_width, Y)
        x_apart = _distance(x_i, x_j, x_norm, i, j, prefix, tokens)
        y_apart = _distance(y_i, y_j, y_norm, i, j, prefix, tokens)
        bias = (x_apart + y_apart) * bias_scale
        q_j = _load(q, j, 0, tokens, q_n, depth, DEPTH)
        k_j = _load(k, j, 0, tokens, k_n, depth, DEPTH)
        v_j = _load(v, j, 0, tokens, v_n, depth, DEPTH)
        grad_j = _load(grad, j, 0, tokens, g_n, depth, DEPTH)
        lse_j = tl.load(lse + j, mask=j < tokens, other=float("inf"))[None, :]
        delta_j = tl.load(delta + j, mask=j < tokens, other=0.0)[None, :]
        allowed_j = _allowed(mask, j, tokens, HAS_MASK)[None, :]

        _, asks = _weights(q_i, k_j, grad_i, v_j, bias, lse_i, delta_i, allowed_j, qk_scale)
        dq_i += tl.dot(asks.to(k_j.dtype), k_j, input_precision=PRECISION)
        p, asked = _weights(k_i, q_j, v_i, grad_j, bias, lse_j, delta_j, allowed_i, qk_scale)
        dv_i += tl.dot(p.to(grad_j.dtype), grad_j, input_precision=PRECISION)
        dk_i += tl.dot(asked.to(q_j.dtype), q_j, input_precision=PRECISION)

        r = _over(asks + asked, x_apart)
        x_sum += tl.sum(r, 1)
        x_product += tl.dot(r, x_j, input_precision=PRECISION)
        r = _over(asks + asked, y_apart)
        y_sum += tl.sum(r, 1)
        y_product += tl.dot(r, y_j, input_precision=PRECISION)

    place = b * o_b + h * o_h
    _store(dq + place, i, 0, tokens, o_n, depth, dq_i * (qk_scale / LOG2_E))
    _store(dk + place, i, 0, tokens, o_n, depth, dk_i * (qk_scale / LOG2_E))
    _store(dv + place, i, 0, tokens, o_n, depth, dv_i)
    # Read again: held through the loop, they would cost registers.
    x_i = _load(x, i, prefix, tokens, x_width, x_width, X)
    y_i = _load(y, i, prefix, tokens, y_width, y_width, Y)
    _store(dx, i, prefix, tokens, x_width, x_width, x_sum[:, None] * x_i - x_product)
    _store(dy, i, prefix, tokens, y_width, y_width, y_sum[:, None] * y_i - y_product)
