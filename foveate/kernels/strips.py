"""Pooling and gating along the axes of a map, as in coordinate attention.

`pool_strips` computes the means of all rows and columns in one read of the map; `gate_strips` multiplies the map by a
factor for each row and one for each column: y = x · rows · columns. A map is a set of planes (H, W); with more spatial
axes, H is the product of all but the last.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, like, planes_of, strips, strips_like
from foveate.kernels._tiles import NARROW, power_of_two
from foveate.kernels._triton import tl, triton
from foveate.kernels.gradient.accumulator import AccumulatedMap, accumulate_gradient, backward_form
from foveate.kernels.gradient.map_gradient import strip_scale


# ---- reference ------------------------------------------------------------------------------------------------------
def pool_reference(x: Tensor) -> tuple[Tensor, Tensor]:
    planes = x.flatten(2, -2)
    return planes.mean(3), planes.mean(2)


def gate_reference(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return (x.flatten(2, -2) * rows.unsqueeze(3) * columns.unsqueeze(2)).reshape(x.shape)


# ---- cpu ------------------------------------------------------------------------------------------------------------
# Sums of the rows (N, C, H) and the columns (N, C, W).
_pool = Pass("strip_pools(Tensor x) -> (Tensor, Tensor)", strips_like)


@_pool.form("cpu")
def _pool_cpu(x: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = strips_like(x)
    call("strip_sums", x.dtype, x, rows, columns, *planes_of(x))
    return rows, columns


# Gradients of the factors of rows and columns, which have the memory layout of x.
_products = Pass(
    "strip_gate_gradients(Tensor x, Tensor dy, Tensor rows, Tensor columns) -> (Tensor, Tensor)",
    lambda x, dy, rows, columns: strips_like(x),
)


@_products.form("cpu")
def _products_cpu(x: Tensor, dy: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    d_rows, d_columns = strips_like(x)
    call("strip_products", x.dtype, x, dy, rows, columns, d_rows, d_columns, *planes_of(x))
    return d_rows, d_columns


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _sums_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    row_ptr: tl.tensor,
    column_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    columns_ptr: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    C: tl.tensor,
    BH: tl.constexpr,
    BW: tl.constexpr,
    BC: tl.constexpr,
) -> None:
    """One program per block of columns and channels of a plane x[H][W][C]: sums of x, or of x · dy · factors.

    Writes the sums of the columns [N][W][C] and, for each block of columns, partial sums of the rows [N][blocks][H][C].
    """
    program, across, down = tl.program_id(0).to(tl.int64), tl.cdiv(W, BW), tl.cdiv(C, BC)
    n, block = program // (across * down), program // down % across
    w = (block * BW + tl.arange(0, BW))[None, :, None]
    c = (program % down * BC + tl.arange(0, BC))[None, None, :]
    column, column_inside = w * C + c, (w < W) & (c < C)
    total = tl.zeros((BH, BW, BC), tl.float32)
    for start in range(0, H, BH):
        h = (start + tl.arange(0, BH))[:, None, None].to(tl.int64)
        at, inside = (n * H + h) * W * C + column, (h < H) & column_inside
        v = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        by_row = v
        if dy_ptr is not None:
            v = v * tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
            by_row = v * tl.load(column_ptr + n * W * C + column, mask=column_inside, other=0.0)
            v = v * tl.load(row_ptr + (n * H + h) * C + c, mask=(h < H) & (c < C), other=0.0)
        total += v
        of_row = ((n * across + block) * H + h) * C + c
        tl.store(rows_ptr + of_row, tl.sum(by_row, 1, keep_dims=True), mask=(h < H) & (c < C))
    tl.store(columns_ptr + n * W * C + column, tl.sum(total, 0, keep_dims=True), mask=column_inside)


TILE = 512  # values of a tile; with twice as many, a few shapes spill a register


def _summed(x: Tensor, dy: Tensor | None, row: Tensor | None, column: Tensor | None) -> tuple[Tensor, Tensor]:
    rows, columns = strips_like(x)
    n, height, width, channels = planes_of(x)
    across = min(power_of_two(channels), NARROW)
    wide = min(power_of_two(width), TILE // across)
    high = min(power_of_two(height), TILE // across // wide)
    blocks = -(-width // wide)
    parts = rows if blocks == 1 else rows.new_empty(n, blocks, height, channels)
    grid = (n * blocks * -(-channels // across),)
    _sums_kernel[grid](x, dy, row, column, parts, columns, height, width, channels, high, wide, across)
    if blocks > 1:
        whole = parts.sum(1)
        rows = whole.mT if channels > 1 else whole.view_as(rows)
    return rows, columns


@_pool.form("triton")
def _pool_triton(x: Tensor) -> tuple[Tensor, Tensor]:
    return _summed(x, None, None, None)


@_products.form("triton")
def _products_triton(x: Tensor, dy: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    return _summed(x, dy, rows, columns)


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, accumulated: AccumulatedMap) -> tuple[Tensor, Tensor]:
        rows, columns = _pool(accumulated.impl, x)
        ctx.accumulator, ctx.height, ctx.width = accumulated.accumulator, rows.shape[2], columns.shape[2]
        return rows.div_(ctx.width).to(x.dtype), columns.div_(ctx.height).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        rows, columns = (d.to(computed(d.dtype)) for d in given)
        ctx.accumulator.terms().strip_bias.append((rows / ctx.width, columns / ctx.height))
        return None, rows.new_zeros(()), None


class _Gate(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor | None, accumulated: AccumulatedMap, rows: Tensor, columns: Tensor
    ) -> Tensor:
        ctx.impl, ctx.accumulator = accumulated.impl, accumulated.accumulator
        ctx.save_for_backward(x, rows, columns)
        return strip_scale(accumulated.impl, x, rows, columns, None, None)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dy,) = given
        x, rows, columns = ctx.saved_tensors
        _, of_anchor, _, *wants = ctx.needs_input_grad
        d_rows = d_columns = None
        if backward_form(ctx.impl, dy) == "reference":
            by = (x * dy).reshape(*x.shape[:2], -1, x.shape[-1])
            d_rows, d_columns = (by * columns.unsqueeze(2)).sum(3), (by * rows.unsqueeze(3)).sum(2)
        else:
            dy = like(dy, x)
            if any(wants):
                d_rows, d_columns = _products(ctx.impl, x, dy, rows, columns)
        if of_anchor:
            ctx.accumulator.terms().strips.append((dy, rows, columns))
        d_anchor = dy.new_zeros(()) if of_anchor else None
        return None, d_anchor, None, d_rows if wants[0] else None, d_columns if wants[1] else None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def pool_strips(x: Tensor | AccumulatedMap, *, impl: str | None = None) -> tuple[Tensor, Tensor]:
    """The means of the rows and of the columns of every channel.

    Args:
        x: (N, C, *S, W), floating, or a map from `accumulate_gradient`; H is the product of S, which is not empty.
        impl: see `accumulate_gradient`.

    Returns: the means of the rows (N, C, H) and of the columns (N, C, W), in x's dtype.
    Raises: as `accumulate_gradient`.
    """
    accumulated = accumulate_gradient(x, primitive="pool_strips", impl=impl)
    x = accumulated.tensor
    if accumulated.impl == "reference":
        return pool_reference(x)
    if accumulated.anchor is not None:
        return _Pool.apply(x, accumulated.anchor, accumulated)
    rows, columns = _pool(accumulated.impl, x)
    return rows.div_(columns.shape[2]).to(x.dtype), columns.div_(rows.shape[2]).to(x.dtype)


def gate_strips(x: Tensor | AccumulatedMap, rows: Tensor, columns: Tensor, *, impl: str | None = None) -> Tensor:
    """Multiply the map by a factor for each row and one for each column of every channel.

    Args:
        x: (N, C, *S, W), floating, or a map from `accumulate_gradient`; H is the product of S, which is not empty.
        rows: (N, C, H).
        columns: (N, C, W).
        impl: see `accumulate_gradient`.

    Raises: ValueError: factors of another shape; as `accumulate_gradient`.
    """
    accumulated = accumulate_gradient(x, primitive="gate_strips", impl=impl)
    x = accumulated.tensor
    wanted = (*x.shape[:2], math.prod(x.shape[2:-1])), (*x.shape[:2], x.shape[-1])
    if (tuple(rows.shape), tuple(columns.shape)) != wanted:
        got = f"{tuple(rows.shape)} and {tuple(columns.shape)}"
        raise ValueError(f"gate_strips: rows and columns must be {wanted[0]} and {wanted[1]}; got {got}")
    wider = any(torch.promote_types(x.dtype, t.dtype) != x.dtype for t in (rows, columns))
    if accumulated.impl == "reference" or wider:
        return gate_reference(x, rows, columns)
    rows, columns = strips(rows, x), strips(columns, x)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, rows, columns)):
        return _Gate.apply(x, accumulated.anchor, accumulated, rows, columns)
    return strip_scale(accumulated.impl, x, rows, columns, None, None)
