"""The memory layouts of maps that the passes take, and tensors prepared for them."""

import math
from typing import NamedTuple, overload

import torch
from torch import Tensor

PAST_THE_CACHE = 8 << 20  # bytes; larger maps are written past the cache


def computed(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the computation on maps of this dtype: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_dense(x: Tensor) -> bool:
    """Is a map contiguous or channels-last?"""
    return x.is_contiguous() or x.movedim(1, -1).is_contiguous()


class MemoryLayout(NamedTuple):
    """A dense map (N, C, *S) in memory: rows × columns values a sample; the columns are the channels if `last`."""

    n: int
    rows: int
    columns: int
    last: bool


def memory_layout(x: Tensor) -> MemoryLayout:
    """The layout of a contiguous or channels-last map."""
    n, channels, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    if x.is_contiguous():
        return MemoryLayout(n, channels, positions, False)
    return MemoryLayout(n, positions, channels, True)


def sizes_of(x: Tensor) -> tuple[int, int, int, bool]:
    """N, C, P of a dense map, and whether its channels are last in memory."""
    n, rows, columns, last = memory_layout(x)
    return (n, columns, rows, last) if last else (n, rows, columns, last)


def dense(x: Tensor) -> Tensor:
    """The map itself if it is contiguous or channels-last, else a contiguous copy."""
    return x if is_dense(x) else x.contiguous()


def like(dy: Tensor, x: Tensor) -> Tensor:
    """dy in the memory layout of the dense map x, copied only if it has another."""
    if dy.stride() == x.stride():
        return dy
    return torch.empty_like(x).copy_(dy)


@overload
def small(value: Tensor, x: Tensor) -> Tensor: ...
@overload
def small(value: None, x: Tensor) -> None: ...
@overload
def small(value: Tensor | None, x: Tensor) -> Tensor | None: ...
def small(value: Tensor | None, x: Tensor) -> Tensor | None:
    """A factor or sum as the passes read it: contiguous, in the dtype of the computation on x."""
    if value is None or (value.dtype == computed(x.dtype) and value.is_contiguous()):
        return value
    return value.to(computed(x.dtype)).contiguous()


def segments_of(n: int, rows: int) -> int:
    """Number of parts of the rows of each sample, for an even share among threads; depends on the sizes alone."""
    return 1 if rows < 64 else min(rows // 32, max(1, 16 // n))


class Planes(NamedTuple):
    """A map as planes x[n][height][width][channels]; channels first, each channel is a plane and channels = 1."""

    n: int
    height: int
    width: int
    channels: int


def planes_of(x: Tensor) -> Planes:
    """The planes of a dense map (N, C, *S, W); H is the product of S."""
    n, channels, width = x.shape[0], x.shape[1], x.shape[-1]
    height = math.prod(x.shape[2:-1])
    return Planes(n, height, width, channels) if memory_layout(x).last else Planes(n * channels, height, width, 1)


def strips_like(x: Tensor) -> tuple[Tensor, Tensor]:
    """Empty tensors for the rows (N, C, H) and the columns (N, C, W) of x, in its memory layout."""
    last, (n, channels), dtype = memory_layout(x).last, x.shape[:2], computed(x.dtype)
    height, width = math.prod(x.shape[2:-1]), x.shape[-1]
    if last:
        rows, columns = (x.new_empty(n, side, channels, dtype=dtype).mT for side in (height, width))
    else:
        rows, columns = (x.new_empty(n, channels, side, dtype=dtype) for side in (height, width))
    return rows, columns


@overload
def strips(value: Tensor, x: Tensor) -> Tensor: ...
@overload
def strips(value: None, x: Tensor) -> None: ...
@overload
def strips(value: Tensor | None, x: Tensor) -> Tensor | None: ...
def strips(value: Tensor | None, x: Tensor) -> Tensor | None:
    """Values (N, C, side) in the memory layout of x and the dtype of the computation."""
    if value is None:
        return None
    value = value.to(computed(x.dtype))
    return value.mT.contiguous().mT if memory_layout(x).last else value.contiguous()
