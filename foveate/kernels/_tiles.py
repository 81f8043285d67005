"""Maps as the Triton passes see them: tiles of channels by positions, in either of the two layouts."""

from typing import Any, NamedTuple

from torch import Tensor

from foveate.kernels._layout import memory_layout
from foveate.kernels._triton import tl, triton

AT_ONCE = 1024  # numbers of a tile
ALL_AT_ONCE = 4096  # of one that has all channels
PROGRAMS = 1024  # about how many, where tiles are many for each
NARROW = 32  # of a tile's numbers side by side, where sums are kept for each of them


class Tiles(NamedTuple):
    """A map (N, C, *S) of P positions: its sizes, how far apart channels and positions lie, and a tile's sizes."""

    n: int
    channels: int
    positions: int
    by_channel: int
    by_position: int
    block_channels: int
    block_positions: int

    @property
    def down(self) -> int:
        """How many tiles one above the other cover the channels."""
        return -(-self.channels // self.block_channels)

    @property
    def across(self) -> int:
        """How many tiles side by side cover the positions."""
        return -(-self.positions // self.block_positions)


def tiles_of(x: Tensor, kept: str = "") -> Tiles:
    """Tiles of a dense map; kept: the axis, "channels" or "positions", that sums are kept for, if any."""
    layout = memory_layout(x)
    assert layout is not None
    n, slow, fast, last = layout
    most = NARROW if kept == ("channels" if last else "positions") else AT_ONCE
    side_by_side = min(power_of_two(fast), most)
    below = min(power_of_two(slow), max(AT_ONCE // side_by_side, 1))
    if last:
        return Tiles(n, fast, slow, 1, fast, side_by_side, below)
    return Tiles(n, slow, fast, fast, 1, below, side_by_side)


class Segments(NamedTuple):
    """How positions are cut among programs, and what a program takes at a time: every channel of some of them."""

    segments: int
    length: int
    block_channels: int
    block_positions: int


def segments_of_all(n: int, channels: int, positions: int) -> Segments:
    """Segments for passes that need all channels of a position at a time."""
    wide = power_of_two(channels)
    block = min(power_of_two(positions), max(ALL_AT_ONCE // wide, 1))
    blocks = -(-positions // block)
    length = -(-blocks // max(PROGRAMS // n, 1)) * block
    return Segments(-(-positions // length), length, wide, block)


def power_of_two(size: int) -> int:
    """The least power of two that is not below the size."""
    return 1 << (size - 1).bit_length()


def warps(numbers: int) -> int:
    """Of how many threads (by 32) a program is that holds so many numbers at a time: 16 numbers a thread or fewer."""
    return min(max(numbers // 512, 4), 32)


@triton.jit
def spread_further(v: tl.tensor, inside: tl.tensor, middle: tl.tensor, spread: tl.tensor, rounds: tl.tensor) -> Any:
    """What each place of a tile has seen, with one more number: their mean, and their squares' sum about it."""
    away = tl.where(inside, v - middle, 0.0)
    middle += away / rounds
    return middle, spread + away * tl.where(inside, v - middle, 0.0)


@triton.jit
def first_largest(v: tl.tensor, inside: tl.tensor, index: tl.tensor, AXIS: tl.constexpr) -> Any:
    """The largest values of a tile along an axis, where NaN is largest of all, and the first index that has each."""
    if AXIS == 1:
        index = tl.broadcast_to(index[None, :], v.shape).to(tl.int32)
    else:
        index = tl.broadcast_to(index[:, None], v.shape).to(tl.int32)
    lost = inside & (v != v)
    first_lost = tl.min(tl.where(lost, index, 2147483647), AXIS)
    candidates = tl.where(inside & (v == v), v, -float("inf"))
    most = tl.max(candidates, AXIS)
    equal = inside & (v == tl.expand_dims(most, AXIS))
    first = tl.min(tl.where(equal, index, 2147483647), AXIS)
    spoilt = first_lost < 2147483647
    return tl.where(spoilt, float("nan"), most), tl.where(spoilt, first_lost, first)


@triton.jit
def later_largest(most: tl.tensor, place: tl.tensor, here: tl.tensor, at: tl.tensor) -> Any:
    """Of what earlier tiles held (place -1: nothing yet) and what this one holds, the largest, the first if equal."""
    newer = (place < 0) | ((most == most) & ((here > most) | (here != here)))
    return tl.where(newer, here, most), tl.where(newer, at, place)
