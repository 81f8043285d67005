"""Channel pooling: maximum and mean over the channels of x · channel at every position, in one read of the map.

The scaled map is not stored. Of several equal maxima the first channel takes the gradient; NaN counts as the largest
value.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, memory_layout, segments_of, small
from foveate.kernels._tiles import first_largest, later_largest, tiles_of
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import AccumulatedMap, accumulate_gradient, backward_form


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, channel: Tensor | None) -> tuple[Tensor, Tensor]:
    if channel is not None:
        x = x * channel.reshape(*channel.shape, *(1,) * (x.dim() - 2))
    return x.max(1).values, x.mean(1)


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _pooled_like(x: Tensor, channel: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    most = x.new_empty(x.shape[0], x[0, 0].numel(), dtype=computed(x.dtype))
    return most, torch.empty_like(most), torch.empty_like(most, dtype=torch.int32)


# Maximum, mean and index of the channel with the maximum, each (N, P).
_pool = Pass("channel_pool(Tensor x, Tensor? channel) -> (Tensor, Tensor, Tensor)", _pooled_like)


@_pool.form("cpu")
def _pool_cpu(x: Tensor, channel: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    n, rows, columns, last = memory_layout(x)
    most, mean, at = _pooled_like(x, channel)
    if last:
        call("row_sums", x.dtype, x, channel, mean, most, at, None, None, n, rows, columns)
    else:
        call("column_sums", x.dtype, x, channel, mean, most, at, None, n, rows, columns)
    return most, mean.div_(x.shape[1]), at


# Gradient of channel (N, C), from those of the mean (divided by C) and of the maximum, each (N, P).
_back = Pass(
    "channel_pool_gradient(Tensor x, Tensor d_mean, Tensor at, Tensor d_max) -> Tensor",
    lambda x, d_mean, at, d_max: x.new_empty(x.shape[:2], dtype=computed(x.dtype)),
)


@_back.form("cpu")
def _back_cpu(x: Tensor, d_mean: Tensor, at: Tensor, d_max: Tensor) -> Tensor:
    n, rows, columns, last = memory_layout(x)
    if not last:
        out = x.new_empty(n, rows, dtype=computed(x.dtype))
        call("rows_weighted", x.dtype, x, d_mean, at, d_max, out, n, rows, columns)
        return out
    segments = segments_of(n, rows)
    parts = x.new_empty(n, segments, columns, dtype=computed(x.dtype))
    call("columns_weighted", x.dtype, x, d_mean, at, d_max, parts, segments, n, rows, columns)
    return parts.sum(1)


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _pool_kernel(
    x_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    most_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    at_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per block of positions."""
    program, across = tl.program_id(0), tl.cdiv(P, BP)
    n = (program // across).to(tl.int64)
    p = (program % across * BP + tl.arange(0, BP)).to(tl.int64)
    total = tl.zeros((BC, BP), tl.float32)
    most, place = tl.full((BP,), -float("inf"), tl.float32), tl.full((BP,), -1, tl.int32)
    for start in range(0, C, BC):
        c = (start + tl.arange(0, BC)).to(tl.int64)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x_ptr + n * C * P + c[:, None] * by_c + p[None, :] * by_p, mask=inside, other=0.0).to(tl.float32)
        if channel_ptr is not None:
            v = v * tl.load(channel_ptr + n * C + c, mask=c < C, other=0.0)[:, None]
        total += v
        here, at = first_largest(v, inside, c, 0)
        most, place = later_largest(most, place, here, at)
    tl.store(most_ptr + n * P + p, most, mask=p < P)
    tl.store(mean_ptr + n * P + p, tl.sum(total, 0) / C, mask=p < P)
    tl.store(at_ptr + n * P + p, place, mask=p < P)


@_pool.form("triton")
def _pool_triton(x: Tensor, channel: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    (most, mean, at), t = _pooled_like(x, channel), tiles_of(x, kept="positions")
    _pool_kernel[(t.n * t.across,)](x, channel, most, mean, at, *t[1:])
    return most, mean, at


@triton.jit
def _back_kernel(
    x_ptr: tl.tensor,
    d_mean_ptr: tl.tensor,
    at_ptr: tl.tensor,
    d_max_ptr: tl.tensor,
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
    total = tl.zeros((BC, BP), tl.float32)
    for start in range(0, P, BP):
        p = (start + tl.arange(0, BP)).to(tl.int64)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x_ptr + n * C * P + c[:, None] * by_c + p[None, :] * by_p, mask=inside, other=0.0).to(tl.float32)
        weight = tl.broadcast_to(tl.load(d_mean_ptr + n * P + p, mask=p < P, other=0.0)[None, :], (BC, BP))
        here = tl.load(at_ptr + n * P + p, mask=p < P, other=-1)[None, :] == c[:, None]
        weight = weight + tl.where(here, tl.load(d_max_ptr + n * P + p, mask=p < P, other=0.0)[None, :], 0.0)
        total += v * weight
    tl.store(out_ptr + n * C + c, tl.sum(total, 1), mask=c < C)


@_back.form("triton")
def _back_triton(x: Tensor, d_mean: Tensor, at: Tensor, d_max: Tensor) -> Tensor:
    out, t = x.new_empty(x.shape[:2], dtype=torch.float32), tiles_of(x, kept="channels")
    _back_kernel[(t.n * t.down,)](x, d_mean, at, d_max, out, *t[1:])
    return out


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Pool(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor | None, accumulated: AccumulatedMap, channel: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        most, mean, at = _pool(accumulated.impl, x, channel)
        ctx.impl, ctx.accumulator = accumulated.impl, accumulated.accumulator
        ctx.save_for_backward(x, channel, at)
        return most.to(x.dtype), mean.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, channel, at = ctx.saved_tensors
        d_max, d_mean = (d.to(computed(x.dtype)).contiguous() for d in given)
        d_mean = d_mean / x.shape[1]
        _, of_anchor, _, of_channel = ctx.needs_input_grad
        d_channel = None
        if of_channel and backward_form(ctx.impl, *given) == "reference":
            flat, hit = x.reshape(*x.shape[:2], -1), at.long().unsqueeze(1)
            d_channel = (flat * d_mean.unsqueeze(1)).sum(2)
            d_channel = d_channel.scatter_add(1, at.long(), flat.gather(1, hit).squeeze(1) * d_max)
        elif of_channel:
            d_channel = _back(ctx.impl, x, d_mean, at, d_max)
        if of_anchor:
            terms = ctx.accumulator.terms()
            terms.outer.append((d_mean.new_ones(x.shape[:2]) if channel is None else channel, d_mean))
            terms.channel_argmax.append((at, d_max, channel))
        return None, x.new_zeros(()) if of_anchor else None, None, d_channel


# ---- dispatch -------------------------------------------------------------------------------------------------------
def channel_pool(
    x: Tensor | AccumulatedMap, channel: Tensor | None = None, *, impl: str | None = None
) -> tuple[Tensor, Tensor]:
    """Pool the map over its channels, after multiplying these by their factors.

    Args:
        x: (N, C, *S), floating, or a map from `accumulate_gradient`.
        channel: (N, C), a factor for each channel.
        impl: see `accumulate_gradient`.

    Returns: the maxima and the means, each (N, *S).
    Raises: ValueError: factors of another shape; as `accumulate_gradient`.
    """
    accumulated = accumulate_gradient(x, primitive="channel_pool", impl=impl)
    x = accumulated.tensor
    if channel is not None and channel.shape != x.shape[:2]:
        raise ValueError(f"channel_pool: channel must be {tuple(x.shape[:2])}; got {tuple(channel.shape)}")
    wider = channel is not None and torch.promote_types(x.dtype, channel.dtype) != x.dtype
    if accumulated.impl == "reference" or not _pool.has(accumulated.impl) or wider:
        return reference(x, channel)
    channel = small(channel, x)
    if accumulated.anchor is not None or (torch.is_grad_enabled() and channel is not None and channel.requires_grad):
        most, mean = _Pool.apply(x, accumulated.anchor, accumulated, channel)
    else:
        most, mean, _ = (t.to(x.dtype) for t in _pool(accumulated.impl, x, channel)[:3])
    return most.unflatten(1, x.shape[2:]), mean.unflatten(1, x.shape[2:])
