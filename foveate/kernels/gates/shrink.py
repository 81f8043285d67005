"""Soft thresholding, y = sign(x) · max(|x| − t, 0), with a threshold for each channel, in one read and one write."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import PAST_THE_CACHE, computed, like, memory_layout, segments_of, small
from foveate.kernels._tiles import tiles_of
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import AccumulatedMap, accumulate_gradient, backward_form


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, threshold: Tensor) -> Tensor:
    threshold = threshold.reshape(*threshold.shape, *(1,) * (x.dim() - 2))
    return torch.sign(x) * torch.relu(x.abs() - threshold)


# ---- cpu ------------------------------------------------------------------------------------------------------------
_shrink = Pass("shrink(Tensor x, Tensor threshold) -> Tensor", lambda x, threshold: torch.empty_like(x))


@_shrink.form("cpu")
def _shrink_cpu(x: Tensor, threshold: Tensor) -> Tensor:
    n, rows, columns, last = memory_layout(x)
    y = torch.empty_like(x)
    given = (None, threshold) if last else (threshold, None)
    call("shrink", x.dtype, x, *given, y, n, rows, columns, y.nbytes >= PAST_THE_CACHE)
    return y


# Gradient of the thresholds, (N, C).
_sums = Pass(
    "shrink_threshold_gradient(Tensor x, Tensor dy, Tensor threshold) -> Tensor",
    lambda x, dy, threshold: torch.empty_like(threshold),
)


@_sums.form("cpu")
def _sums_cpu(x: Tensor, dy: Tensor, threshold: Tensor) -> Tensor:
    n, rows, columns, last = memory_layout(x)
    segments = segments_of(n, rows)
    if not last:
        out = torch.empty_like(threshold)
        call("shrink_sums", x.dtype, x, dy, threshold, None, out, None, segments, n, rows, columns)
        return out
    parts = x.new_empty(n, segments, columns, dtype=computed(x.dtype))
    call("shrink_sums", x.dtype, x, dy, None, threshold, None, parts, segments, n, rows, columns)
    return parts.sum(1)


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _shrink_kernel(
    x_ptr: tl.tensor,
    threshold_ptr: tl.tensor,
    y_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per tile."""
    tile, down, across = tl.program_id(0), tl.cdiv(C, BC), tl.cdiv(P, BP)
    n = (tile // (down * across)).to(tl.int64)
    c = (tile // across % down * BC + tl.arange(0, BC)).to(tl.int64)
    p = (tile % across * BP + tl.arange(0, BP)).to(tl.int64)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
    v = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    over = tl.abs(v) - tl.load(threshold_ptr + n * C + c, mask=c < C, other=0.0)[:, None]
    over = tl.where(over <= 0, 0.0, over)  # NaN propagates
    y = tl.where(v > 0, over, tl.where(v < 0, -over, v * over))
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@_shrink.form("triton")
def _shrink_triton(x: Tensor, threshold: Tensor) -> Tensor:
    y, t = torch.empty_like(x), tiles_of(x)
    _shrink_kernel[(t.n * t.down * t.across,)](x, threshold, y, *t[1:])
    return y


@triton.jit
def _sums_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    threshold_ptr: tl.tensor,
    out_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per block of channels."""
    program, down = tl.program_id(0), tl.cdiv(C, BC)
    n = (program // down).to(tl.int64)
    c = (program % down * BC + tl.arange(0, BC)).to(tl.int64)
    threshold = tl.load(threshold_ptr + n * C + c, mask=c < C, other=0.0)[:, None]
    total = tl.zeros((BC, BP), tl.float32)
    for start in range(0, P, BP):
        p = (start + tl.arange(0, BP)).to(tl.int64)
        inside = (c < C)[:, None] & (p < P)[None, :]
        at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
        v = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total += tl.where(tl.abs(v) <= threshold, 0.0, tl.where(v > 0, -dy, tl.where(v < 0, dy, v)))
    tl.store(out_ptr + n * C + c, tl.sum(total, 1), mask=c < C)


@_sums.form("triton")
def _sums_triton(x: Tensor, dy: Tensor, threshold: Tensor) -> Tensor:
    out, t = torch.empty_like(threshold), tiles_of(x, kept="channels")
    _sums_kernel[(t.n * t.down,)](x, dy, threshold, out, *t[1:])
    return out


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Shrink(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor | None, accumulated: AccumulatedMap, threshold: Tensor) -> Tensor:
        ctx.impl, ctx.accumulator = accumulated.impl, accumulated.accumulator
        ctx.save_for_backward(x, threshold)
        return _shrink(accumulated.impl, x, threshold)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dy,) = given
        x, threshold = ctx.saved_tensors
        _, of_anchor, _, of_threshold = ctx.needs_input_grad
        d_threshold = None
        if backward_form(ctx.impl, dy) == "reference":
            over = x.abs() > threshold.reshape(*threshold.shape, *(1,) * (x.dim() - 2))
            d_threshold = -(dy * x.sign() * over).reshape(*x.shape[:2], -1).sum(2)
        else:
            dy = like(dy, x)
            d_threshold = _sums(ctx.impl, x, dy, threshold) if of_threshold else None
        if of_anchor:
            ctx.accumulator.terms().thresholded.append((dy, threshold))
        return None, dy.new_zeros(()) if of_anchor else None, None, d_threshold if of_threshold else None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def shrink(x: Tensor | AccumulatedMap, threshold: Tensor, *, impl: str | None = None) -> Tensor:
    """Move every value towards zero by its channel's threshold, and smaller ones to zero.

    Args:
        x: (N, C, *S), floating, or a map from `accumulate_gradient`.
        threshold: (N, C), not negative.
        impl: see `accumulate_gradient`.

    Raises: ValueError: thresholds of another shape; as `accumulate_gradient`.
    """
    accumulated = accumulate_gradient(x, primitive="shrink", impl=impl)
    x = accumulated.tensor
    if threshold.shape != x.shape[:2]:
        raise ValueError(f"shrink: threshold must be {tuple(x.shape[:2])}; got {tuple(threshold.shape)}")
    wider = torch.promote_types(x.dtype, threshold.dtype) != x.dtype
    if accumulated.impl == "reference" or not _shrink.has(accumulated.impl) or wider:
        return reference(x, threshold)
    threshold = small(threshold, x)
    if torch.is_grad_enabled() and (x.requires_grad or threshold.requires_grad):
        return _Shrink.apply(x, accumulated.anchor, accumulated, threshold)
    return _shrink(accumulated.impl, x, threshold)
