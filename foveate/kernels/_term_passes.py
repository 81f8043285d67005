"""Passes that write the gradient of a map of which one term, from strips or a threshold, is no mere scaling of dy."""

import torch
from torch import Tensor

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import PAST_THE_CACHE, layout_of, run
from foveate.kernels._planes import planes_of
from foveate.kernels._tiles import AT_ONCE, power_of_two, tiles_of
from foveate.kernels._triton import tl, triton

# y = x · rows · columns + row_added + column_added, of planes (H, W): a gate of strips, and the gradient of one. The
# factors and addends lie in memory as x does; there are both addends or neither.
strip_scale = Pass(
    "strip_scale(Tensor x, Tensor rows, Tensor columns, Tensor? row_added, Tensor? column_added) -> Tensor",
    lambda x, *_: torch.empty_like(x),
)


@strip_scale.form("cpu")
def _strip_scale_cpu(
    x: Tensor, rows: Tensor, columns: Tensor, row_added: Tensor | None, column_added: Tensor | None
) -> Tensor:
    y = torch.empty_like(x)
    run("strip_scale", x, x, rows, columns, row_added, column_added, y, *planes_of(x), y.nbytes >= PAST_THE_CACHE)
    return y


# dx = dy where |x| is above its channel's threshold + sign · sign(x).
shrink_gradient = Pass(
    "shrink_gradient(Tensor x, Tensor dy, Tensor threshold, Tensor? sign) -> Tensor", lambda x, *_: torch.empty_like(x)
)


@shrink_gradient.form("cpu")
def _shrink_gradient_cpu(x: Tensor, dy: Tensor, threshold: Tensor, sign: Tensor | None) -> Tensor:
    n, rows, columns, last = layout_of(x)
    dx = torch.empty_like(x)
    given = (None, threshold, None, sign) if last else (threshold, None, sign, None)
    run("shrink_gradient", x, x, dy, *given, dx, n, rows, columns, dx.nbytes >= PAST_THE_CACHE)
    return dx


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _strip_scale_kernel(
    x_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    columns_ptr: tl.tensor,
    row_added_ptr: tl.tensor,
    column_added_ptr: tl.tensor,
    y_ptr: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    C: tl.tensor,
    count: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One program so many numbers, of x[N][H][W][C]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside, c, place = at < count, at % C, at // C
    row, column = place // W * C + c, (place // W // H * W + place % W) * C + c
    v = tl.load(x_ptr + at, mask=inside).to(tl.float32)
    v = v * tl.load(rows_ptr + row, mask=inside) * tl.load(columns_ptr + column, mask=inside)
    if row_added_ptr is not None:
        v = v + tl.load(row_added_ptr + row, mask=inside)
    if column_added_ptr is not None:
        v = v + tl.load(column_added_ptr + column, mask=inside)
    tl.store(y_ptr + at, v.to(y_ptr.dtype.element_ty), mask=inside)


@strip_scale.form("triton")
def _strip_scale_triton(
    x: Tensor, rows: Tensor, columns: Tensor, row_added: Tensor | None, column_added: Tensor | None
) -> Tensor:
    y, block = torch.empty_like(x), min(AT_ONCE, power_of_two(x.numel()))
    sizes = (*planes_of(x)[1:], x.numel())
    _strip_scale_kernel[(-(-x.numel() // block),)](x, rows, columns, row_added, column_added, y, *sizes, BLOCK=block)
    return y


@triton.jit
def _shrink_gradient_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    threshold_ptr: tl.tensor,
    sign_ptr: tl.tensor,
    dx_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program a tile."""
    tile, down, across = tl.program_id(0), tl.cdiv(C, BC), tl.cdiv(P, BP)
    n = (tile // (down * across)).to(tl.int64)
    c = (tile // across % down * BC + tl.arange(0, BC)).to(tl.int64)
    p = (tile % across * BP + tl.arange(0, BP)).to(tl.int64)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
    v = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dx = tl.where(tl.abs(v) <= tl.load(threshold_ptr + n * C + c, mask=c < C, other=0.0)[:, None], 0.0, dy)
    if sign_ptr is not None:
        size = tl.load(sign_ptr + n * C + c, mask=c < C, other=0.0)[:, None]
        dx = dx + tl.where(v > 0, size, tl.where(v < 0, -size, v * size))
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@shrink_gradient.form("triton")
def _shrink_gradient_triton(x: Tensor, dy: Tensor, threshold: Tensor, sign: Tensor | None) -> Tensor:
    dx, t = torch.empty_like(x), tiles_of(x)
    _shrink_gradient_kernel[(t.n * t.down * t.across,)](x, dy, threshold, sign, dx, *t[1:])
    return dx
