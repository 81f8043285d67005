"""Squeeze-and-excitation in one call: y = x · σ(W₂ ReLU(W₁ mean(x) + b₁) + b₂).

On a CPU, forward and backward work through the samples one by one, so that the gate finds the sample in the cache. On
other devices the steps run separately: `global_pool`, two layers, `gate_map`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call_named
from foveate.kernels._dispatch import can_fuse
from foveate.kernels._layout import (
    PAST_THE_CACHE,
    computed,
    dense,
    like,
    segments_of,
    sizes_of,
    small,
)
from foveate.kernels.gates.gate_map import gate_map
from foveate.kernels.gradient.accumulator import accumulate_gradient, backward_form
from foveate.kernels.pools.global_pool import global_pool


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None, impl: str | None = "reference"
) -> tuple[Tensor, Tensor]:
    accumulated = accumulate_gradient(x, impl=impl)
    (mean,) = global_pool(accumulated, ("mean",))
    gate = torch.sigmoid(F.linear(torch.relu(F.linear(mean, w1, b1)), w2, b2))
    return gate_map(accumulated, channel=gate), gate


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _forward(x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> tuple[Tensor, ...]:
    n, channels, positions, last = sizes_of(x)
    hidden = x.new_empty(n, w1.shape[0], dtype=computed(x.dtype))
    mean, gate = hidden.new_empty(n, channels), hidden.new_empty(n, channels)
    y = torch.empty_like(x)
    given = (x, *(small(t, x) for t in (w1, b1, w2, b2)), y, mean, hidden, gate, w1.shape[0])
    call_named("squeeze_excite", x.dtype, *given, n, channels, positions, last, y.nbytes >= PAST_THE_CACHE)
    return y, mean, hidden, gate


def _backward(x: Tensor, dy: Tensor, w1: Tensor, w2: Tensor, hidden: Tensor, gate: Tensor) -> tuple[Tensor, ...]:
    n, channels, positions, last = sizes_of(x)
    dx, d_logits, d_hidden = torch.empty_like(x), torch.empty_like(gate), torch.empty_like(hidden)
    segments = segments_of(1, positions if last else channels)
    scratch = gate.new_empty(torch.get_num_threads(), segments + 3, channels)
    given = (x, dy, small(w1, x), small(w2, x), hidden, gate, dx, d_logits, d_hidden, scratch, segments, w1.shape[0])
    call_named("squeeze_excite_back", x.dtype, *given, n, channels, positions, last, dx.nbytes >= PAST_THE_CACHE)
    return dx, d_logits, d_hidden


# ---- gradient -------------------------------------------------------------------------------------------------------
class _SqueezeExcite(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        y, *kept, gate = _forward(x, w1, b1, w2, b2)
        ctx.save_for_backward(x, w1, b1, w2, b2, *kept, gate)
        gate = gate.to(x.dtype)
        ctx.mark_non_differentiable(gate)
        return y, gate

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, w1, b1, w2, b2, mean, hidden, gate = ctx.saved_tensors
        dy = given[0]
        if backward_form("cpu", dy) == "reference":
            flat, ones = x.flatten(2), (1,) * (x.dim() - 2)
            mean = flat.mean(2)
            hidden = torch.relu(F.linear(mean, w1, b1))
            gate = torch.sigmoid(F.linear(hidden, w2, b2))
            d_logits = (x * dy).reshape(*x.shape[:2], -1).sum(2) * gate * (1 - gate)
            d_hidden = (d_logits @ w2) * (hidden > 0)
            d_mean = d_hidden @ w1 / flat.shape[2]
            dx = dy * gate.reshape(*gate.shape, *ones) + d_mean.reshape(*gate.shape, *ones)
        else:
            dx, d_logits, d_hidden = _backward(x, like(dy, x), w1, w2, hidden, gate)
        return (
            dx,
            (d_hidden.mT @ mean).to(w1.dtype),
            None if b1 is None else d_hidden.sum(0).to(b1.dtype),
            (d_logits.mT @ hidden).to(w2.dtype),
            None if b2 is None else d_logits.sum(0).to(b2.dtype),
        )


# ---- dispatch -------------------------------------------------------------------------------------------------------
def squeeze_excite(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None, *, impl: str | None = None
) -> tuple[Tensor, Tensor]:
    """Gate every channel by a two-layer network over the means of all channels.

    Args:
        x: (N, C, *S), floating.
        w1, b1: (H, C) and (H,) or None, the first layer, followed by a ReLU.
        w2, b2: (C, H) and (C,) or None, the second layer, followed by a sigmoid.
        impl: see `accumulate_gradient`.

    Returns: y (N, C, *S) and the gate (N, C), detached.
    Raises: ValueError: weights of other shapes; as `accumulate_gradient`.
    """
    sizes = (w1.shape[0], x.shape[1])
    for name, value, wanted in (
        ("w1", w1, sizes),
        ("b1", b1, sizes[:1]),
        ("w2", w2, sizes[::-1]),
        ("b2", b2, sizes[1:]),
    ):
        if value is not None and value.shape != wanted:
            raise ValueError(f"squeeze_excite: {name} must be {wanted}; got {tuple(value.shape)}")
    weights = [t for t in (w1, b1, w2, b2) if t is not None]
    if not can_fuse("squeeze_excite", impl, x, *weights):
        y, gate = reference(x, w1, b1, w2, b2, impl)
        return y, gate.detach()
    x = dense(x)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights)):
        return _SqueezeExcite.apply(x, w1, b1, w2, b2)
    y, _, _, gate = _forward(x, w1, b1, w2, b2)
    return y, gate.to(x.dtype)
