"""The gradient of a map that several operators read, as one pass over memory: a sum of terms in dy or small tensors.

    dx = Σ dy · channel · position  +  bias  +  a ⊗ b  +  times_x · x  +  sign · sign(x)
       + a value at the argmax position of each channel  +  a value at the argmax channel of each position

With one autograd node a term, each term would be a map of its own, written, read and added.
"""

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from foveate.kernels._calls import call, declared
from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import PAST_THE_CACHE, like, memory_layout, planes_of, small, strips
from foveate.kernels._tiles import AT_ONCE, power_of_two, tiles_of
from foveate.kernels._triton import tl, triton


@dataclass
class Terms:
    """The terms of the gradient of a map (N, C, *S) with P positions. Indices are int32, all else is floating.

    scaled: dy, factors (N, C) or None, factors (N, P) or None.
    bias: (N, C), added to every position of a channel.
    outer: (N, C) and (N, P), whose outer product is added.
    times_x, sign: (N, C), factors of x and of sign(x).
    position_argmax: index (N, C) of a position in each channel, and the value (N, C) added there.
    channel_argmax: index (N, P) of a channel at each position, the value (N, P) added there, its factor (N, C) or None.
    strips: dy, factors of rows (N, C, H) and of columns (N, C, W).
    thresholded: dy, which counts where |x| exceeds a threshold (N, C).
    strip_bias: (N, C, H) added along the rows and (N, C, W) along the columns.
    """

    scaled: list[tuple[Tensor, Tensor | None, Tensor | None]] = field(default_factory=list)
    bias: list[Tensor] = field(default_factory=list)
    outer: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    times_x: list[Tensor] = field(default_factory=list)
    sign: list[Tensor] = field(default_factory=list)
    position_argmax: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    channel_argmax: list[tuple[Tensor, Tensor, Tensor | None]] = field(default_factory=list)
    strips: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    thresholded: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    strip_bias: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def tensors(self) -> list[Tensor]:
        """All tensors in the terms."""
        terms = [term for kind in fields(self) for term in getattr(self, kind.name)]
        made_of = [part for term in terms for part in (term if isinstance(term, tuple) else (term,))]
        return [part for part in made_of if part is not None]


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, terms: Terms) -> Tensor:
    flat = x.reshape(*x.shape[:2], -1)
    total = torch.zeros_like(flat)
    for dy, channel, position in terms.scaled:
        term = dy.reshape(flat.shape)
        term = term if channel is None else term * channel.unsqueeze(2)
        total = total + (term if position is None else term * position.unsqueeze(1))
    for a, b in terms.outer:
        total = total + a.unsqueeze(2) * b.unsqueeze(1)
    for value in terms.bias:
        total = total + value.unsqueeze(2)
    for value in terms.times_x:
        total = total + flat * value.unsqueeze(2)
    for value in terms.sign:
        total = total + flat.sign() * value.unsqueeze(2)
    for at, value in terms.position_argmax:
        total = total.scatter_add(2, at.long().unsqueeze(2), value.unsqueeze(2).to(total.dtype))
    for at, value, channel in terms.channel_argmax:
        value = value if channel is None else value * channel.gather(1, at.long())
        total = total.scatter_add(1, at.long().unsqueeze(1), value.unsqueeze(1).to(total.dtype))
    for dy, threshold in terms.thresholded:
        total = total + dy.reshape(flat.shape) * (flat.abs() > threshold.unsqueeze(2)) * flat.sign().abs()
    for dy, rows, columns in terms.strips:
        planes = dy.reshape(*dy.shape[:2], -1, dy.shape[-1])
        total = total + (planes * rows.unsqueeze(3) * columns.unsqueeze(2)).reshape(flat.shape)
    for rows, columns in terms.strip_bias:
        total = total + (rows.unsqueeze(3) + columns.unsqueeze(2)).reshape(flat.shape)
    return total.to(x.dtype).reshape(x.shape)


# ---- cpu ------------------------------------------------------------------------------------------------------------
_gradient = Pass(
    "map_gradient(Tensor x, Tensor? dy, Tensor? channel, Tensor? position, Tensor? bias, Tensor[] outer,"
    " Tensor? times_x, Tensor? sign, Tensor? max_position, Tensor? position_value, Tensor? max_channel,"
    " Tensor? channel_value, Tensor? channel_factor) -> Tensor",
    lambda x, *_: torch.empty_like(x),
)


PARTS = [member.name for member in declared("gradient")[0][0].members]


@_gradient.form("cpu")
def _gradient_cpu(
    x: Tensor,
    dy: Tensor | None,
    channel: Tensor | None,
    position: Tensor | None,
    bias: Tensor | None,
    outer: list[Tensor],
    times_x: Tensor | None,
    sign: Tensor | None,
    max_position: Tensor | None,
    position_value: Tensor | None,
    max_channel: Tensor | None,
    channel_value: Tensor | None,
    channel_factor: Tensor | None,
) -> Tensor:
    n, rows, columns, last = memory_layout(x)
    given = {"x": x, "dy": dy}
    a_side, b_side = ("column", "row") if last else ("row", "column")  # of channels, of positions
    given |= {a_side: channel, b_side: position, f"{a_side}_added": bias}
    given |= {f"{a_side}_x": times_x, f"{a_side}_sign": sign}
    for k in range(len(outer) // 2):
        given |= {f"{a_side}_{k + 1}": outer[2 * k], f"{b_side}_{k + 1}": outer[2 * k + 1]}
    if last:
        given |= {"column_at": max_position, "hot": position_value}
        if max_channel is not None and channel_value is not None:
            value = (
                channel_value
                if channel_factor is None
                else channel_value * channel_factor.gather(1, max_channel.long())
            )
            given |= {"row_at": max_channel, "peak": value}
    else:
        given |= {
            "row_at": max_position,
            "peak": position_value,
            "column_at": max_channel,
            "hot": channel_value,
            "hot_row": channel_factor,
        }
    dx = torch.empty_like(x)
    parts = tuple(given.get(name) for name in PARTS)
    call("gradient", x.dtype, parts, dx, n, rows, columns, dx.nbytes >= PAST_THE_CACHE)
    return dx


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _gradient_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    position_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    a_ptr: tl.tensor,
    a_position_ptr: tl.tensor,
    b_ptr: tl.tensor,
    b_position_ptr: tl.tensor,
    times_x_ptr: tl.tensor,
    sign_ptr: tl.tensor,
    max_position_ptr: tl.tensor,
    position_value_ptr: tl.tensor,
    max_channel_ptr: tl.tensor,
    channel_value_ptr: tl.tensor,
    channel_factor_ptr: tl.tensor,
    dx_ptr: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program per tile."""
    tile, down, across = tl.program_id(0), tl.cdiv(C, BC), tl.cdiv(P, BP)
    n = (tile // (down * across)).to(tl.int64)
    c = (tile // across % down * BC + tl.arange(0, BC)).to(tl.int64)
    p = (tile % across * BP + tl.arange(0, BP)).to(tl.int64)
    inside, of_c, of_p = (c < C)[:, None] & (p < P)[None, :], n * C + c, n * P + p
    at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
    total = tl.zeros((BC, BP), tl.float32)
    if dy_ptr is not None:
        total = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if channel_ptr is not None:
            total = total * tl.load(channel_ptr + of_c, mask=c < C)[:, None]
        if position_ptr is not None:
            total = total * tl.load(position_ptr + of_p, mask=p < P)[None, :]
    if bias_ptr is not None:
        total += tl.load(bias_ptr + of_c, mask=c < C)[:, None]
    if a_ptr is not None:
        total += tl.load(a_ptr + of_c, mask=c < C)[:, None] * tl.load(a_position_ptr + of_p, mask=p < P)[None, :]
    if b_ptr is not None:
        total += tl.load(b_ptr + of_c, mask=c < C)[:, None] * tl.load(b_position_ptr + of_p, mask=p < P)[None, :]
    if times_x_ptr is not None or sign_ptr is not None:
        v = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if times_x_ptr is not None:
            total += v * tl.load(times_x_ptr + of_c, mask=c < C)[:, None]
        if sign_ptr is not None:
            side = tl.where(v > 0, 1.0, tl.where(v < 0, -1.0, 0.0))
            total += side * tl.load(sign_ptr + of_c, mask=c < C)[:, None]
    if max_position_ptr is not None:
        here = tl.load(max_position_ptr + of_c, mask=c < C, other=-1)[:, None] == p[None, :]
        total += tl.where(here, tl.load(position_value_ptr + of_c, mask=c < C, other=0.0)[:, None], 0.0)
    if max_channel_ptr is not None:
        here = tl.load(max_channel_ptr + of_p, mask=p < P, other=-1)[None, :] == c[:, None]
        value = tl.broadcast_to(tl.load(channel_value_ptr + of_p, mask=p < P, other=0.0)[None, :], (BC, BP))
        if channel_factor_ptr is not None:
            value = value * tl.load(channel_factor_ptr + of_c, mask=c < C, other=0.0)[:, None]
        total += tl.where(here, value, 0.0)
    tl.store(dx_ptr + at, total.to(dx_ptr.dtype.element_ty), mask=inside)


@_gradient.form("triton")
def _gradient_triton(
    x: Tensor,
    dy: Tensor | None,
    channel: Tensor | None,
    position: Tensor | None,
    bias: Tensor | None,
    outer: list[Tensor],
    *others: Tensor | None,
) -> Tensor:
    dx, t = torch.empty_like(x), tiles_of(x)
    pairs = (*outer, None, None, None, None)[:4]
    _gradient_kernel[(t.n * t.down * t.across,)](x, dy, channel, position, bias, *pairs, *others, dx, *t[1:])
    return dx


# ---- terms with passes of their own: strips and thresholds ----------------------------------------------------------
# y = x · rows · columns + row_added + column_added, on planes (H, W): the gate of strips and its gradient. Factors and
# addends have the memory layout of x; both addends are given or neither.
strip_scale = Pass(
    "strip_scale(Tensor x, Tensor rows, Tensor columns, Tensor? row_added, Tensor? column_added) -> Tensor",
    lambda x, *_: torch.empty_like(x),
)


@strip_scale.form("cpu")
def _strip_scale_cpu(
    x: Tensor, rows: Tensor, columns: Tensor, row_added: Tensor | None, column_added: Tensor | None
) -> Tensor:
    y = torch.empty_like(x)
    call(
        "strip_scale", x.dtype, x, rows, columns, row_added, column_added, y, *planes_of(x), y.nbytes >= PAST_THE_CACHE
    )
    return y


# dx = dy where |x| exceeds its channel's threshold, + sign · sign(x).
shrink_gradient = Pass(
    "shrink_gradient(Tensor x, Tensor dy, Tensor threshold, Tensor? sign) -> Tensor", lambda x, *_: torch.empty_like(x)
)


@shrink_gradient.form("cpu")
def _shrink_gradient_cpu(x: Tensor, dy: Tensor, threshold: Tensor, sign: Tensor | None) -> Tensor:
    n, rows, columns, last = memory_layout(x)
    dx = torch.empty_like(x)
    given = (None, threshold, None, sign) if last else (threshold, None, sign, None)
    call("shrink_gradient", x.dtype, x, dy, *given, dx, n, rows, columns, dx.nbytes >= PAST_THE_CACHE)
    return dx


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
    """One program per BLOCK values of x[N][H][W][C]."""
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
    """One program per tile."""
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


# ---- dispatch -------------------------------------------------------------------------------------------------------
def map_gradient(x: Tensor, terms: Terms, impl: str) -> Tensor:
    """The sum of the terms, in the shape, dtype and layout of x, by a form that can run on x."""
    if impl == "reference" or not _gradient.has(impl):
        return reference(x, terms)
    if terms.thresholded:
        given, threshold = terms.thresholded[0]
        dx = shrink_gradient(impl, x, given, threshold, small(_sum(terms.sign), x))
        rest = replace(terms, thresholded=terms.thresholded[1:], sign=[])
        return dx if rest == Terms() else dx + reference(x, rest)
    if terms.strips:
        given, rows, columns = terms.strips[0]
        added = terms.strip_bias[0] if terms.strip_bias else (None, None)
        dx = strip_scale(impl, given, rows, columns, *(strips(t, x) for t in added))
        rest = replace(terms, strips=terms.strips[1:], strip_bias=terms.strip_bias[1:])
        return dx if rest == Terms() else dx + reference(x, rest)
    dy, channel, position = terms.scaled[0] if terms.scaled else (None, None, None)
    max_position, position_value = terms.position_argmax[0] if terms.position_argmax else (None, None)
    channel_argmax = terms.channel_argmax[0] if terms.channel_argmax else (None, None, None)
    max_channel, channel_value, channel_factor = channel_argmax
    dx = _gradient(
        impl,
        x,
        None if dy is None else like(dy, x),
        small(channel, x),
        small(position, x),
        small(_sum(terms.bias), x),
        [small(value, x) for pair in terms.outer[:2] for value in pair],
        small(_sum(terms.times_x), x),
        small(_sum(terms.sign), x),
        max_position,
        small(position_value, x),
        max_channel,
        small(channel_value, x),
        small(channel_factor, x),
    )
    rest = Terms(
        terms.scaled[1:],
        outer=terms.outer[2:],
        position_argmax=terms.position_argmax[1:],
        channel_argmax=terms.channel_argmax[1:],
    )
    rest.strip_bias = terms.strip_bias
    return dx if rest == Terms() else dx + reference(x, rest)


def _sum(values: list[Tensor]) -> Tensor | None:
    return sum(values[1:], values[0]) if values else None
