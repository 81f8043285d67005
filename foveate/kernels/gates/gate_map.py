"""y = act(x · channel · position + added + residual) in one read of each map and one write.

The gradients of the gates come from one read of x and dy, that of the map from its accumulator, and that of the ReLU
from the sign of y; the gradient behind the ReLU is also that of the residual.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import PAST_THE_CACHE, computed, like, memory_layout, segments_of, small
from foveate.kernels._tiles import segments_of_all, tiles_of, warps
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import AccumulatedMap, accumulate_gradient, backward_form


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(
    x: Tensor,
    channel: Tensor | None,
    position: Tensor | None,
    added: Tensor | None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    ones = (1,) * (x.dim() - 2)
    if channel is not None:
        x = x * channel.reshape(*channel.shape, *ones)
    if position is not None:
        x = x * position.unsqueeze(1)
    if added is not None:
        x = x + added.reshape(*added.shape, *ones)
    if residual is not None:
        x = x + residual
    return torch.relu(x) if relu else x


# ---- cpu ------------------------------------------------------------------------------------------------------------
_gate = Pass(
    "gate_map(Tensor x, Tensor? channel, Tensor? position, Tensor? added, Tensor? residual=None, bool relu=False)"
    " -> Tensor",
    lambda x, *_: torch.empty_like(x),
)


@_gate.form("cpu")
def _gate_cpu(
    x: Tensor,
    channel: Tensor | None,
    position: Tensor | None,
    added: Tensor | None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    n, rows, columns, last = memory_layout(x)
    y = torch.empty_like(x)
    joined = residual is not None or relu
    alone = position is None and added is None and not joined
    if channel is not None and alone and not last and channel.dtype == x.dtype and y.nbytes < PAST_THE_CACHE:
        # With one factor and a small map torch's own product starts faster.
        return torch.mul(x, channel.reshape(*channel.shape, *(1,) * (x.dim() - 2)), out=y)
    given = (position, channel, None, added) if last else (channel, position, added, None)
    sizes = (n, rows, columns, y.nbytes >= PAST_THE_CACHE)
    if joined:
        call("join", x.dtype, x, *given, residual, y, relu, *sizes)
    else:
        call("scale", x.dtype, x, *given, y, *sizes)
    return y


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _gate_kernel(
    x_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    position_ptr: tl.tensor,
    added_ptr: tl.tensor,
    residual_ptr: tl.tensor,
    y_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """One program per tile."""
    tile, down, across = tl.program_id(0), tl.cdiv(C, BC), tl.cdiv(P, BP)
    n = (tile // (down * across)).to(tl.int64)
    c = (tile // across % down * BC + tl.arange(0, BC)).to(tl.int64)
    p = (tile % across * BP + tl.arange(0, BP)).to(tl.int64)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
    v = tl.load(x_ptr + at, mask=inside).to(tl.float32)
    if channel_ptr is not None:
        v = v * tl.load(channel_ptr + n * C + c, mask=c < C)[:, None]
    if position_ptr is not None:
        v = v * tl.load(position_ptr + n * P + p, mask=p < P)[None, :]
    if added_ptr is not None:
        v = v + tl.load(added_ptr + n * C + c, mask=c < C)[:, None]
    if residual_ptr is not None:
        v = v + tl.load(residual_ptr + at, mask=inside).to(tl.float32)
    if RELU:
        v = tl.where(v <= 0, 0.0, v)
    tl.store(y_ptr + at, v.to(y_ptr.dtype.element_ty), mask=inside)


@_gate.form("triton")
def _gate_triton(
    x: Tensor,
    channel: Tensor | None,
    position: Tensor | None,
    added: Tensor | None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    y, t = torch.empty_like(x), tiles_of(x)
    _gate_kernel[(t.n * t.down * t.across,)](x, channel, position, added, residual, y, *t[1:], relu)
    return y


# ---- gradients of the gates: sums of x · dy over positions and over channels, in one read of both -------------------
def _gate_gradients_like(
    x: Tensor, dy: Tensor, channel: Tensor | None, position: Tensor | None, wants: list[bool]
) -> list[Tensor]:
    of_channel, of_position = x.shape[:2], (x.shape[0], x[0, 0].numel())
    return [x.new_empty(shape, dtype=computed(x.dtype)) for shape in (of_channel, of_position, of_channel)]


# Gradients of channel (N, C), position (N, P) and added (N, C); those with wants = False are left empty.
_gate_gradients = Pass(
    "gate_gradients(Tensor x, Tensor dy, Tensor? channel, Tensor? position, bool[] wants) -> Tensor[]",
    _gate_gradients_like,
)


@_gate_gradients.form("cpu")
def _gate_gradients_cpu(
    x: Tensor, dy: Tensor, channel: Tensor | None, position: Tensor | None, wants: list[bool]
) -> list[Tensor]:
    n, rows, columns, last = memory_layout(x)
    sums = _gate_gradients_like(x, dy, channel, position, wants)
    wanted = [tensor if want else None for tensor, want in zip(sums, wants, strict=True)]
    by_column = [wanted[0], wanted[2]] if last else [wanted[1], None]
    by_row = [wanted[1], None] if last else [wanted[0], wanted[2]]
    segments = segments_of(n, rows)
    parts = [None if t is None else t.new_empty(n, segments, columns) for t in by_column]
    factors = (position, channel) if last else (channel, position)
    scratch = x.new_empty(2 * torch.get_num_threads(), columns, dtype=computed(x.dtype))
    call(
        "products",
        x.dtype,
        x,
        dy,
        *factors,
        by_row[0],
        parts[0],
        by_row[1],
        parts[1],
        scratch,
        segments,
        n,
        rows,
        columns,
    )
    for part, whole in zip(parts, by_column, strict=True):
        if part is not None and whole is not None:
            torch.sum(part, 1, out=whole)
    return sums


@triton.jit
def _gate_gradients_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    position_ptr: tl.tensor,
    d_channel_ptr: tl.tensor,
    d_position_ptr: tl.tensor,
    d_added_ptr: tl.tensor,
    segments: tl.tensor,
    length: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per block of channels and segment of positions: partial sums (N, segments, C) over the positions.

    Sums over channels are complete; for these the block must have all channels.
    """
    program, down = tl.program_id(0).to(tl.int64), tl.cdiv(C, BC)
    n, segment = program // (down * segments), program % segments
    c = program // segments % down * BC + tl.arange(0, BC)
    first = segment * length
    end = tl.minimum(first + length, P)
    channel = tl.full((BC,), 1.0, tl.float32)
    if channel_ptr is not None:
        channel = tl.load(channel_ptr + n * C + c, mask=c < C, other=0.0)
    of_channel, of_dy = tl.zeros((BC, BP), tl.float32), tl.zeros((BC, BP), tl.float32)
    for start in range(first, end, BP):
        p = start + tl.arange(0, BP)
        inside = (c < C)[:, None] & (p < end)[None, :]
        at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        of_dy += dy
        product = dy * tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if d_position_ptr is not None:
            tl.store(d_position_ptr + n * P + p, tl.sum(product * channel[:, None], 0), mask=p < end)
        if position_ptr is not None:
            product = product * tl.load(position_ptr + n * P + p, mask=p < end, other=0.0)[None, :]
        of_channel += product
    part = (n * segments + segment) * C + c
    if d_channel_ptr is not None:
        tl.store(d_channel_ptr + part, tl.sum(of_channel, 1), mask=c < C)
    if d_added_ptr is not None:
        tl.store(d_added_ptr + part, tl.sum(of_dy, 1), mask=c < C)


@_gate_gradients.form("triton")
def _gate_gradients_triton(
    x: Tensor, dy: Tensor, channel: Tensor | None, position: Tensor | None, wants: list[bool]
) -> list[Tensor]:
    if all(wants):  # in one kernel, the compiler of Triton 3.9 crashes on some channels-last maps
        *first, _ = _gate_gradients_triton(x, dy, channel, position, [True, True, False])
        return [*first, _gate_gradients_triton(x, dy, None, None, [False, False, True])[2]]
    sums = _gate_gradients_like(x, dy, channel, position, wants)
    d_channel, d_position, d_added = (tensor if want else None for tensor, want in zip(sums, wants, strict=True))
    n, channels, positions, *by, block_channels, block_positions = tiles_of(x, kept="channels")
    segments, length, *blocks = 1, positions, block_channels, block_positions
    if d_position is not None:
        segments, length, *blocks = segments_of_all(n, channels, positions)
    wholes = (d_channel, d_added)
    parts = [None if t is None else t if segments == 1 else t.new_empty(n, segments, channels) for t in wholes]
    given = (x, dy, channel, position, parts[0], d_position, parts[1], segments, length, channels, positions)
    grid = (n * -(-channels // blocks[0]) * segments,)
    _gate_gradients_kernel[grid](*given, *by, *blocks, num_warps=warps(math.prod(blocks)))
    for part, whole in zip(parts, wholes, strict=True):
        if part is not None and part is not whole:
            torch.sum(part, 1, out=whole)
    return sums


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Gate(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        anchor: Tensor | None,
        accumulated: AccumulatedMap,
        channel: Tensor | None,
        position: Tensor | None,
        added: Tensor | None,
        residual: Tensor | None,
        relu: bool,
    ) -> Tensor:
        ctx.impl, ctx.accumulator = accumulated.impl, accumulated.accumulator
        y = _gate(accumulated.impl, x, channel, position, added, residual, relu)
        ctx.save_for_backward(x, channel, position, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dy,) = given
        x, channel, position, y = ctx.saved_tensors
        _, of_anchor, _, *wants, of_residual, _ = ctx.needs_input_grad
        impl = backward_form(ctx.impl, dy)
        if y is not None:
            dy = dy.masked_fill(y <= 0, 0) if impl == "reference" else torch.ops.aten.threshold_backward(dy, y, 0)
        if impl == "reference":
            by = (x * dy).reshape(*x.shape[:2], -1)
            d_channel = (by if position is None else by * position.unsqueeze(1)).sum(2)
            d_position = (by if channel is None else by * channel.unsqueeze(2)).sum(1)
            sums = [d_channel, d_position, dy.reshape(by.shape).sum(2)]
        elif any(wants):
            dy = like(dy, x)
            sums = _gate_gradients(impl, x, dy, channel, position, wants)
        if of_anchor:
            ctx.accumulator.terms().scaled.append((dy, channel, position))
        gradients = [sums[k] if want else None for k, want in enumerate(wants)]
        done = dy.new_zeros(()) if of_anchor else None
        return None, done, None, *gradients, dy if of_residual else None, None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def gate_map(
    x: Tensor | AccumulatedMap,
    *,
    channel: Tensor | None = None,
    position: Tensor | None = None,
    added: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str | None = None,
    impl: str | None = None,
) -> Tensor:
    """Multiply the map by its gates, add a bias to each channel and a residual map, and apply an activation.

    Args:
        x: (N, C, *S), floating, or a map from `accumulate_gradient`.
        channel: (N, C), a factor for each channel.
        position: (N, *S), a factor for each position.
        added: (N, C), added to each channel after the factors.
        residual: a map of the same shape, added after that.
        activation: "relu" or None.
        impl: see `accumulate_gradient`.

    Returns: (N, C, *S), of the dtype that torch's promotion gives.
    Raises: ValueError: a gate or residual of another shape, an unknown activation; as `accumulate_gradient`.
    """
    if activation not in (None, "relu"):
        raise ValueError(f"gate_map: activation must be 'relu' or None; got {activation!r}")
    relu = activation == "relu"
    accumulated = accumulate_gradient(x, primitive="gate_map", impl=impl)
    x = accumulated.tensor
    sizes = x.shape[:2], (x.shape[0], *x.shape[2:]), x.shape[:2], x.shape
    given = {"channel": channel, "position": position, "added": added, "residual": residual}
    for (name, value), wanted in zip(given.items(), sizes, strict=True):
        if value is not None and value.shape != wanted:
            raise ValueError(f"gate_map: {name} must be {tuple(wanted)}; got {tuple(value.shape)}")
    gates = [value for value in given.values() if value is not None]
    if not gates and not relu:
        return x
    wider = any(torch.promote_types(x.dtype, value.dtype) != x.dtype for value in gates)
    if accumulated.impl == "reference" or not _gate.has(accumulated.impl) or wider:
        return reference(x, channel, position, added, residual, relu)
    channel, position, added = small(channel, x), small(position, x), small(added, x)
    position = None if position is None else position.flatten(1)
    residual = None if residual is None else like(residual.to(x.dtype), x)
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in (x, *gates)):
        return _gate(accumulated.impl, x, channel, position, added, residual, relu)
    return _Gate.apply(x, accumulated.anchor, accumulated, channel, position, added, residual, relu)
