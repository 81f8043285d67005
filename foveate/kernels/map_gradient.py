"""The gradient of a map that was read several times, as one pass: a sum of terms that each are dy, small, or both.

    dx = Σ dy · channel · position  +  even  +  a ⊗ b  +  times_x · x  +  sign · sign(x)
       + peak value at one position of each channel  +  hot value at one channel of each position

Written by separate nodes of autograd each term would be a map of its own, written, read and added.
"""

import ctypes
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import PAST_THE_CACHE, layout_of, like, pointer, run, small
from foveate.kernels._planes import strips
from foveate.kernels._term_passes import shrink_gradient, strip_scale
from foveate.kernels._tiles import tiles_of
from foveate.kernels._triton import tl, triton


@dataclass
class Terms:
    """The terms, for a map (N, C, *S) of P positions. `at` are indices, values and factors floating."""

    scaled: list[tuple[Tensor, Tensor | None, Tensor | None]] = field(default_factory=list)  # dy, (N, C), (N, P)
    even: list[Tensor] = field(default_factory=list)  # (N, C)
    outer: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # (N, C), (N, P)
    times_x: list[Tensor] = field(default_factory=list)  # (N, C)
    sign: list[Tensor] = field(default_factory=list)  # (N, C)
    peak: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # at (N, C), value (N, C)
    hot: list[tuple[Tensor, Tensor, Tensor | None]] = field(default_factory=list)  # at (N, P), value, times (N, C)
    strips: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)  # dy, (N, C, H), (N, C, W)
    shrunk: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # dy where |x| is above a threshold (N, C)
    even_strips: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # (N, C, H), (N, C, W)

    def tensors(self) -> list[Tensor]:
        """Everything that the terms are made of."""
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
    for value in terms.even:
        total = total + value.unsqueeze(2)
    for value in terms.times_x:
        total = total + flat * value.unsqueeze(2)
    for value in terms.sign:
        total = total + flat.sign() * value.unsqueeze(2)
    for at, value in terms.peak:
        total = total.scatter_add(2, at.long().unsqueeze(2), value.unsqueeze(2).to(total.dtype))
    for at, value, channel in terms.hot:
        value = value if channel is None else value * channel.gather(1, at.long())
        total = total.scatter_add(1, at.long().unsqueeze(1), value.unsqueeze(1).to(total.dtype))
    for dy, threshold in terms.shrunk:
        total = total + dy.reshape(flat.shape) * (flat.abs() > threshold.unsqueeze(2)) * flat.sign().abs()
    for dy, rows, columns in terms.strips:
        planes = dy.reshape(*dy.shape[:2], -1, dy.shape[-1])
        total = total + (planes * rows.unsqueeze(3) * columns.unsqueeze(2)).reshape(flat.shape)
    for rows, columns in terms.even_strips:
        total = total + (rows.unsqueeze(3) + columns.unsqueeze(2)).reshape(flat.shape)
    return total.to(x.dtype).reshape(x.shape)


# ---- cpu ------------------------------------------------------------------------------------------------------------
_gradient = Pass(
    "map_gradient(Tensor x, Tensor? dy, Tensor? channel, Tensor? position, Tensor? even, Tensor[] outer,"
    " Tensor? times_x, Tensor? sign, Tensor? peak_at, Tensor? peak, Tensor? hot_at, Tensor? hot, Tensor? hot_channel)"
    " -> Tensor",
    lambda x, *_: torch.empty_like(x),
)


class _Parts(ctypes.Structure):
    NAMES = (
        *("x", "dy", "row", "column", "row_added", "column_added", "row_1", "column_1", "row_2", "column_2"),
        *("row_x", "row_sign", "column_x", "column_sign", "hot_row", "hot", "peak", "column_at", "row_at"),
    )
    _fields_ = tuple((name, ctypes.c_void_p) for name in NAMES)


@_gradient.form("cpu")
def _gradient_cpu(
    x: Tensor,
    dy: Tensor | None,
    channel: Tensor | None,
    position: Tensor | None,
    even: Tensor | None,
    outer: list[Tensor],
    times_x: Tensor | None,
    sign: Tensor | None,
    peak_at: Tensor | None,
    peak: Tensor | None,
    hot_at: Tensor | None,
    hot: Tensor | None,
    hot_channel: Tensor | None,
) -> Tensor:
    n, rows, columns, last = layout_of(x)
    given = {"x": x, "dy": dy}
    a_side, b_side = ("column", "row") if last else ("row", "column")  # of channels, of positions
    given |= {a_side: channel, b_side: position, f"{a_side}_added": even}
    given |= {f"{a_side}_x": times_x, f"{a_side}_sign": sign}
    for k in range(len(outer) // 2):
        given |= {f"{a_side}_{k + 1}": outer[2 * k], f"{b_side}_{k + 1}": outer[2 * k + 1]}
    if last:
        given |= {"column_at": peak_at, "hot": peak}
        if hot_at is not None and hot is not None:
            value = hot if hot_channel is None else hot * hot_channel.gather(1, hot_at.long())
            given |= {"row_at": hot_at, "peak": value}
    else:
        given |= {"row_at": peak_at, "peak": peak, "column_at": hot_at, "hot": hot, "hot_row": hot_channel}
    dx = torch.empty_like(x)
    parts = _Parts(*[pointer(given.get(name)) for name in _Parts.NAMES])
    run("gradient", x, ctypes.addressof(parts), dx, n, rows, columns, dx.nbytes >= PAST_THE_CACHE)
    return dx


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _gradient_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    position_ptr: tl.tensor,
    even_ptr: tl.tensor,
    a_ptr: tl.tensor,
    a_position_ptr: tl.tensor,
    b_ptr: tl.tensor,
    b_position_ptr: tl.tensor,
    times_x_ptr: tl.tensor,
    sign_ptr: tl.tensor,
    peak_at_ptr: tl.tensor,
    peak_ptr: tl.tensor,
    hot_at_ptr: tl.tensor,
    hot_ptr: tl.tensor,
    hot_channel_ptr: tl.tensor,
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
    inside, of_c, of_p = (c < C)[:, None] & (p < P)[None, :], n * C + c, n * P + p
    at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
    total = tl.zeros((BC, BP), tl.float32)
    if dy_ptr is not None:
        total = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if channel_ptr is not None:
            total = total * tl.load(channel_ptr + of_c, mask=c < C)[:, None]
        if position_ptr is not None:
            total = total * tl.load(position_ptr + of_p, mask=p < P)[None, :]
    if even_ptr is not None:
        total += tl.load(even_ptr + of_c, mask=c < C)[:, None]
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
    if peak_at_ptr is not None:
        here = tl.load(peak_at_ptr + of_c, mask=c < C, other=-1)[:, None] == p[None, :]
        total += tl.where(here, tl.load(peak_ptr + of_c, mask=c < C, other=0.0)[:, None], 0.0)
    if hot_at_ptr is not None:
        here = tl.load(hot_at_ptr + of_p, mask=p < P, other=-1)[None, :] == c[:, None]
        value = tl.broadcast_to(tl.load(hot_ptr + of_p, mask=p < P, other=0.0)[None, :], (BC, BP))
        if hot_channel_ptr is not None:
            value = value * tl.load(hot_channel_ptr + of_c, mask=c < C, other=0.0)[:, None]
        total += tl.where(here, value, 0.0)
    tl.store(dx_ptr + at, total.to(dx_ptr.dtype.element_ty), mask=inside)


@_gradient.form("triton")
def _gradient_triton(
    x: Tensor,
    dy: Tensor | None,
    channel: Tensor | None,
    position: Tensor | None,
    even: Tensor | None,
    outer: list[Tensor],
    *others: Tensor | None,
) -> Tensor:
    dx, t = torch.empty_like(x), tiles_of(x)
    pairs = (*outer, None, None, None, None)[:4]
    _gradient_kernel[(t.n * t.down * t.across,)](x, dy, channel, position, even, *pairs, *others, dx, *t[1:])
    return dx


# ---- dispatch -------------------------------------------------------------------------------------------------------
def map_gradient(x: Tensor, terms: Terms, impl: str) -> Tensor:
    """The sum of the terms, as x in shape, dtype and layout; impl is one that can run on x."""
    if impl == "reference" or not _gradient.has(impl):
        return reference(x, terms)
    if terms.shrunk:
        given, threshold = terms.shrunk[0]
        dx = shrink_gradient(impl, x, given, threshold, small(_sum(terms.sign), x))
        rest = replace(terms, shrunk=terms.shrunk[1:], sign=[])
        return dx if rest == Terms() else dx + reference(x, rest)
    if terms.strips:
        given, rows, columns = terms.strips[0]
        added = terms.even_strips[0] if terms.even_strips else (None, None)
        dx = strip_scale(impl, given, rows, columns, *(strips(t, x) for t in added))
        rest = replace(terms, strips=terms.strips[1:], even_strips=terms.even_strips[1:])
        return dx if rest == Terms() else dx + reference(x, rest)
    dy, channel, position = terms.scaled[0] if terms.scaled else (None, None, None)
    peak_at, peak = terms.peak[0] if terms.peak else (None, None)
    hot_at, hot, hot_channel = terms.hot[0] if terms.hot else (None, None, None)
    dx = _gradient(
        impl,
        x,
        None if dy is None else like(dy, x),
        small(channel, x),
        small(position, x),
        small(_sum(terms.even), x),
        [small(value, x) for pair in terms.outer[:2] for value in pair],
        small(_sum(terms.times_x), x),
        small(_sum(terms.sign), x),
        peak_at,
        small(peak, x),
        hot_at,
        small(hot, x),
        small(hot_channel, x),
    )
    rest = Terms(terms.scaled[1:], outer=terms.outer[2:], peak=terms.peak[1:], hot=terms.hot[1:])
    rest.even_strips = terms.even_strips
    return dx if rest == Terms() else dx + reference(x, rest)


def _sum(values: list[Tensor]) -> Tensor | None:
    return sum(values[1:], values[0]) if values else None
