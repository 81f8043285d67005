"""Global pooling: mean, maximum, mean magnitude and variance of every channel, in one read of the map.

Of several equal maxima the first position takes the gradient; NaN counts as the largest value.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, memory_layout
from foveate.kernels._tiles import first_largest, later_largest, spread_further, tiles_of
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import AccumulatedMap, accumulate_gradient

KINDS = ("mean", "max", "magnitude", "variance")


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, kinds: Sequence[str]) -> list[Tensor]:
    flat = x.flatten(2)
    pools = {
        "mean": lambda: flat.mean(2),
        "max": lambda: flat.max(2).values,
        "magnitude": lambda: flat.abs().mean(2),
        "variance": lambda: (flat - flat.mean(2, keepdim=True)).square().mean(2),
    }
    return [pools[kind]() for kind in kinds]


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _names(kinds: Sequence[str]) -> list[str]:
    """The results of the pass: always the mean, and with the maxima their positions."""
    return [*(kind for kind in KINDS if kind in ("mean", *kinds)), *(["argmax"] if "max" in kinds else [])]


def _pooled_like(x: Tensor, kinds: list[str]) -> list[Tensor]:
    dtype = computed(x.dtype)
    return [x.new_empty(x.shape[:2], dtype=torch.int32 if name == "argmax" else dtype) for name in _names(kinds)]


_pool = Pass("global_pool(Tensor x, str[] kinds) -> Tensor[]", _pooled_like)


@_pool.form("cpu")
def _pool_cpu(x: Tensor, kinds: list[str]) -> list[Tensor]:
    n, rows, columns, last = memory_layout(x)
    pooled = _pooled_like(x, kinds)
    if not last and len(pooled) == 1 and pooled[0].dtype == x.dtype:
        torch.mean(x.flatten(2), 2, out=pooled[0])  # alone, torch's own mean is faster
        return pooled
    found = dict(zip(_names(kinds), pooled, strict=True))
    mean, variance, positions = found["mean"], found.get("variance"), x[0, 0].numel()
    given = (x, None, mean, found.get("max"), found.get("argmax"), found.get("magnitude"))
    if last:
        call("column_sums", x.dtype, *given, n, rows, columns)
    else:
        call("row_sums", x.dtype, *given, variance, n, rows, columns)
    mean.div_(positions)
    if last and variance is not None:
        call("column_spread", x.dtype, x, mean, variance, n, rows, columns)
    for kind in ("magnitude", "variance"):
        if kind in found:
            found[kind].div_(positions)
    return pooled


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _pool_kernel(
    x_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    most_ptr: tl.tensor,
    at_ptr: tl.tensor,
    magnitude_ptr: tl.tensor,
    variance_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per block of channels; the variance is merged from those of the columns of a tile."""
    program, down = tl.program_id(0), tl.cdiv(C, BC)
    n = (program // down).to(tl.int64)
    c = (program % down * BC + tl.arange(0, BC)).to(tl.int64)
    total, size = tl.zeros((BC, BP), tl.float32), tl.zeros((BC, BP), tl.float32)
    middle, spread = tl.zeros((BC, BP), tl.float32), tl.zeros((BC, BP), tl.float32)
    most, place = tl.full((BC,), -float("inf"), tl.float32), tl.full((BC,), -1, tl.int32)
    for start in range(0, P, BP):
        p = (start + tl.arange(0, BP)).to(tl.int64)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x_ptr + n * C * P + c[:, None] * by_c + p[None, :] * by_p, mask=inside, other=0.0).to(tl.float32)
        total += v
        if magnitude_ptr is not None:
            size += tl.abs(v)
        if variance_ptr is not None:
            middle, spread = spread_further(v, inside, middle, spread, start // BP + 1)
        if most_ptr is not None:
            here, at = first_largest(v, inside, p, 1)
            most, place = later_largest(most, place, here, at)
    mean = tl.sum(total, 1) / P
    tl.store(mean_ptr + n * C + c, mean, mask=c < C)
    if magnitude_ptr is not None:
        tl.store(magnitude_ptr + n * C + c, tl.sum(size, 1) / P, mask=c < C)
    if most_ptr is not None:
        tl.store(most_ptr + n * C + c, most, mask=c < C)
        tl.store(at_ptr + n * C + c, place, mask=c < C)
    if variance_ptr is not None:
        seen = ((P - tl.arange(0, BP) + BP - 1) // BP)[None, :]
        away = middle - mean[:, None]
        tl.store(variance_ptr + n * C + c, tl.sum(spread + seen * away * away, 1) / P, mask=c < C)


@_pool.form("triton")
def _pool_triton(x: Tensor, kinds: list[str]) -> list[Tensor]:
    pooled, t = _pooled_like(x, kinds), tiles_of(x, kept="channels")
    found = dict(zip(_names(kinds), pooled, strict=True))
    given = [found.get(name) for name in ("mean", "max", "argmax", "magnitude", "variance")]
    _pool_kernel[(t.n * t.down,)](x, *given, *t[1:])
    return pooled


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Pool(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, accumulated: AccumulatedMap, kinds: Sequence[str]
    ) -> tuple[Tensor, ...]:
        found = dict(zip(_names(kinds), _pool(accumulated.impl, x, list(kinds)), strict=True))
        ctx.accumulator, ctx.kinds = accumulated.accumulator, kinds
        ctx.save_for_backward(x, found["mean"], found.get("argmax"))
        return tuple(found[kind].to(x.dtype) for kind in kinds)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, mean, at = ctx.saved_tensors
        positions = x[0, 0].numel()
        terms = ctx.accumulator.terms()
        for kind, d in zip(ctx.kinds, given, strict=True):
            d = d.to(computed(x.dtype))
            match kind:
                case "mean":
                    terms.bias.append(d / positions)
                case "max":
                    terms.position_argmax.append((at, d))
                case "magnitude":
                    terms.sign.append(d / positions)
                case "variance":
                    if torch.is_grad_enabled():
                        mean = x.flatten(2).mean(2)
                    terms.times_x.append(2 * d / positions)
                    terms.bias.append(-2 * d / positions * mean)
        return None, given[0].new_zeros(()), None, None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def global_pool(x: Tensor | AccumulatedMap, kinds: Sequence[str], *, impl: str | None = None) -> list[Tensor]:
    """Pool every channel of the map over its positions.

    Args:
        x: (N, C, *S), floating, or a map from `accumulate_gradient`.
        kinds: any of "mean", "max", "magnitude" (mean of |x|), "variance" (biased).
        impl: see `accumulate_gradient`.

    Returns: a tensor (N, C) for each kind, in x's dtype.
    Raises: ValueError: an unknown kind; as `accumulate_gradient`.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"global_pool: each kind must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    accumulated = accumulate_gradient(x, primitive="global_pool", impl=impl)
    if accumulated.impl == "reference" or not _pool.has(accumulated.impl):
        return reference(accumulated.tensor, kinds)
    if accumulated.anchor is None:
        found = dict(zip(_names(kinds), _pool(accumulated.impl, accumulated.tensor, list(kinds)), strict=True))
        return [found[kind].to(accumulated.tensor.dtype) for kind in kinds]
    return list(_Pool.apply(accumulated.tensor, accumulated.anchor, accumulated, tuple(kinds)))
