"""Weighted sums of a map in Triton: over the channels at each position, and over the positions of each channel."""

import torch
from torch import Tensor

from foveate.kernels._tiles import tiles_of
from foveate.kernels._triton import tl, triton


@triton.jit
def _over_channels_kernel(
    x_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    out_ptr: tl.tensor,
    by_sample: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program a block of positions."""
    program, across = tl.program_id(0), tl.cdiv(P, BP)
    n = (program // across).to(tl.int64)
    p = (program % across * BP + tl.arange(0, BP)).to(tl.int64)
    total = tl.zeros((BC, BP), tl.float32)
    for start in range(0, C, BC):
        c = (start + tl.arange(0, BC)).to(tl.int64)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x_ptr + n * C * P + c[:, None] * by_c + p[None, :] * by_p, mask=inside, other=0.0).to(tl.float32)
        total += v * tl.load(weight_ptr + n * by_sample + c, mask=c < C, other=0.0)[:, None]
    tl.store(out_ptr + n * P + p, tl.sum(total, 0), mask=p < P)


def over_channels(x: Tensor, weights: Tensor) -> Tensor:
    """Σ_c x · weight, (N, P) in float32, of float32 weights (C,) or (N, C)."""
    t = tiles_of(x, kept="positions")
    out = x.new_empty(t.n, t.positions, dtype=torch.float32)
    by_sample = t.channels if weights.dim() == 2 else 0
    _over_channels_kernel[(t.n * t.across,)](x, weights, out, by_sample, *t[1:])
    return out


@triton.jit
def _over_positions_kernel(
    x_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    at_ptr: tl.tensor,
    hot_ptr: tl.tensor,
    out_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program a block of channels."""
    program, down = tl.program_id(0), tl.cdiv(C, BC)
    n = (program // down).to(tl.int64)
    c = (program % down * BC + tl.arange(0, BC)).to(tl.int64)
    total = tl.zeros((BC, BP), tl.float32)
    for start in range(0, P, BP):
        p = (start + tl.arange(0, BP)).to(tl.int64)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x_ptr + n * C * P + c[:, None] * by_c + p[None, :] * by_p, mask=inside, other=0.0).to(tl.float32)
        weight = tl.broadcast_to(tl.load(weight_ptr + n * P + p, mask=p < P, other=0.0)[None, :], (BC, BP))
        if at_ptr is not None:
            here = tl.load(at_ptr + n * P + p, mask=p < P, other=-1)[None, :] == c[:, None]
            weight = weight + tl.where(here, tl.load(hot_ptr + n * P + p, mask=p < P, other=0.0)[None, :], 0.0)
        total += v * weight
    tl.store(out_ptr + n * C + c, tl.sum(total, 1), mask=c < C)


def over_positions(x: Tensor, weights: Tensor, at: Tensor | None = None, hot: Tensor | None = None) -> Tensor:
    """Σ_p x · (weight + hot where `at` is the channel), (N, C) in float32, of float32 weights and hot (N, P)."""
    t = tiles_of(x, kept="channels")
    out = x.new_empty(t.n, t.channels, dtype=torch.float32)
    _over_positions_kernel[(t.n * t.down,)](x, weights, at, hot, out, *t[1:])
    return out
