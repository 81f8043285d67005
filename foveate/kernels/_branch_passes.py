"""Passes over M maps of one shape, laid alike, with weights (M, N, C) in the dtype that the maps are computed in."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import PAST_THE_CACHE, computed, layout_of, run, segments_of
from foveate.kernels._tiles import tiles_of
from foveate.kernels._triton import tl, triton

# The mean of Σ_m x_m over the positions, (N, C).
pool = Pass(
    "branch_means(Tensor[] maps) -> Tensor",
    lambda maps: maps[0].new_empty(maps[0].shape[:2], dtype=computed(maps[0].dtype)),
)
# y = Σ_m x_m · weight_m.
mix = Pass("mix_branches(Tensor[] maps, Tensor weights) -> Tensor", lambda maps, weights: torch.empty_like(maps[0]))
# The gradients of the weights.
products = Pass(
    "branch_products(Tensor[] maps, Tensor dy) -> Tensor",
    lambda maps, dy: dy.new_empty(len(maps), *dy.shape[:2], dtype=computed(dy.dtype)),
)
# The gradients of the maps: dy · weight_m + added, a number (N, C) for each channel.
gradients = Pass(
    "branch_gradients(Tensor dy, Tensor weights, Tensor? added) -> Tensor[]",
    lambda dy, weights, added: [torch.empty_like(dy) for _ in weights],
)


def _addresses(maps: Sequence[Tensor]) -> Any:
    return (ctypes.c_int64 * len(maps))(*[x.data_ptr() for x in maps])


@pool.form("cpu")
def _pool_cpu(maps: Sequence[Tensor]) -> Tensor:
    x, given = maps[0], _addresses(maps)
    n, rows, columns, last = layout_of(x)
    means = x.new_empty(x.shape[:2], dtype=computed(x.dtype))
    targets = (None, means) if last else (means, None)
    run("branch_sums", x, ctypes.addressof(given), *targets, len(maps), n, rows, columns)
    return means.div_(rows if last else columns)


@mix.form("cpu")
def _mix_cpu(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    x, y, given = maps[0], torch.empty_like(maps[0]), _addresses(maps)
    n, rows, columns, last = layout_of(x)
    factors = (None, weights) if last else (weights, None)
    sizes = (len(maps), n, rows, columns, y.nbytes >= PAST_THE_CACHE)
    run("mix_branches", x, ctypes.addressof(given), *factors, y, *sizes)
    return y


@products.form("cpu")
def _products_cpu(maps: Sequence[Tensor], dy: Tensor) -> Tensor:
    given, (n, rows, columns, last) = _addresses(maps), layout_of(dy)
    segments = segments_of(n, rows) if last else 1
    shape = (len(maps), n, segments, columns) if last else (len(maps), n, rows)
    sums = dy.new_empty(shape, dtype=computed(dy.dtype))
    targets = (None, sums) if last else (sums, None)
    run("branch_products", dy, ctypes.addressof(given), dy, *targets, segments, len(maps), n, rows, columns)
    return sums.sum(2) if last else sums


@gradients.form("cpu")
def _gradients_cpu(dy: Tensor, weights: Tensor, added: Tensor | None) -> list[Tensor]:
    dx = [torch.empty_like(dy) for _ in weights]
    given, (n, rows, columns, last) = _addresses(dx), layout_of(dy)
    factors = (None, weights, None, added) if last else (weights, None, added, None)
    sizes = (len(dx), n, rows, columns, dy.nbytes >= PAST_THE_CACHE)
    run("branch_gradients", dy, dy, *factors, ctypes.addressof(given), *sizes)
    return dx


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _pool_kernel(
    maps: tl.tensor,
    mean_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
    M: tl.constexpr,
) -> None:
    """One program a block of channels."""
    program, down = tl.program_id(0), tl.cdiv(C, BC)
    n = (program // down).to(tl.int64)
    c = (program % down * BC + tl.arange(0, BC)).to(tl.int64)
    total = tl.zeros((BC, BP), tl.float32)
    for start in range(0, P, BP):
        p = (start + tl.arange(0, BP)).to(tl.int64)
        inside = (c < C)[:, None] & (p < P)[None, :]
        at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
        for m in tl.static_range(M):
            total += tl.load(maps[m] + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(mean_ptr + n * C + c, tl.sum(total, 1) / P, mask=c < C)


@pool.form("triton")
def _pool_triton(maps: Sequence[Tensor]) -> Tensor:
    x, t = maps[0], tiles_of(maps[0], kept="channels")
    means = x.new_empty(x.shape[:2], dtype=torch.float32)
    _pool_kernel[(t.n * t.down,)](tuple(maps), means, *t[1:], len(maps))
    return means


@triton.jit
def _mix_kernel(
    maps: tl.tensor,
    weight_ptr: tl.tensor,
    y_ptr: tl.tensor,
    N: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
    M: tl.constexpr,
) -> None:
    """One program a tile."""
    tile, down, across = tl.program_id(0), tl.cdiv(C, BC), tl.cdiv(P, BP)
    n = (tile // (down * across)).to(tl.int64)
    c = (tile // across % down * BC + tl.arange(0, BC)).to(tl.int64)
    p = (tile % across * BP + tl.arange(0, BP)).to(tl.int64)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
    total = tl.zeros((BC, BP), tl.float32)
    for m in tl.static_range(M):
        weight = tl.load(weight_ptr + (m * N + n) * C + c, mask=c < C, other=0.0)
        total += tl.load(maps[m] + at, mask=inside, other=0.0).to(tl.float32) * weight[:, None]
    tl.store(y_ptr + at, total.to(y_ptr.dtype.element_ty), mask=inside)


@mix.form("triton")
def _mix_triton(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    y, t = torch.empty_like(maps[0]), tiles_of(maps[0])
    _mix_kernel[(t.n * t.down * t.across,)](tuple(maps), weights, y, *t, len(maps))
    return y


@triton.jit
def _products_kernel(
    maps: tl.tensor,
    dy_ptr: tl.tensor,
    sum_ptr: tl.tensor,
    N: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
    M: tl.constexpr,
) -> None:
    """One program a block of channels; dy is read from the cache but for the first map."""
    program, down = tl.program_id(0), tl.cdiv(C, BC)
    n = (program // down).to(tl.int64)
    c = (program % down * BC + tl.arange(0, BC)).to(tl.int64)
    for m in tl.static_range(M):
        total = tl.zeros((BC, BP), tl.float32)
        for start in range(0, P, BP):
            p = (start + tl.arange(0, BP)).to(tl.int64)
            inside = (c < C)[:, None] & (p < P)[None, :]
            at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
            dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
            total += dy * tl.load(maps[m] + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(sum_ptr + (m * N + n) * C + c, tl.sum(total, 1), mask=c < C)


@products.form("triton")
def _products_triton(maps: Sequence[Tensor], dy: Tensor) -> Tensor:
    sums, t = dy.new_empty(len(maps), *dy.shape[:2], dtype=torch.float32), tiles_of(dy, kept="channels")
    _products_kernel[(t.n * t.down,)](tuple(maps), dy, sums, *t, len(maps))
    return sums


@triton.jit
def _gradients_kernel(
    dy_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    added_ptr: tl.tensor,
    maps: tl.tensor,
    N: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
    M: tl.constexpr,
) -> None:
    """One program a tile."""
    tile, down, across = tl.program_id(0), tl.cdiv(C, BC), tl.cdiv(P, BP)
    n = (tile // (down * across)).to(tl.int64)
    c = (tile // across % down * BC + tl.arange(0, BC)).to(tl.int64)
    p = (tile % across * BP + tl.arange(0, BP)).to(tl.int64)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
    dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
    for m in tl.static_range(M):
        v = dy * tl.load(weight_ptr + (m * N + n) * C + c, mask=c < C, other=0.0)[:, None]
        if added_ptr is not None:
            v = v + tl.load(added_ptr + n * C + c, mask=c < C, other=0.0)[:, None]
        tl.store(maps[m] + at, v.to(dy_ptr.dtype.element_ty), mask=inside)


@gradients.form("triton")
def _gradients_triton(dy: Tensor, weights: Tensor, added: Tensor | None) -> list[Tensor]:
    dx, t = [torch.empty_like(dy) for _ in weights], tiles_of(dy)
    _gradients_kernel[(t.n * t.down * t.across,)](dy, weights, added, tuple(dx), *t, len(dx))
    return dx
