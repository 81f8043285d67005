"""Branches of selective kernels, maps of one shape: the mean of their sum, and their sum weighted by channel.

    pool_branches: mean over positions of Σ_m x_m          mix_branches: y = Σ_m w_m · x_m

Both read the maps without an intermediate map. As in gradient/accumulator.py, both add their part of the gradient to
an accumulator, and one node computes all dx_m = dy · w_m + (the gradient of the mean) / positions in one read of dy.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass, choose
from foveate.kernels._layout import PAST_THE_CACHE, computed, dense, like, memory_layout, segments_of, small
from foveate.kernels._tiles import tiles_of
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import GradientAccumulator, backward_form

SMALL = 512 << 10  # bytes; for smaller maps on a CPU plain torch is faster than starting the passes


# ---- reference ------------------------------------------------------------------------------------------------------
def pool_reference(maps: Sequence[Tensor]) -> Tensor:
    total = maps[0]
    for x in maps[1:]:
        total = total + x
    return total.mean(tuple(range(2, total.dim())))


def mix_reference(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    ones = (1,) * (maps[0].dim() - 2)
    factors = [weight.reshape(*weight.shape, *ones) for weight in weights.unbind(1)]
    y = maps[0] * factors[0]
    for x, factor in zip(maps[1:], factors[1:], strict=True):
        y = y + x * factor
    return y


# ---- cpu ------------------------------------------------------------------------------------------------------------
# Passes over M maps of one shape and memory layout, with weights (M, N, C) in the dtype of the computation.

# The mean of Σ_m x_m over the positions, (N, C).
_pool = Pass(
    "branch_means(Tensor[] maps) -> Tensor",
    lambda maps: maps[0].new_empty(maps[0].shape[:2], dtype=computed(maps[0].dtype)),
)
# y = Σ_m x_m · weight_m.
_mix = Pass("mix_branches(Tensor[] maps, Tensor weights) -> Tensor", lambda maps, weights: torch.empty_like(maps[0]))
# Gradients of the weights.
_products = Pass(
    "branch_products(Tensor[] maps, Tensor dy) -> Tensor",
    lambda maps, dy: dy.new_empty(len(maps), *dy.shape[:2], dtype=computed(dy.dtype)),
)
# Gradients of the maps: dy · weight_m + added, added (N, C).
_gradients = Pass(
    "branch_gradients(Tensor dy, Tensor weights, Tensor? added) -> Tensor[]",
    lambda dy, weights, added: [torch.empty_like(dy) for _ in weights],
)


@_pool.form("cpu")
def _pool_cpu(maps: Sequence[Tensor]) -> Tensor:
    x = maps[0]
    n, rows, columns, last = memory_layout(x)
    means = x.new_empty(x.shape[:2], dtype=computed(x.dtype))
    targets = (None, means) if last else (means, None)
    call("branch_sums", x.dtype, list(maps), *targets, len(maps), n, rows, columns)
    return means.div_(rows if last else columns)


@_mix.form("cpu")
def _mix_cpu(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    x, y = maps[0], torch.empty_like(maps[0])
    n, rows, columns, last = memory_layout(x)
    factors = (None, weights) if last else (weights, None)
    sizes = (len(maps), n, rows, columns, y.nbytes >= PAST_THE_CACHE)
    call("mix_branches", x.dtype, list(maps), *factors, y, *sizes)
    return y


@_products.form("cpu")
def _products_cpu(maps: Sequence[Tensor], dy: Tensor) -> Tensor:
    n, rows, columns, last = memory_layout(dy)
    segments = segments_of(n, rows) if last else 1
    shape = (len(maps), n, segments, columns) if last else (len(maps), n, rows)
    sums = dy.new_empty(shape, dtype=computed(dy.dtype))
    targets = (None, sums) if last else (sums, None)
    call("branch_products", dy.dtype, list(maps), dy, *targets, segments, len(maps), n, rows, columns)
    return sums.sum(2) if last else sums


@_gradients.form("cpu")
def _gradients_cpu(dy: Tensor, weights: Tensor, added: Tensor | None) -> list[Tensor]:
    dx = [torch.empty_like(dy) for _ in weights]
    n, rows, columns, last = memory_layout(dy)
    factors = (None, weights, None, added) if last else (weights, None, added, None)
    sizes = (len(dx), n, rows, columns, dy.nbytes >= PAST_THE_CACHE)
    call("branch_gradients", dy.dtype, dy, *factors, dx, *sizes)
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
    """One program per block of channels."""
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


@_pool.form("triton")
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
    """One program per tile."""
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


@_mix.form("triton")
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
    """One program per block of channels; after the first map dy comes from the cache."""
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


@_products.form("triton")
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
    """One program per tile."""
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


@_gradients.form("triton")
def _gradients_triton(dy: Tensor, weights: Tensor, added: Tensor | None) -> list[Tensor]:
    dx, t = [torch.empty_like(dy) for _ in weights], tiles_of(dy)
    _gradients_kernel[(t.n * t.down * t.across,)](dy, weights, added, tuple(dx), *t, len(dx))
    return dx


# ---- gradient -------------------------------------------------------------------------------------------------------
class Branches:
    """Maps of one shape with a gradient accumulator; returned by `accumulate_branch_gradients`.

    maps: dense and of one memory layout unless impl is "reference".
    anchor: as in `AccumulatedMap`.
    """

    def __init__(self, maps: Sequence[Tensor], impl: str) -> None:
        self.impl, self.maps = impl, list(maps)
        self.anchor: Tensor | None = None
        if impl == "reference":
            return
        first = dense(self.maps[0])
        self.maps = [first, *(like(x, first) for x in self.maps[1:])]
        self.accumulator = GradientAccumulator(impl)
        if torch.is_grad_enabled() and any(x.requires_grad for x in self.maps):
            self.anchor = _Root.apply(self.accumulator, *self.maps)


class _Root(Function):
    @staticmethod
    def forward(ctx: Any, accumulator: GradientAccumulator, *maps: Tensor) -> Tensor:
        ctx.accumulator = accumulator
        ctx.save_for_backward(*maps)
        return maps[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        maps, terms = ctx.saved_tensors, ctx.accumulator.take()
        bias = sum(terms.bias[1:], terms.bias[0]) if terms.bias else None
        if len(terms.scaled) == 1 and backward_form(ctx.accumulator.impl, *terms.tensors()) != "reference":
            dy, weights, _ = terms.scaled[0]
            return None, *_gradients(ctx.accumulator.impl, dy, weights, small(bias, dy))
        dx: list[Any] = [0] * len(maps)
        ones = (1,) * (maps[0].dim() - 2)
        for dy, weights, _ in terms.scaled:
            dx = [d + dy * w.reshape(*w.shape, *ones) for d, w in zip(dx, weights, strict=True)]
        if bias is not None:
            dx = [d + bias.reshape(*bias.shape, *ones) for d in dx]
        return None, *(d.expand_as(x).to(x.dtype) for d, x in zip(dx, maps, strict=True))


class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, branches: Branches) -> Tensor:
        ctx.accumulator, ctx.positions = branches.accumulator, branches.maps[0][0, 0].numel()
        return _pool(branches.impl, branches.maps).to(branches.maps[0].dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (d,) = given
        ctx.accumulator.terms().bias.append(d.to(computed(d.dtype)) / ctx.positions)
        return d.new_zeros(()), None


class _Mix(Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor | None, branches: Branches, weights: Tensor, *maps: Tensor) -> Tensor:
        ctx.impl, ctx.accumulator = branches.impl, branches.accumulator
        ctx.save_for_backward(weights, *maps)
        return _mix(branches.impl, list(maps), weights)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dy,) = given
        weights, *maps = ctx.saved_tensors
        of_anchor, _, of_weights, *_ = ctx.needs_input_grad
        d_weights = None
        if backward_form(ctx.impl, dy) == "reference":
            d_weights = torch.stack([(x * dy).sum(tuple(range(2, x.dim()))) for x in maps])
        else:
            dy = like(dy, maps[0])
            if of_weights:
                d_weights = _products(ctx.impl, maps, dy)
        if of_anchor:
            ctx.accumulator.terms().scaled.append((dy, weights, None))
        done = dy.new_zeros(()) if of_anchor else None
        return done, None, d_weights if of_weights else None, *(None,) * len(maps)


# ---- dispatch -------------------------------------------------------------------------------------------------------
def accumulate_branch_gradients(
    maps: Sequence[Tensor] | Branches, *, primitive: str = "accumulate_branch_gradients", impl: str | None = None
) -> Branches:
    """The maps with an accumulator, for `pool_branches` and `mix_branches`, which then write the gradients together.

    Args:
        maps: at least one, all (N, C, *S) of one shape, dtype and device, floating.
        primitive: the name for error messages.
        impl: "reference", "cpu" or "triton". None: the fastest that can run on all of them; on a CPU the reference for
            maps of less than 512 KiB.

    Raises: ValueError: no maps, maps that differ, an unknown impl. RuntimeError: the requested impl cannot run; gives
        the reason.
    """
    if isinstance(maps, Branches):
        return (
            maps
            if impl in (None, maps.impl)
            else accumulate_branch_gradients(maps.maps, primitive=primitive, impl=impl)
        )
    first = maps[0] if maps else None
    if first is None or any((x.shape, x.dtype, x.device) != (first.shape, first.dtype, first.device) for x in maps[1:]):
        got = ", ".join(f"{tuple(x.shape)} {x.dtype} on {x.device}" for x in maps) or "none"
        raise ValueError(f"{primitive}: wanted maps of one shape, dtype and device; got {got}")
    if impl is None and not torch.compiler.is_compiling() and first.is_cpu and first.nbytes < SMALL:
        return Branches(maps, "reference")
    forms = {choose(primitive, impl, x) for x in maps}
    return Branches(maps, forms.pop() if len(forms) == 1 else "reference")


def pool_branches(maps: Sequence[Tensor] | Branches, *, impl: str | None = None) -> Tensor:
    """The mean of the sum of the maps over its positions, (N, C), in their dtype.

    Args:
        maps, impl: see `accumulate_branch_gradients`.
    """
    branches = accumulate_branch_gradients(maps, primitive="pool_branches", impl=impl)
    if branches.impl == "reference":
        return pool_reference(branches.maps)
    if branches.anchor is not None:
        return _Pool.apply(branches.anchor, branches)
    return _pool(branches.impl, branches.maps).to(branches.maps[0].dtype)


def mix_branches(maps: Sequence[Tensor] | Branches, weights: Tensor, *, impl: str | None = None) -> Tensor:
    """The weighted sum of the maps, with a weight for each map and channel.

    Args:
        maps, impl: M maps; see `accumulate_branch_gradients`.
        weights: (N, M, C).

    Returns: (N, C, *S), of the dtype that torch's promotion gives.
    Raises: ValueError: weights of another shape; as `accumulate_branch_gradients`.
    """
    branches = accumulate_branch_gradients(maps, primitive="mix_branches", impl=impl)
    x = branches.maps[0]
    wanted = (x.shape[0], len(branches.maps), x.shape[1])
    if weights.shape != wanted:
        raise ValueError(f"mix_branches: weights must be {wanted}; got {tuple(weights.shape)}")
    if branches.impl == "reference" or torch.promote_types(x.dtype, weights.dtype) != x.dtype:
        return mix_reference(branches.maps, weights)
    weights = small(weights.transpose(0, 1), x)
    if torch.is_grad_enabled() and (branches.anchor is not None or weights.requires_grad):
        return _Mix.apply(branches.anchor, branches, weights, *branches.maps)
    return _mix(branches.impl, branches.maps, weights)
