"""The gate of spatial group-wise enhancement: each position of a group of channels by its similarity to the mean.

    t = Σ_c mean(x_c) · x_c;  y = x · σ(scale · (t − mean t) / (deviation t + ε) + shift)

A gate depends on one group of channels alone, so the map is read from memory once and written once.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass, choose
from foveate.kernels._layout import PAST_THE_CACHE, computed, small
from foveate.kernels._tiles import AT_ONCE, power_of_two, warps
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import backward_form

EPS = 1e-5
KEPT = 8192  # values of a group that a Triton program can keep in registers


# ---- reference ------------------------------------------------------------------------------------------------------
def logits(x: Tensor, scale: Tensor, shift: Tensor, unbiased: bool) -> Tensor:
    """Those of every group and position, (N, G, P), in float32 at least, as t is quadratic in x."""
    grouped = x.to(computed(x.dtype)).flatten(2).unflatten(1, (scale.numel(), -1))
    similarity = (grouped * grouped.mean(-1, keepdim=True)).sum(2)
    centred = similarity - similarity.mean(-1, keepdim=True)
    deviation = centred.std(-1, correction=int(unbiased and similarity.shape[-1] > 1), keepdim=True)
    return centred / (deviation + EPS) * scale.unsqueeze(-1) + shift.unsqueeze(-1)


def gates(x: Tensor, scale: Tensor, shift: Tensor, unbiased: bool) -> Tensor:
    """The gate of every group and position, (N, G, P)."""
    return torch.sigmoid(logits(x, scale, shift, unbiased)).to(x.dtype)


def reference(x: Tensor, scale: Tensor, shift: Tensor, unbiased: bool) -> Tensor:
    wide = x.to(computed(x.dtype))  # so is the product: the gradient of a gate is a sum of products with x
    grouped = wide.flatten(2).unflatten(1, (scale.numel(), -1))
    return (grouped * gates(wide, scale, shift, unbiased).unsqueeze(2)).reshape(x.shape).to(x.dtype)


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _gated_like(x: Tensor, scale: Tensor, shift: Tensor, unbiased: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[:2], dtype=computed(x.dtype))
    middle = mean.new_empty(x.shape[0], scale.numel())
    return torch.empty_like(x), mean, middle, torch.empty_like(middle)


# The gated map, the means of the channels, and the mean and deviation of t in each group.
_gate = Pass(
    "sge_gate(Tensor x, Tensor scale, Tensor shift, bool unbiased) -> (Tensor, Tensor, Tensor, Tensor)",
    _gated_like,
)


def _sizes(x: Tensor, groups: int, unbiased: bool) -> tuple[int, ...]:
    n, channels, positions = *x.shape[:2], x[0, 0].numel()
    count = positions - 1 if unbiased and positions > 1 else positions
    return count, channels // groups, n, groups, positions, x.nbytes >= PAST_THE_CACHE


@_gate.form("cpu")
def _gate_cpu(x: Tensor, scale: Tensor, shift: Tensor, unbiased: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, mean, middle, deviation = _gated_like(x, scale, shift, unbiased)
    scratch = mean.new_empty(torch.get_num_threads(), x[0, 0].numel())
    sizes = _sizes(x, scale.numel(), unbiased)
    call("sge_gate", x.dtype, x, scale, shift, y, mean, middle, deviation, scratch, *sizes)
    return y, mean, middle, deviation


def _back_like(
    x: Tensor,
    dy: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    middle: Tensor,
    deviation: Tensor,
    unbiased: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(middle), torch.empty_like(middle)


# Gradients of the map, and of scale and shift for each sample (N, G).
_back = Pass(
    "sge_gate_gradient(Tensor x, Tensor dy, Tensor scale, Tensor shift, Tensor mean, Tensor middle,"
    " Tensor deviation, bool unbiased) -> (Tensor, Tensor, Tensor)",
    _back_like,
)


@_back.form("cpu")
def _back_cpu(
    x: Tensor,
    dy: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    middle: Tensor,
    deviation: Tensor,
    unbiased: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dx, d_scale, d_shift = _back_like(x, dy, scale, shift, mean, middle, deviation, unbiased)
    scratch = mean.new_empty(3 * torch.get_num_threads(), x[0, 0].numel())
    given = (x, dy, scale, shift, mean, middle, deviation, dx, d_shift, d_scale, scratch)
    call("sge_gate_back", x.dtype, *given, *_sizes(x, scale.numel(), unbiased))
    return dx, d_scale, d_shift


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _gate_kernel(
    x_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    shift_ptr: tl.tensor,
    y_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    middle_ptr: tl.tensor,
    deviation_ptr: tl.tensor,
    count: tl.tensor,
    K: tl.tensor,
    G: tl.tensor,
    P: tl.tensor,
    EPS: tl.constexpr,
    BK: tl.constexpr,
    BP: tl.constexpr,
    WHOLE: tl.constexpr,
) -> None:
    """One program per group, with all its channels, read once if WHOLE; the mean of t is Σ_c mean(x_c)²."""
    group = tl.program_id(0).to(tl.int64)
    k, at = tl.arange(0, BK), tl.arange(0, BP)
    rows = x_ptr + (group * K + k[:, None]) * P
    total, v = tl.zeros((BK, BP), tl.float32), tl.zeros((BK, BP), tl.float32)
    for start in range(0, P, BP):
        p = start + at[None, :]
        v = tl.load(rows + p, mask=(k[:, None] < K) & (p < P), other=0.0).to(tl.float32)
        total += v
    mean = tl.sum(total, 1) / P
    middle = tl.sum(mean * mean, 0)
    squares = tl.zeros((BP,), tl.float32)
    for start in range(0, P, BP):
        p = start + at[None, :]
        if not WHOLE:
            v = tl.load(rows + p, mask=(k[:, None] < K) & (p < P), other=0.0).to(tl.float32)
        away = tl.sum(v * mean[:, None], 0) - middle
        squares += tl.where(start + at < P, away * away, 0.0)
    deviation = tl.sqrt(tl.sum(squares, 0) / count)
    slope, shift = tl.load(scale_ptr + group % G) / (deviation + EPS), tl.load(shift_ptr + group % G)
    for start in range(0, P, BP):
        p = start + at[None, :]
        if not WHOLE:
            v = tl.load(rows + p, mask=(k[:, None] < K) & (p < P), other=0.0).to(tl.float32)
        gate = tl.sigmoid((tl.sum(v * mean[:, None], 0) - middle) * slope + shift)
        y = (v * gate[None, :]).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + (group * K + k[:, None]) * P + p, y, mask=(k[:, None] < K) & (p < P))
    tl.store(mean_ptr + group * K + k, mean, mask=k < K)
    tl.store(middle_ptr + group, middle)
    tl.store(deviation_ptr + group, deviation)


def _blocks(width: int, positions: int, kept: int = AT_ONCE) -> tuple[int, int]:
    """Sizes of a tile: the whole group if its width ≤ its length and it has ≤ `kept` values, else AT_ONCE values."""
    wide, long = power_of_two(width), power_of_two(positions)
    return wide, long if wide * long <= (kept if wide <= long else AT_ONCE) else max(AT_ONCE // wide, 1)


@_gate.form("triton")
def _gate_triton(x: Tensor, scale: Tensor, shift: Tensor, unbiased: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, mean, middle, deviation = _gated_like(x, scale, shift, unbiased)
    count, width, n, groups, positions, _ = _sizes(x, scale.numel(), unbiased)
    given = (x, scale, shift, y, mean, middle, deviation, count, width, groups, positions)
    blocks = _blocks(width, positions, KEPT)
    _gate_kernel[(n * groups,)](*given, EPS, *blocks, blocks[1] >= positions, num_warps=warps(math.prod(blocks)))
    return y, mean, middle, deviation


@triton.jit
def _back_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    shift_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    middle_ptr: tl.tensor,
    deviation_ptr: tl.tensor,
    dx_ptr: tl.tensor,
    d_scale_ptr: tl.tensor,
    d_shift_ptr: tl.tensor,
    count: tl.tensor,
    K: tl.tensor,
    G: tl.tensor,
    P: tl.tensor,
    EPS: tl.constexpr,
    BK: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per group: sums over the positions first, then the gradient of each."""
    group = tl.program_id(0).to(tl.int64)
    k, at = tl.arange(0, BK), tl.arange(0, BP)
    places = (group * K + k[:, None]) * P
    mean = tl.load(mean_ptr + group * K + k, mask=k < K, other=0.0)
    middle, deviation = tl.load(middle_ptr + group), tl.load(deviation_ptr + group)
    scale, shift, size = tl.load(scale_ptr + group % G), tl.load(shift_ptr + group % G), deviation + EPS
    sums, along_sums = tl.zeros((BP,), tl.float32), tl.zeros((BP,), tl.float32)
    with_logit, with_normed = tl.zeros((BK, BP), tl.float32), tl.zeros((BK, BP), tl.float32)
    for start in range(0, P, BP):
        p = start + at[None, :]
        inside = (k[:, None] < K) & (p < P)
        v = tl.load(x_ptr + places + p, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + places + p, mask=inside, other=0.0).to(tl.float32)
        normed = tl.where(start + at < P, (tl.sum(v * mean[:, None], 0) - middle) / size, 0.0)
        gate = tl.sigmoid(normed * scale + shift)
        d_logit = tl.sum(v * dy, 0) * gate * (1.0 - gate)
        sums += d_logit
        along_sums += d_logit * normed
        with_logit += (v - mean[:, None]) * d_logit[None, :]
        with_normed += (v - mean[:, None]) * normed[None, :]
    d_shift, d_scale = tl.sum(sums, 0), tl.sum(along_sums, 0)
    # The logits depend on t directly, through its mean and through its deviation (without gradient where that is 0).
    # The gradient of t sums to 0, so weighted by it the sums over x and over x - mean are equal.
    flat = deviation == 0.0
    along = tl.where(flat, 0.0, d_scale / count * size / tl.where(flat, 1.0, deviation))
    added = scale / size * (tl.sum(with_logit, 1) - along * tl.sum(with_normed, 1)) / P
    for start in range(0, P, BP):
        p = start + at[None, :]
        inside = (k[:, None] < K) & (p < P)
        v = tl.load(x_ptr + places + p, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + places + p, mask=inside, other=0.0).to(tl.float32)
        normed = (tl.sum(v * mean[:, None], 0) - middle) / size
        gate = tl.sigmoid(normed * scale + shift)
        d_logit = tl.sum(v * dy, 0) * gate * (1.0 - gate)
        d_t = scale / size * (d_logit - d_shift / P - normed * along)
        dx = dy * gate[None, :] + mean[:, None] * d_t[None, :] + added[:, None]
        tl.store(dx_ptr + places + p, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    tl.store(d_scale_ptr + group, d_scale)
    tl.store(d_shift_ptr + group, d_shift)


@_back.form("triton")
def _back_triton(
    x: Tensor,
    dy: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    middle: Tensor,
    deviation: Tensor,
    unbiased: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dx, d_scale, d_shift = _back_like(x, dy, scale, shift, mean, middle, deviation, unbiased)
    count, width, n, groups, positions, _ = _sizes(x, scale.numel(), unbiased)
    given = (x, dy, scale, shift, mean, middle, deviation, dx, d_scale, d_shift, count, width, groups, positions)
    blocks = _blocks(width, positions)
    _back_kernel[(n * groups,)](*given, EPS, *blocks, num_warps=warps(math.prod(blocks)))
    return dx, d_scale, d_shift


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, impl: str, scale: Tensor, shift: Tensor, unbiased: bool) -> Tensor:
        y, *kept = _gate(impl, x, scale, shift, unbiased)
        ctx.impl, ctx.unbiased = impl, unbiased
        ctx.save_for_backward(x, scale, shift, *kept)
        return y

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, scale, shift, *kept = ctx.saved_tensors
        if backward_form(ctx.impl, *given) == "reference":
            with torch.enable_grad():
                inputs = [t if t.requires_grad else t.detach().requires_grad_() for t in (x, scale, shift)]
                y = reference(inputs[0], inputs[1], inputs[2], ctx.unbiased)
                dx, d_scale, d_shift = torch.autograd.grad(y, inputs, given, create_graph=True)
            return dx, None, d_scale, d_shift, None
        dx, d_scale, d_shift = _back(ctx.impl, x, given[0].contiguous(), scale, shift, *kept, ctx.unbiased)
        return dx, None, d_scale.sum(0), d_shift.sum(0), None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def sge_gate(x: Tensor, scale: Tensor, shift: Tensor, *, unbiased: bool = True, impl: str | None = None) -> Tensor:
    """Gate the positions of each group of channels by their similarity to the mean of the group.

    Args:
        x: (N, C, *S), floating, C a multiple of G.
        scale, shift: (G,), of the logits of each group.
        unbiased: divide by positions − 1 in the deviation (by 1 for one position).
        impl: "reference", "cpu" or "triton". None: the fastest that can run on x.

    Returns: (N, C, *S), contiguous, in x's dtype.
    Raises: ValueError: sizes that do not match, an unknown impl. RuntimeError: the requested impl cannot run; gives the
        reason.
    """
    if scale.dim() != 1 or scale.shape != shift.shape or x.shape[1] % max(scale.numel(), 1):
        raise ValueError(
            f"sge_gate: scale and shift must be (G,) with {x.shape[1]} channels a multiple of G;"
            f" got {tuple(scale.shape)} and {tuple(shift.shape)}"
        )
    impl = choose("sge_gate", impl, x)
    if impl == "reference" or not _gate.has(impl) or torch.promote_types(x.dtype, scale.dtype) != x.dtype:
        return reference(x, scale, shift, unbiased)
    return _Gate.apply(x.contiguous(), impl, small(scale, x), small(shift, x), unbiased)
