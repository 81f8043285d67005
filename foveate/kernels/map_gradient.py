"""The gradient of a map that was read several times, as one pass: a sum of terms that each are dy, small, or both.

    dx = Σ dy · channel · position  +  even  +  a ⊗ b  +  times_x · x  +  sign · sign(x)
       + peak value at one position of each channel  +  hot value at one channel of each position

Written by separate nodes of autograd each term would be a map of its own, written, read and added.
"""

import ctypes
from dataclasses import dataclass, field

import torch
from torch import Tensor

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import PAST_THE_CACHE, layout_of, like, pointer, run, small


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


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, terms: Terms) -> Tensor:
    flat = x.flatten(2)
    total = torch.zeros_like(flat)
    for dy, channel, position in terms.scaled:
        term = dy.flatten(2)
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


# ---- dispatch -------------------------------------------------------------------------------------------------------
def map_gradient(x: Tensor, terms: Terms, impl: str) -> Tensor:
    """The sum of the terms, as x in shape, dtype and layout; impl is one that can run on x."""
    if impl == "reference" or not _gradient.has(impl):
        return reference(x, terms)
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
    rest = Terms(scaled=terms.scaled[1:], outer=terms.outer[2:], peak=terms.peak[1:], hot=terms.hot[1:])
    return dx + reference(x, rest) if rest.scaled or rest.outer or rest.peak or rest.hot else dx


def _sum(values: list[Tensor]) -> Tensor | None:
    return sum(values[1:], values[0]) if values else None
