"""The gates of shuffle attention: half of each group of channels gated as a whole, half by position; then a shuffle.

    u' = u · σ(scale · mean(u) + shift)      v' = v · σ(scale · norm(v) + shift)

A gate depends on one channel alone, so the map is read once and written once, each channel to its shuffled place.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass, choose
from foveate.kernels._layout import PAST_THE_CACHE, computed, small
from foveate.kernels._tiles import AT_ONCE, power_of_two, spread_further
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import backward_form

EPS = 1e-5


# ---- reference ------------------------------------------------------------------------------------------------------
def logits(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the first halves of the groups, (N, G, K, 1), and of the second ones, (N, G, K, P)."""
    width, scale, shift = scale.numel() // 2, scale.unsqueeze(1), shift.unsqueeze(1)
    u, v = x.flatten(2).unflatten(1, (-1, 2, width)).unbind(2)
    centred = v - v.mean(-1, keepdim=True)
    normed = centred * (centred.square().mean(-1, keepdim=True) + EPS).rsqrt()
    return scale[:width] * u.mean(-1, keepdim=True) + shift[:width], scale[width:] * normed + shift[width:]


def gates(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Of the first halves of the groups, (N, G, K, 1), and of the second ones, (N, G, K, P)."""
    channel, spatial = logits(x, scale, shift)
    return torch.sigmoid(channel).to(x.dtype), torch.sigmoid(spatial).to(x.dtype)


def gate_and_shuffle(x: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
    """x by its gates, and the halves of the channels interleaved."""
    u, v = x.flatten(2).unflatten(1, (-1, 2, channel.shape[2])).unbind(2)
    gated = torch.stack((u * channel, v * spatial), 2).flatten(1, 3)
    return gated.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).reshape(x.shape)


def reference(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return gate_and_shuffle(x, *gates(x, scale, shift))


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _gated_like(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[:2], dtype=computed(x.dtype))
    return torch.empty_like(x), mean, torch.empty_like(mean)


# The gated map, the means of the channels, and 1/√(variance + ε) of the normalised ones (0 for the others).
_gate = Pass("sa_gate(Tensor x, Tensor scale, Tensor shift) -> (Tensor, Tensor, Tensor)", _gated_like)


@_gate.form("cpu")
def _gate_cpu(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, inverse = _gated_like(x, scale, shift)
    n, channels = x.shape[:2]
    sizes = (scale.numel() // 2, n, channels, x[0, 0].numel(), y.nbytes >= PAST_THE_CACHE)
    call("sa_gate", x.dtype, x, scale, shift, y, mean, inverse, *sizes)
    return y, mean, inverse


def _back_like(
    x: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)


# Gradients of the map, and of scale and shift for each sample and channel (N, C).
_back = Pass(
    "sa_gate_gradient(Tensor x, Tensor dy, Tensor scale, Tensor shift, Tensor mean, Tensor inverse)"
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
    call("sa_gate_back", x.dtype, *given, n, channels, positions, dx.nbytes >= PAST_THE_CACHE)
    return dx, d_scale, d_shift


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _gate_kernel(
    x_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    shift_ptr: tl.tensor,
    y_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    inverse_ptr: tl.tensor,
    K: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    EPS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per channel, which it reads twice, from a cache if it fits."""
    row = tl.program_id(0).to(tl.int64)
    q, half, at = row % C, C // 2, tl.arange(0, BLOCK)
    scale, shift = tl.load(scale_ptr + q % (2 * K)), tl.load(shift_ptr + q % (2 * K))
    total, middle, spread = (
        tl.zeros((BLOCK,), tl.float32),
        tl.zeros((BLOCK,), tl.float32),
        tl.zeros((BLOCK,), tl.float32),
    )
    for start in range(0, P, BLOCK):
        v = tl.load(x_ptr + row * P + start + at, mask=start + at < P, other=0.0).to(tl.float32)
        total += v
        middle, spread = spread_further(v, start + at < P, middle, spread, start // BLOCK + 1)
    mean = tl.sum(total, 0) / P
    squares = spread + (P - at + BLOCK - 1) // BLOCK * (middle - mean) * (middle - mean)
    inverse = 1.0 / tl.sqrt(tl.sum(squares, 0) / P + EPS)
    whole, target = q % (2 * K) < K, row - q + 2 * (q % half) + q // half
    for start in range(0, P, BLOCK):
        v = tl.load(x_ptr + row * P + start + at, mask=start + at < P, other=0.0).to(tl.float32)
        logit = tl.where(whole, mean, (v - mean) * inverse) * scale + shift
        y = v * tl.sigmoid(logit)
        tl.store(y_ptr + target * P + start + at, y.to(y_ptr.dtype.element_ty), mask=start + at < P)
    tl.store(mean_ptr + row, mean)
    tl.store(inverse_ptr + row, tl.where(whole, 0.0, inverse))


@_gate.form("triton")
def _gate_triton(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, inverse = _gated_like(x, scale, shift)
    channels, positions = x.shape[1], x[0, 0].numel()
    given = (x, scale, shift, y, mean, inverse, scale.numel() // 2, channels, positions)
    _gate_kernel[(mean.numel(),)](*given, EPS=EPS, BLOCK=min(AT_ONCE, power_of_two(positions)))
    return y, mean, inverse


@triton.jit
def _back_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    shift_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    inverse_ptr: tl.tensor,
    dx_ptr: tl.tensor,
    d_scale_ptr: tl.tensor,
    d_shift_ptr: tl.tensor,
    K: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One program per channel: sums over the positions first, then the gradient of each."""
    row = tl.program_id(0).to(tl.int64)
    q, half, at = row % C, C // 2, tl.arange(0, BLOCK)
    scale, shift = tl.load(scale_ptr + q % (2 * K)), tl.load(shift_ptr + q % (2 * K))
    mean, inverse = tl.load(mean_ptr + row), tl.load(inverse_ptr + row)
    whole, source = q % (2 * K) < K, row - q + 2 * (q % half) + q // half
    sums, along_sums = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for start in range(0, P, BLOCK):
        inside = start + at < P
        v = tl.load(x_ptr + row * P + start + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + source * P + start + at, mask=inside, other=0.0).to(tl.float32)
        normed = tl.where(whole, mean, (v - mean) * inverse)
        gate = tl.sigmoid(normed * scale + shift)
        d_logit = tl.where(inside, v * dy * gate * (1.0 - gate), 0.0)
        sums += d_logit
        along_sums += tl.where(inside, d_logit * normed, 0.0)
    d_shift, d_scale = tl.sum(sums, 0), tl.sum(along_sums, 0)
    for start in range(0, P, BLOCK):
        inside = start + at < P
        v = tl.load(x_ptr + row * P + start + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + source * P + start + at, mask=inside, other=0.0).to(tl.float32)
        normed = tl.where(whole, mean, (v - mean) * inverse)
        gate = tl.sigmoid(normed * scale + shift)
        d_normed = v * dy * gate * (1.0 - gate) - d_shift / P - normed * d_scale / P
        dx = dy * gate + scale * tl.where(whole, d_shift / P, inverse * d_normed)
        tl.store(dx_ptr + row * P + start + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    tl.store(d_scale_ptr + row, d_scale)
    tl.store(d_shift_ptr + row, d_shift)


@_back.form("triton")
def _back_triton(
    x: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    dx, d_scale, d_shift = _back_like(x, dy, scale, shift, mean, inverse)
    channels, positions = x.shape[1], x[0, 0].numel()
    given = (x, dy, scale, shift, mean, inverse, dx, d_scale, d_shift, scale.numel() // 2, channels, positions)
    _back_kernel[(mean.numel(),)](*given, BLOCK=min(AT_ONCE, power_of_two(positions)))
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
def sa_gate(x: Tensor, scale: Tensor, shift: Tensor, *, impl: str | None = None) -> Tensor:
    """The gates of shuffle attention, and its shuffle, which interleaves the two halves of the channels.

    Args:
        x: (N, C, *S), floating, C a multiple of 2·K.
        scale, shift: (2·K,), for the K channels of each group gated as a whole, then for the K gated by position.
        impl: "reference", "cpu" or "triton". None: the fastest that can run on x.

    Returns: (N, C, *S), contiguous, in x's dtype.
    Raises: ValueError: sizes that do not match, an unknown impl. RuntimeError: the requested impl cannot run; gives the
        reason.
    """
    if scale.dim() != 1 or scale.shape != shift.shape or scale.numel() % 2 or x.shape[1] % max(scale.numel(), 2):
        raise ValueError(
            f"sa_gate: scale and shift must be (2·K,) with {x.shape[1]} channels a multiple of 2·K;"
            f" got {tuple(scale.shape)} and {tuple(shift.shape)}"
        )
    impl = choose("sa_gate", impl, x)
    if impl == "reference" or not _gate.has(impl) or torch.promote_types(x.dtype, scale.dtype) != x.dtype:
        return reference(x, scale, shift)
    return _Gate.apply(x.contiguous(), impl, small(scale, x), small(shift, x))
