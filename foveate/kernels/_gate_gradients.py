"""The gradients of the gates of a map: sums of x · dy over positions and over channels, in one read of both."""

import math

import torch
from torch import Tensor

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, layout_of, run, segments_of
from foveate.kernels._tiles import segments_of_all, tiles_of, warps
from foveate.kernels._triton import tl, triton


def _sums_like(
    x: Tensor, dy: Tensor, channel: Tensor | None, position: Tensor | None, wants: list[bool]
) -> list[Tensor]:
    of_channel, of_position = x.shape[:2], (x.shape[0], x[0, 0].numel())
    return [x.new_empty(shape, dtype=computed(x.dtype)) for shape in (of_channel, of_position, of_channel)]


# Gradients of channel (N, C), position (N, P) and added (N, C); those not wanted hold nothing of use.
gate_gradients = Pass(
    "gate_gradients(Tensor x, Tensor dy, Tensor? channel, Tensor? position, bool[] wants) -> Tensor[]", _sums_like
)


@gate_gradients.form("cpu")
def _sums_cpu(
    x: Tensor, dy: Tensor, channel: Tensor | None, position: Tensor | None, wants: list[bool]
) -> list[Tensor]:
    n, rows, columns, last = layout_of(x)
    sums = _sums_like(x, dy, channel, position, wants)
    wanted = [tensor if want else None for tensor, want in zip(sums, wants, strict=True)]
    by_column = [wanted[0], wanted[2]] if last else [wanted[1], None]
    by_row = [wanted[1], None] if last else [wanted[0], wanted[2]]
    segments = segments_of(n, rows)
    parts = [None if t is None else t.new_empty(n, segments, columns) for t in by_column]
    factors = (position, channel) if last else (channel, position)
    scratch = x.new_empty(2 * torch.get_num_threads(), columns, dtype=computed(x.dtype))
    run("products", x, x, dy, *factors, by_row[0], parts[0], by_row[1], parts[1], scratch, segments, n, rows, columns)
    for part, whole in zip(parts, by_column, strict=True):
        if part is not None and whole is not None:
            torch.sum(part, 1, out=whole)
    return sums


# ---- triton ---------------------------------------------------------------------------------------------------------
@triton.jit
def _sums_kernel(
    x_ptr: tl.tensor,
    dy_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    position_ptr: tl.tensor,
    d_channel_ptr: tl.tensor,
    d_position_ptr: tl.tensor,
    d_added_ptr: tl.tensor,
    segments: tl.tensor,
    length: tl.tensor,
    C: tl.tensor,
    P: tl.tensor,
    by_c: tl.tensor,
    by_p: tl.tensor,
    BC: tl.constexpr,
    BP: tl.constexpr,
) -> None:
    """One program a block of channels and a segment of positions: parts (N, segments, C) of the sums over these.

    Sums over channels are whole, for which the block must be of all of them.
    """
    program, down = tl.program_id(0).to(tl.int64), tl.cdiv(C, BC)
    n, segment = program // (down * segments), program % segments
    c = program // segments % down * BC + tl.arange(0, BC)
    first = segment * length
    end = tl.minimum(first + length, P)
    channel = tl.full((BC,), 1.0, tl.float32)
    if channel_ptr is not None:
        channel = tl.load(channel_ptr + n * C + c, mask=c < C, other=0.0)
    of_channel, of_dy = tl.zeros((BC, BP), tl.float32), tl.zeros((BC, BP), tl.float32)
    for start in range(first, end, BP):
        p = start + tl.arange(0, BP)
        inside = (c < C)[:, None] & (p < end)[None, :]
        at = n * C * P + c[:, None] * by_c + p[None, :] * by_p
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        of_dy += dy
        product = dy * tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if d_position_ptr is not None:
            tl.store(d_position_ptr + n * P + p, tl.sum(product * channel[:, None], 0), mask=p < end)
        if position_ptr is not None:
            product = product * tl.load(position_ptr + n * P + p, mask=p < end, other=0.0)[None, :]
        of_channel += product
    part = (n * segments + segment) * C + c
    if d_channel_ptr is not None:
        tl.store(d_channel_ptr + part, tl.sum(of_channel, 1), mask=c < C)
    if d_added_ptr is not None:
        tl.store(d_added_ptr + part, tl.sum(of_dy, 1), mask=c < C)


@gate_gradients.form("triton")
def _sums_triton(
    x: Tensor, dy: Tensor, channel: Tensor | None, position: Tensor | None, wants: list[bool]
) -> list[Tensor]:
    if all(wants):  # at once, the compiler of Triton 3.9 crashes on some channels-last maps
        *first, _ = _sums_triton(x, dy, channel, position, [True, True, False])
        return [*first, _sums_triton(x, dy, None, None, [False, False, True])[2]]
    sums = _sums_like(x, dy, channel, position, wants)
    d_channel, d_position, d_added = (tensor if want else None for tensor, want in zip(sums, wants, strict=True))
    n, channels, positions, *by, block_channels, block_positions = tiles_of(x, kept="channels")
    segments, length, *blocks = 1, positions, block_channels, block_positions
    if d_position is not None:
        segments, length, *blocks = segments_of_all(n, channels, positions)
    wholes = (d_channel, d_added)
    parts = [None if t is None else t if segments == 1 else t.new_empty(n, segments, channels) for t in wholes]
    given = (x, dy, channel, position, parts[0], d_position, parts[1], segments, length, channels, positions)
    grid = (n * -(-channels // blocks[0]) * segments,)
    _sums_kernel[grid](*given, *by, *blocks, num_warps=warps(math.prod(blocks)))
    for part, whole in zip(parts, wholes, strict=True):
        if part is not None and part is not whole:
            torch.sum(part, 1, out=whole)
    return sums
