"""The mean of a map's positions, weighted by a softmax over them of one linear map of the channels, in one read.

    a = softmax over positions of w · x + b;  context = Σ_p a_p · x_p

The softmax is computed in float32 (float64 for float64), as it goes: the sums are rescaled when a larger logit comes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, layout_of, run, segments_of, small
from foveate.kernels._sums import over_channels, over_positions
from foveate.kernels.shared import Shared, backward_form, share

IN_CACHE = 256 << 10  # bytes of the map in work at a time, read from memory once and from the cache again


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


# The context (N, C) and the weights (N, P).
_attend = Pass("attended_pool(Tensor x, Tensor w, Tensor b) -> (Tensor, Tensor)", _attended_like)


@register_flop_formula(torch.ops.foveate.attended_pool)
def _flops(x: Any, w: Any, b: Any, *, out_shape: Any = None, **_: Any) -> int:
    (n, channels), (_, positions) = out_shape
    return int(4 * n * channels * positions)


def _cut(x: Tensor) -> tuple[str, int, int, int, int, int]:
    """Which C passes; samples, rows, columns; segments of the positions, and how many positions to work on at once."""
    n, rows, columns, last = layout_of(x)
    positions, channels = (rows, columns) if last else (columns, rows)
    width = max(16, min(512, IN_CACHE // (channels * x.element_size()) // 16 * 16))
    return "columns" if last else "rows", n, rows, columns, segments_of(n, positions), width


@_attend.form("cpu")
def _attend_cpu(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    name, n, rows, columns, segments, width = _cut(x)
    context, logits = _attended_like(x, w, b)
    largest, weight = context.new_empty(n, segments), context.new_empty(n, segments)
    sums = context.new_empty(n, segments, x.shape[1])
    run(f"attend_{name}", x, x, w, b, logits, largest, weight, sums, segments, width, n, rows, columns)
    factor = torch.exp(largest - largest.amax(1, keepdim=True))
    torch.sum(sums * (factor / (weight * factor).sum(1, keepdim=True)).unsqueeze(2), 1, out=context)
    return context, torch.softmax(logits, -1)


# From the gradient of the context: that of the logits (N, P) and that of w (C,).
_back = Pass(
    "attended_pool_gradient(Tensor x, Tensor weights, Tensor context, Tensor dy) -> (Tensor, Tensor)",
    lambda x, weights, context, dy: (torch.empty_like(weights), weights.new_empty(x.shape[1])),
)


@_back.form("cpu")
def _back_cpu(x: Tensor, weights: Tensor, context: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    name, n, rows, columns, segments, width = _cut(x)
    d_logits, parts = torch.empty_like(weights), context.new_empty(n, segments, x.shape[1])
    product = (context * dy).sum(1)
    run(f"attend_{name}_back", x, x, weights, dy, product, d_logits, parts, segments, width, n, rows, columns)
    return d_logits, parts.sum((0, 1))


# ---- triton ---------------------------------------------------------------------------------------------------------
@_attend.form("triton")
def _attend_triton(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    weights = torch.softmax(over_channels(x, w) + b, -1)
    return over_positions(x, weights), weights


@_back.form("triton")
def _back_triton(x: Tensor, weights: Tensor, context: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    d_logits = weights * (over_channels(x, dy) - (context * dy).sum(1, keepdim=True))
    return d_logits, over_positions(x, d_logits).sum(0)


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Attend(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, token: Tensor | None, shared: Shared, w: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor]:
        context, weights = _attend(shared.impl, x, w, b)
        ctx.impl, ctx.ledger = shared.impl, shared.ledger
        ctx.save_for_backward(x, w, b, weights, context)
        ctx.mark_non_differentiable(weights)
        return context.to(x.dtype), weights

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, w, b, weights, context = ctx.saved_tensors
        dy = given[0].to(computed(x.dtype)).contiguous()
        _, of_token, _, of_w, of_b = ctx.needs_input_grad
        if backward_form(ctx.impl, given[0]) == "reference":
            flat = x.reshape(*x.shape[:2], -1).to(dy.dtype)
            weights = torch.softmax((flat * w.unsqueeze(1)).sum(1) + b, -1)
            by_position = (flat * dy.unsqueeze(2)).sum(1)
            d_logits = weights * (by_position - (weights * by_position).sum(1, keepdim=True))
            d_w = (flat * d_logits.unsqueeze(1)).sum((0, 2))
        else:
            d_logits, d_w = _back(ctx.impl, x, weights, context, dy)
        if of_token:
            terms = ctx.ledger.terms()
            terms.outer += [(dy, weights), (w.expand_as(dy), d_logits)]
        d_token = x.new_zeros(()) if of_token else None
        d_b = 0 * d_logits.sum().reshape(1) if of_b else None  # a softmax does not see b; a NaN stays
        return None, d_token, None, d_w if of_w else None, d_b


# ---- dispatch -------------------------------------------------------------------------------------------------------
def pool_attended(x: Tensor | Shared, w: Tensor, b: Tensor, *, impl: str | None = None) -> tuple[Tensor, Tensor]:
    """Pool the map over its positions, weighted by the softmax of w · x + b over them.

    Args:
        x: (N, C, *S), floating, or a shared map.
        w: (C,), the weights of the channels in a position's logit.
        b: (1,), added to every logit; its gradient is 0 but for rounding.
        impl: see `share`.

    Returns: the context (N, C), in x's dtype, and the weights of the positions (N, *S), which carry no gradient.
    Raises: ValueError: w or b of another shape; what `share` raises.
    """
    shared = share(x, primitive="pool_attended", impl=impl)
    x = shared.tensor
    if w.shape != (x.shape[1],) or b.shape != (1,):
        raise ValueError(
            f"pool_attended: w and b must be ({x.shape[1]},) and (1,); got {tuple(w.shape)} and {tuple(b.shape)}"
        )
    wider = any(torch.promote_types(x.dtype, t.dtype) != x.dtype for t in (w, b))
    if shared.impl == "reference" or not _attend.has(shared.impl) or wider:
        context, weights = reference(x, w, b)
        return context, weights.detach().unflatten(1, x.shape[2:])
    w, b = small(w, x), small(b, x)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, w, b)):
        context, weights = _Attend.apply(x, shared.token, shared, w, b)
    else:
        context, weights = _attend(shared.impl, x, w, b)
    return context.to(x.dtype), weights.unflatten(1, x.shape[2:])
