"""Numbers for each row and each column of every channel's plane, as coordinate attention has them.

`pool_strips` reads the map once for the means of its rows and of its columns; `gate_strips` scales it by a factor for
each row and one for each column: y = x · rows · columns. Maps are seen as planes (H, W); where there are more axes, all
but the last count as rows.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, layout_of, like, run, small
from foveate.kernels._term_passes import strip_scale
from foveate.kernels._tiles import AT_ONCE, power_of_two
from foveate.kernels._triton import tl, triton
from foveate.kernels.shared import Shared, backward_form, share


# ---- reference ------------------------------------------------------------------------------------------------------
def pool_reference(x: Tensor) -> tuple[Tensor, Tensor]:
    planes = x.flatten(2, -2)
    return planes.mean(3), planes.mean(2)


def gate_reference(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return (x.flatten(2, -2) * rows.unsqueeze(3) * columns.unsqueeze(2)).reshape(x.shape)


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _strips_like(x: Tensor) -> tuple[Tensor, Tensor]:
    height, width = x[0, 0].numel() // x.shape[-1], x.shape[-1]
    n, channels = x.shape[:2]
    return tuple(x.new_empty(n, channels, side, dtype=computed(x.dtype)) for side in (height, width))  # type: ignore


# The sums of each row (N, C, H) and of each column (N, C, W).
_pool = Pass("strip_pools(Tensor x) -> (Tensor, Tensor)", _strips_like)


@_pool.form("cpu")
def _pool_cpu(x: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = _strips_like(x)
    run("strip_sums", x, x, rows, columns, x.shape[0] * x.shape[1], rows.shape[2], columns.shape[2])
    return rows, columns


# The gradients of the factors of rows and of columns.
_products = Pass(
    "strip_gate_gradients(Tensor x, Tensor dy, Tensor rows, Tensor columns) -> (Tensor, Tensor)",
    lambda x, dy, rows, columns: (torch.empty_like(rows), torch.empty_like(columns)),
)


@_products.form("cpu")
def _products_cpu(x: Tensor, dy: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    d_rows, d_columns = torch.empty_like(rows), torch.empty_like(columns)
    sizes = (x.shape[0] * x.shape[1], rows.shape[2], columns.shape[2])
    run("strip_products", x, x, dy, rows, columns, d_rows, d_columns, *sizes)
    return d_rows, d_columns


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _pool_kernel(
    x_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    columns_ptr: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    BH: tl.constexpr,
    BW: tl.constexpr,
) -> None:
    """One program a plane, rows of its whole width at a time."""
    plane, w = tl.program_id(0).to(tl.int64), tl.arange(0, BW)
    total = tl.zeros((BH, BW), tl.float32)
    for start in range(0, H, BH):
        h = start + tl.arange(0, BH)
        inside = (h < H)[:, None] & (w < W)[None, :]
        v = tl.load(x_ptr + (plane * H + h[:, None]) * W + w[None, :], mask=inside, other=0.0).to(tl.float32)
        tl.store(rows_ptr + plane * H + h, tl.sum(v, 1), mask=h < H)
        total += v
    tl.store(columns_ptr + plane * W + w, tl.sum(total, 0), mask=w < W)


def _blocks(height: int, width: int) -> tuple[int, int]:
    wide = power_of_two(width)
    return min(power_of_two(height), max(AT_ONCE // wide, 1)), wide


@_pool.form("triton")
def _pool_triton(x: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = _strips_like(x)
    sizes = (rows.shape[2], columns.shape[2])
    _pool_kernel[(x.shape[0] * x.shape[1],)](x, rows, columns, *sizes, *_blocks(*sizes))
    return rows, columns


@triton.jit
def _products_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    columns_ptr: tl.tensor,
    d_rows_ptr: tl.tensor,
    d_columns_ptr: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    BH: tl.constexpr,
    BW: tl.constexpr,
) -> None:
    """As the pools."""
    plane, w = tl.program_id(0).to(tl.int64), tl.arange(0, BW)
    column = tl.load(columns_ptr + plane * W + w, mask=w < W, other=0.0)
    total = tl.zeros((BH, BW), tl.float32)
    for start in range(0, H, BH):
        h = start + tl.arange(0, BH)
        inside, at = (h < H)[:, None] & (w < W)[None, :], (plane * H + h[:, None]) * W + w[None, :]
        product = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        product = product * tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(d_rows_ptr + plane * H + h, tl.sum(product * column[None, :], 1), mask=h < H)
        total += product * tl.load(rows_ptr + plane * H + h, mask=h < H, other=0.0)[:, None]
    tl.store(d_columns_ptr + plane * W + w, tl.sum(total, 0), mask=w < W)


@_products.form("triton")
def _products_triton(x: Tensor, dy: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    d_rows, d_columns = torch.empty_like(rows), torch.empty_like(columns)
    sizes = (rows.shape[2], columns.shape[2])
    given = (x, dy, rows, columns, d_rows, d_columns, *sizes, *_blocks(*sizes))
    _products_kernel[(x.shape[0] * x.shape[1],)](*given)
    return d_rows, d_columns


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
        rows, columns = _pool(shared.impl, x)
        ctx.ledger, ctx.height, ctx.width = shared.ledger, rows.shape[2], columns.shape[2]
        return rows.div_(ctx.width).to(x.dtype), columns.div_(ctx.height).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        rows, columns = (d.to(computed(d.dtype)) for d in given)
        ctx.ledger.terms().even_strips.append((rows / ctx.width, columns / ctx.height))
        return None, rows.new_zeros(()), None


class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor | None, shared: Shared, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.impl, ctx.ledger = shared.impl, shared.ledger
        ctx.save_for_backward(x, rows, columns)
        return strip_scale(shared.impl, x, rows, columns, None, None)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dy,) = given
        x, rows, columns = ctx.saved_tensors
        _, of_token, _, *wants = ctx.needs_input_grad
        d_rows = d_columns = None
        if backward_form(ctx.impl, dy) == "reference":
            by = (x * dy).reshape(*x.shape[:2], -1, x.shape[-1])
            d_rows, d_columns = (by * columns.unsqueeze(2)).sum(3), (by * rows.unsqueeze(3)).sum(2)
        else:
            dy = like(dy, x)
            if any(wants):
                d_rows, d_columns = _products(ctx.impl, x, dy, rows, columns)
        if of_token:
            ctx.ledger.terms().strips.append((dy, rows, columns))
        d_token = dy.new_zeros(()) if of_token else None
        return None, d_token, None, d_rows if wants[0] else None, d_columns if wants[1] else None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def _quick(shared: Shared) -> bool:
    """Whether the passes can run: they know maps with the channels first only."""
    return shared.impl != "reference" and _pool.has(shared.impl) and not layout_of(shared.tensor).last


def pool_strips(x: Tensor | Shared, *, impl: str | None = None) -> tuple[Tensor, Tensor]:
    """The means of each row and of each column of every channel's plane.

    Args:
        x: (N, C, *S, W), floating, at least two spatial axes, or a shared map; H is the product of S.
        impl: see `share`. Channels-last maps take the reference.

    Returns: the means of the rows (N, C, H) and of the columns (N, C, W), in x's dtype.
    """
    shared = share(x, primitive="pool_strips", impl=impl)
    x = shared.tensor
    if not _quick(shared):
        return pool_reference(x)
    if shared.token is not None:
        return _Pool.apply(x, shared.token, shared)
    rows, columns = _pool(shared.impl, x)
    return rows.div_(columns.shape[2]).to(x.dtype), columns.div_(rows.shape[2]).to(x.dtype)


def gate_strips(x: Tensor | Shared, rows: Tensor, columns: Tensor, *, impl: str | None = None) -> Tensor:
    """Scale the map by a factor for each row and one for each column of every channel's plane.

    Args:
        x: (N, C, *S, W), floating, at least two spatial axes, or a shared map; H is the product of S.
        rows: (N, C, H).
        columns: (N, C, W).
        impl: see `share`. Channels-last maps take the reference.

    Raises: ValueError: factors of another shape; what `share` raises.
    """
    shared = share(x, primitive="gate_strips", impl=impl)
    x = shared.tensor
    wanted = (*x.shape[:2], math.prod(x.shape[2:-1])), (*x.shape[:2], x.shape[-1])
    if (tuple(rows.shape), tuple(columns.shape)) != wanted:
        got = f"{tuple(rows.shape)} and {tuple(columns.shape)}"
        raise ValueError(f"gate_strips: rows and columns must be {wanted[0]} and {wanted[1]}; got {got}")
    wider = any(torch.promote_types(x.dtype, t.dtype) != x.dtype for t in (rows, columns))
    if not _quick(shared) or wider:
        return gate_reference(x, rows, columns)
    rows, columns = small(rows, x), small(columns, x)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, rows, columns)):
        return _Gate.apply(x, shared.token, shared, rows, columns)
    return strip_scale(shared.impl, x, rows, columns, None, None)
