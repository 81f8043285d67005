"""Attention pooling: the mean of a map's positions, weighted by a softmax over them, in one read of the map.

    a = softmax over positions of w · x + b;  context = Σ_p a_p · x_p

The softmax is computed online, in float32 (float64 for float64): sums are rescaled when a larger logit appears.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, memory_layout, segments_of, small
from foveate.kernels._tiles import segments_of_all, tiles_of, warps
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import AccumulatedMap, accumulate_gradient, backward_form

IN_CACHE = 256 << 10  # bytes of the map per step, read once from memory and once from the cache


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.flatten(2)
    logits = torch.nn.functional.conv1d(flat, w.reshape(1, -1, 1), b)
    weights = torch.softmax(logits, -1)
    return (flat @ weights.transpose(1, 2).to(x.dtype)).squeeze(-1), weights.squeeze(1)


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _attended_like(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dtype = computed(x.dtype)
    return x.new_empty(x.shape[:2], dtype=dtype), x.new_empty(x.shape[0], x[0, 0].numel(), dtype=dtype)


# Context (N, C) and weights (N, P).
_attend = Pass("attention_pool(Tensor x, Tensor w, Tensor b) -> (Tensor, Tensor)", _attended_like)


@register_flop_formula(torch.ops.foveate.attention_pool)
def _flops(x: Any, w: Any, b: Any, *, out_shape: Any = None, **_: Any) -> int:
    (n, channels), (_, positions) = out_shape
    return int(4 * n * channels * positions)


def _cut(x: Tensor) -> tuple[str, int, int, int, int, int]:
    """Which C pass; samples, rows, columns; segments of the positions, and the number of positions per step."""
    n, rows, columns, last = memory_layout(x)
    segments = segments_of(n, rows if last else columns)
    return "columns" if last else "rows", n, rows, columns, segments, positions_at_once(x)


def positions_at_once(x: Tensor) -> int:
    """Positions per step, whose channels stay in the cache between the two reads of a pass."""
    return max(16, min(512, IN_CACHE // (x.shape[1] * x.element_size()) // 16 * 16))


@_attend.form("cpu")
def _attend_cpu(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    name, n, rows, columns, segments, width = _cut(x)
    logits = x.new_empty(n, x[0, 0].numel(), dtype=computed(x.dtype))
    largest, weight = logits.new_empty(n, segments), logits.new_empty(n, segments)
    sums = logits.new_empty(n, segments, x.shape[1])
    call(f"attend_{name}", x.dtype, x, w, b, logits, largest, weight, sums, segments, width, n, rows, columns)
    return _together(largest, weight, sums), torch.softmax(logits, -1)


def _together(largest: Tensor, weight: Tensor, sums: Tensor) -> Tensor:
    """The context, from the largest logit and the sum of weights (N, segments) and the weighted sum of each segment."""
    factor = torch.exp(largest - largest.amax(1, keepdim=True))
    return (sums * (factor / (weight * factor).sum(1, keepdim=True)).unsqueeze(2)).sum(1)


# Gradients of the logits (N, P) and of w (C,), from that of the context.
_back = Pass(
    "attention_pool_gradient(Tensor x, Tensor weights, Tensor context, Tensor dy) -> (Tensor, Tensor)",
    lambda x, weights, context, dy: (torch.empty_like(weights), weights.new_empty(x.shape[1])),
)


@_back.form("cpu")
def _back_cpu(x: Tensor, weights: Tensor, context: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    name, n, rows, columns, segments, width = _cut(x)
    d_logits, parts = torch.empty_like(weights), context.new_empty(n, segments, x.shape[1])
    product = (context * dy).sum(1)
    call(f"attend_{name}_back", x.dtype, x, weights, dy, product, d_logits, parts, segments, width, n, rows, columns)
    return d_logits, parts.sum((0, 1))


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _attend_kernel(
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    b_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    largest_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    segments: tl.tensor,
    length: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per segment, tiles of all channels; each column of a tile has its own softmax until the end."""
    program, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC).to(tl.int64)
    n, first = program // segments, program % segments * length
    end = tl.minimum(first + length, P)
    w, b = tl.load(w_ptr + c, mask=c < C, other=0.0), tl.load(b_ptr)
    most, total = tl.full((BP,), -3.0e38, tl.float32), tl.zeros((BP,), tl.float32)
    sums = tl.zeros((BC, BP), tl.float32)
    for start in range(first, end, BP):
        p = start + tl.arange(0, BP)
        inside = (c < C)[:, None] & (p < end)[None, :]
        v = tl.load(x_ptr + n * C * P + c[:, None] * by_c + p[None, :] * by_p, mask=inside, other=0.0).to(tl.float32)
        logit = tl.sum(v * w[:, None], 0) + b
        tl.store(logits_ptr + n * P + p, logit, mask=p < end)
        logit = tl.where(p < end, logit, -float("inf"))
        above = tl.maximum(most, logit)
        shrink, weight = tl.exp(most - above), tl.exp(logit - above)
        total = total * shrink + weight
        sums = sums * shrink[None, :] + v * weight[None, :]
        most = above
    largest = tl.max(most, 0)
    factor = tl.exp(most - largest)
    tl.store(largest_ptr + program, largest)
    tl.store(weight_ptr + program, tl.sum(total * factor, 0))
    tl.store(sums_ptr + program * C + c, tl.sum(sums * factor[None, :], 1), mask=c < C)


@_attend.form("triton")
def _attend_triton(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    n, channels, positions, *by = tiles_of(x)[:5]
    segments, length, *blocks = segments_of_all(n, channels, positions)
    logits = x.new_empty(n, positions, dtype=torch.float32)
    largest, weight = logits.new_empty(n, segments), logits.new_empty(n, segments)
    sums = logits.new_empty(n, segments, channels)
    given = (x, w, b, logits, largest, weight, sums, segments, length, channels, positions, *by, *blocks)
    _attend_kernel[(n * segments,)](*given, num_warps=warps(math.prod(blocks)))
    return _together(largest, weight, sums), torch.softmax(logits, -1)


@triton.jit
def _back_kernel(
    x_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    product_ptr: tl.tensor,
    d_logits_ptr: tl.tensor,
    parts_ptr: tl.tensor,
    segments: tl.tensor,
    length: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per segment: the gradients of its logits, and the sum over its positions of x times these."""
    program, c = tl.program_id(0).to(tl.int64), tl.arange(0, BC).to(tl.int64)
    n, first = program // segments, program % segments * length
    end = tl.minimum(first + length, P)
    dy, product = tl.load(dy_ptr + n * C + c, mask=c < C, other=0.0), tl.load(product_ptr + n)
    sums = tl.zeros((BC, BP), tl.float32)
    for start in range(first, end, BP):
        p = start + tl.arange(0, BP)
        inside = (c < C)[:, None] & (p < end)[None, :]
        v = tl.load(x_ptr + n * C * P + c[:, None] * by_c + p[None, :] * by_p, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weights_ptr + n * P + p, mask=p < end, other=0.0)
        d_logit = weight * (tl.sum(v * dy[:, None], 0) - product)
        tl.store(d_logits_ptr + n * P + p, d_logit, mask=p < end)
        sums += v * d_logit[None, :]
    tl.store(parts_ptr + program * C + c, tl.sum(sums, 1), mask=c < C)


@_back.form("triton")
def _back_triton(x: Tensor, weights: Tensor, context: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    n, channels, positions, *by = tiles_of(x)[:5]
    segments, length, *blocks = segments_of_all(n, channels, positions)
    d_logits, parts = torch.empty_like(weights), context.new_empty(n, segments, channels)
    product = (context * dy).sum(1)
    given = (x, weights, dy, product, d_logits, parts, segments, length, channels, positions, *by, *blocks)
    _back_kernel[(n * segments,)](*given, num_warps=warps(math.prod(blocks)))
    return d_logits, parts.sum((0, 1))


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Attend(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor | None, accumulated: AccumulatedMap, w: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor]:
        context, weights = _attend(accumulated.impl, x, w, b)
        ctx.impl, ctx.accumulator = accumulated.impl, accumulated.accumulator
        ctx.save_for_backward(x, w, b, weights, context)
        ctx.mark_non_differentiable(weights)
        return context.to(x.dtype), weights

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, w, b, weights, context = ctx.saved_tensors
        dy = given[0].to(computed(x.dtype)).contiguous()
        _, of_anchor, _, of_w, of_b = ctx.needs_input_grad
        if backward_form(ctx.impl, given[0]) == "reference":
            flat = x.reshape(*x.shape[:2], -1).to(dy.dtype)
            weights = torch.softmax((flat * w.unsqueeze(1)).sum(1) + b, -1)
            by_position = (flat * dy.unsqueeze(2)).sum(1)
            d_logits = weights * (by_position - (weights * by_position).sum(1, keepdim=True))
            d_w = (flat * d_logits.unsqueeze(1)).sum((0, 2))
        else:
            d_logits, d_w = _back(ctx.impl, x, weights, context, dy)
        if of_anchor:
            terms = ctx.accumulator.terms()
            terms.outer += [(dy, weights), (w.expand_as(dy), d_logits)]
        d_anchor = x.new_zeros(()) if of_anchor else None
        d_b = 0 * d_logits.sum().reshape(1) if of_b else None  # a softmax is independent of b; NaN propagates
        return None, d_anchor, None, d_w if of_w else None, d_b


# ---- dispatch -------------------------------------------------------------------------------------------------------
def attention_pool(
    x: Tensor | AccumulatedMap, w: Tensor, b: Tensor, *, impl: str | None = None
) -> tuple[Tensor, Tensor]:
    """The mean of the map's positions, weighted by the softmax of w · x + b over them.

    Args:
        x: (N, C, *S), floating, or a map from `accumulate_gradient`.
        w: (C,), the weights of the channels in the logit of a position.
        b: (1,), added to every logit; its gradient is 0 up to rounding.
        impl: see `accumulate_gradient`.

    Returns: the context (N, C), in x's dtype, and the weights of the positions (N, *S), detached.
    Raises: ValueError: w or b of another shape; as `accumulate_gradient`.
    """
    accumulated = accumulate_gradient(x, primitive="attention_pool", impl=impl)
    x = accumulated.tensor
    if w.shape != (x.shape[1],) or b.shape != (1,):
        raise ValueError(
            f"attention_pool: w and b must be ({x.shape[1]},) and (1,); got {tuple(w.shape)} and {tuple(b.shape)}"
        )
    wider = any(torch.promote_types(x.dtype, t.dtype) != x.dtype for t in (w, b))
    if accumulated.impl == "reference" or not _attend.has(accumulated.impl) or wider:
        context, weights = reference(x, w, b)
        return context, weights.detach().unflatten(1, x.shape[2:])
    w, b = small(w, x), small(b, x)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, w, b)):
        context, weights = _Attend.apply(x, accumulated.anchor, accumulated, w, b)
    else:
        context, weights = _attend(accumulated.impl, x, w, b)
    return context.to(x.dtype), weights.unflatten(1, x.shape[2:])
