"""Shuffle attention's gates: half of each group of channels gated as a whole, half position by position; then shuffled.

    u' = u · σ(scale · mean(u) + shift)      v' = v · σ(scale · norm(v) + shift)

Every gate comes from one channel, so that the map is read once and written once; the shuffle is where a channel is
written.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._dispatch import Pass, choose
from foveate.kernels._layout import PAST_THE_CACHE, computed, run, small
from foveate.kernels.shared import backward_form

EPS = 1e-5


# ---- reference ------------------------------------------------------------------------------------------------------
def gates(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The gates of the first halves of the groups, (N, G, K, 1), and of the second ones, (N, G, K, P)."""
    width, scale, shift = scale.numel() // 2, scale.unsqueeze(1), shift.unsqueeze(1)
    u, v = x.flatten(2).unflatten(1, (-1, 2, width)).unbind(2)
    channel = torch.sigmoid(scale[:width] * u.mean(-1, keepdim=True) + shift[:width]).to(x.dtype)
    centred = v - v.mean(-1, keepdim=True)
    normed = centred * (centred.square().mean(-1, keepdim=True) + EPS).rsqrt()
    return channel, torch.sigmoid(scale[width:] * normed + shift[width:]).to(x.dtype)


def reference(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    channel, spatial = gates(x, scale, shift)
    u, v = x.flatten(2).unflatten(1, (-1, 2, scale.numel() // 2)).unbind(2)
    gated = torch.stack((u * channel, v * spatial), 2).flatten(1, 3)
    return gated.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).reshape(x.shape)


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _gated_like(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[:2], dtype=computed(x.dtype))
    return torch.empty_like(x), mean, torch.empty_like(mean)


# The gated map, the channels' means, and 1/√(variance + ε) of those that are normalised (else 0).
_gate = Pass("shuffle_gate(Tensor x, Tensor scale, Tensor shift) -> (Tensor, Tensor, Tensor)", _gated_like)


@_gate.form("cpu")
def _gate_cpu(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, inverse = _gated_like(x, scale, shift)
    n, channels = x.shape[:2]
    sizes = (scale.numel() // 2, n, channels, x[0, 0].numel(), y.nbytes >= PAST_THE_CACHE)
    run("shuffle_gate", x, x, scale, shift, y, mean, inverse, *sizes)
    return y, mean, inverse


def _back_like(
    x: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)


# The gradient of the map, and those of scale and shift for each channel and sample (N, C).
_back = Pass(
    "shuffle_gate_gradient(Tensor x, Tensor dy, Tensor scale, Tensor shift, Tensor mean, Tensor inverse)"
    " -> (Tensor, Tensor, Tensor)",
    _back_like,
)


@_back.form("cpu")
def _back_cpu(
    x: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    dx, d_scale, d_shift = _back_like(x, dy, scale, shift, mean, inverse)
    n, channels, positions = *x.shape[:2], x[0, 0].numel()
    scratch = mean.new_empty(2 * torch.get_num_threads(), positions)
    given = (x, dy, scale, shift, mean, inverse, dx, d_shift, d_scale, scratch, scale.numel() // 2)
    run("shuffle_gate_back", x, *given, n, channels, positions, dx.nbytes >= PAST_THE_CACHE)
    return dx, d_scale, d_shift


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, impl: str, scale: Tensor, shift: Tensor) -> Tensor:
        y, mean, inverse = _gate(impl, x, scale, shift)
        ctx.impl = impl
        ctx.save_for_backward(x, scale, shift, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, scale, shift, mean, inverse = ctx.saved_tensors
        if backward_form(ctx.impl, *given) == "reference":
            with torch.enable_grad():
                inputs = [t if t.requires_grad else t.detach().requires_grad_() for t in (x, scale, shift)]
                dx, d_scale, d_shift = torch.autograd.grad(reference(*inputs), inputs, given, create_graph=True)
            return dx, None, d_scale, d_shift
        dx, *small_ones = _back(ctx.impl, x, given[0].contiguous(), scale, shift, mean, inverse)
        return dx, None, *(t.unflatten(1, (-1, scale.numel())).sum((0, 1)) for t in small_ones)


# ---- dispatch -------------------------------------------------------------------------------------------------------
def shuffle_gate(x: Tensor, scale: Tensor, shift: Tensor, *, impl: str | None = None) -> Tensor:
    """Gate the channels and positions of the map as shuffle attention does, and shuffle its channels by halves.

    Args:
        x: (N, C, *S), floating, C a multiple of 2·K.
        scale, shift: (2·K,): of the K channels of each group gated as a whole, then of the K gated by position.
        impl: "reference", "cpu" or "triton". None: the quickest that can run on x.

    Returns: (N, C, *S), contiguous, in x's dtype.
    Raises: ValueError: sizes that do not fit, another impl. RuntimeError: one asked for that cannot run, and why.
    """
    if scale.dim() != 1 or scale.shape != shift.shape or scale.numel() % 2 or x.shape[1] % max(scale.numel(), 2):
        raise ValueError(
            f"shuffle_gate: scale and shift must be (2·K,) with {x.shape[1]} channels a multiple of 2·K;"
            f" got {tuple(scale.shape)} and {tuple(shift.shape)}"
        )
    impl = choose("shuffle_gate", impl, x)
    if impl == "reference" or not _gate.has(impl) or torch.promote_types(x.dtype, scale.dtype) != x.dtype:
        return reference(x, scale, shift)
    return _Gate.apply(x.contiguous(), impl, small(scale, x), small(shift, x))
