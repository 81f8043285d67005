"""Efficient channel attention in one call: y = x · σ(w ∗ mean(x)), a convolution along the channels.

On a CPU, forward and backward work through the samples one by one, so that the gate finds the sample in the cache. On
other devices the steps run separately.
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
def _windows(values: Tensor, size: int) -> Tensor:
    """(N, C) → (N, C, size): the neighbours of each channel, with zeros beyond the ends."""
    return F.pad(values, (size // 2, size // 2)).unfold(1, size, 1)


def neighbour_sums(mean: Tensor, w: Tensor) -> Tensor:
    """(N, C) → (N, C): the convolution along the channels, with one kernel for all of them or one for each."""
    if w.shape[0] == 1:
        return F.conv1d(mean.unsqueeze(1), w, padding=w.shape[2] // 2).squeeze(1)
    return torch.einsum("nck,ck->nc", _windows(mean, w.shape[2]), w.squeeze(1))


def reference(x: Tensor, w: Tensor, impl: str | None = "reference") -> tuple[Tensor, Tensor]:
    accumulated = accumulate_gradient(x, impl=impl)
    (mean,) = global_pool(accumulated, ("mean",))
    gate = torch.sigmoid(neighbour_sums(mean, w))
    return gate_map(accumulated, channel=gate), gate


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _forward(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, channels, positions, last = sizes_of(x)
    y, mean = torch.empty_like(x), x.new_empty(n, channels, dtype=computed(x.dtype))
    gate = torch.empty_like(mean)
    given = (x, small(w, x), y, mean, gate, w.shape[2], w.shape[0] > 1)
    call_named("convolve_channels", x.dtype, *given, n, channels, positions, last, y.nbytes >= PAST_THE_CACHE)
    return y, mean, gate


def _backward(x: Tensor, dy: Tensor, w: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    n, channels, positions, last = sizes_of(x)
    dx, d_logits = torch.empty_like(x), torch.empty_like(gate)
    segments = segments_of(1, positions if last else channels)
    scratch = gate.new_empty(torch.get_num_threads(), segments + 3, channels)
    given = (x, dy, small(w, x), gate, dx, d_logits, scratch, segments, w.shape[2], w.shape[0] > 1)
    call_named("convolve_channels_back", x.dtype, *given, n, channels, positions, last, dx.nbytes >= PAST_THE_CACHE)
    return dx, d_logits


# ---- gradient -------------------------------------------------------------------------------------------------------
class _ConvolveChannels(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        y, mean, gate = _forward(x, w)
        ctx.save_for_backward(x, w, mean, gate)
        gate = gate.to(x.dtype)
        ctx.mark_non_differentiable(gate)
        return y, gate

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, w, mean, gate = ctx.saved_tensors
        dy, size = given[0], w.shape[2]
        if backward_form("cpu", dy) == "reference":
            flat, ones = x.flatten(2), (1,) * (x.dim() - 2)
            mean = flat.mean(2)
            gate = torch.sigmoid(neighbour_sums(mean, w))
            d_logits = (x * dy).reshape(*x.shape[:2], -1).sum(2) * gate * (1 - gate)
            parts = d_logits.unsqueeze(2) * w.squeeze(1)  # of each channel, for each of its neighbours
            shifted = [F.pad(parts[:, :, k], (k, size - 1 - k)) for k in range(size)]
            d_mean = torch.stack(shifted).sum(0)[:, size // 2 : size // 2 + mean.shape[1]]
            dx = dy * gate.reshape(*gate.shape, *ones) + (d_mean / flat.shape[2]).reshape(*gate.shape, *ones)
        else:
            dx, d_logits = _backward(x, like(dy, x), w, gate)
        products = d_logits.unsqueeze(2) * _windows(mean, size)
        dw = products.sum(0) if w.shape[0] > 1 else products.sum((0, 1)).unsqueeze(0)
        return dx, dw.unsqueeze(1).to(w.dtype)


# ---- dispatch -------------------------------------------------------------------------------------------------------
def convolve_channels(x: Tensor, w: Tensor, *, impl: str | None = None) -> tuple[Tensor, Tensor]:
    """Gate every channel by a convolution over the means of its neighbours.

    Args:
        x: (N, C, *S), floating.
        w: (1, 1, k), k odd, one kernel for all channels; or (C, 1, k), one for each.
        impl: see `accumulate_gradient`.

    Returns: y (N, C, *S) and the gate (N, C), detached.
    Raises: ValueError: a kernel of another shape; as `accumulate_gradient`.
    """
    if w.dim() != 3 or w.shape[0] not in (1, x.shape[1]) or w.shape[1] != 1 or w.shape[2] % 2 == 0:
        raise ValueError(f"convolve_channels: wanted w (1, 1, k) or ({x.shape[1]}, 1, k), k odd; got {tuple(w.shape)}")
    if not can_fuse("convolve_channels", impl, x, w):
        y, gate = reference(x, w, impl)
        return y, gate.detach()
    x = dense(x)
    if torch.is_grad_enabled() and (x.requires_grad or w.requires_grad):
        return _ConvolveChannels.apply(x, w)
    y, _, gate = _forward(x, w)
    return y, gate.to(x.dtype)
