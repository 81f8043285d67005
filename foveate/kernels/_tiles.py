"""How the Triton passes divide a map: tiles of channels × positions, in either memory layout."""

from typing import Any, NamedTuple

from torch import Tensor

from foveate.kernels._layout import is_dense, memory_layout
from foveate.kernels._triton import tl, triton

AT_ONCE = 1024  # values of a tile
ALL_AT_ONCE = 4096  # values of a tile with all channels
PROGRAMS = 1024  # approximate number of programs that loop over tiles
NARROW = 32  # width of a tile, along an axis that sums are kept for


class Tiles(NamedTuple):
    """A map (N, C, *S): its sizes with P positions, the strides of channels and positions, and the sizes of a tile."""

    n: int
    channels: int
    positions: int
    by_channel: int
    by_position: int
    block_channels: int
    block_positions: int

    @property
    def down(self) -> int:
        """Number of tiles along the channels."""
        return -(-self.channels // self.block_channels)

    @property
    def across(self) -> int:
        """Number of tiles along the positions."""
        return -(-self.positions // self.block_positions)


def tiles_of(x: Tensor, kept: str = "") -> Tiles:
    """Tiles of a dense map; kept: "channels" or "positions" if sums are kept along that axis."""
    assert is_dense(x)
    n, slow, fast, last = memory_layout(x)
    most = NARROW if kept == ("channels" if last else "positions") else AT_ONCE
    side_by_side = min(power_of_two(fast), most)
    below = min(power_of_two(slow), max(AT_ONCE // side_by_side, 1))
    if last:
        return Tiles(n, fast, slow, 1, fast, side_by_side, below)
    return Tiles(n, slow, fast, fast, 1, below, side_by_side)


class Segments(NamedTuple):
    """Segments of the positions, one a program, and the tiles of a program, each with all channels."""

    segments: int
    length: int
    block_channels: int
    block_positions: int


def segments_of_all(n: int, channels: int, positions: int) -> Segments:
    """Segments for passes that need all channels of a position in one tile."""
    wide = power_of_two(channels)
    block = min(power_of_two(positions), max(ALL_AT_ONCE // wide, 1))
    blocks = -(-positions // block)
    length = -(-blocks // max(PROGRAMS // n, 1)) * block
    return Segments(-(-positions // length), length, wide, block)


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size`."""
    return 1 << (size - 1).bit_length()


def warps(values: int) -> int:
    """Warps of a program with tiles of this many values: at most 16 values a thread, 4 to 32 warps."""
    return min(max(values // 512, 4), 32)


@triton.jit
def spread_further(v: tl.tensor, inside: tl.tensor, middle: tl.tensor, spread: tl.tensor, rounds: tl.tensor) -> Any:
    """One step of Welford's algorithm in every place of a tile: the mean, and the sum of squared distances from it."""
    away = tl.where(inside, v - middle, 0.0)
    middle += away / rounds
    return middle, spread + away * tl.where(inside, v - middle, 0.0)


@triton.jit
def first_largest(v: tl.tensor, inside: tl.tensor, index: tl.tensor, AXIS: tl.constexpr) -> Any:
    """Maximum along an axis of a tile, with NaN as the largest value, and its first index."""
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
    """The larger of the maximum of earlier tiles (place −1: none) and of this one; the earlier if equal."""
    newer = (place < 0) | ((most == most) & ((here > most) | (here != here)))
    return tl.where(newer, here, most), tl.where(newer, at, place)
