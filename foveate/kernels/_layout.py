"""Maps as the C passes see them: x[N][I][J], with the pointer, the sizes and the type in a function's name."""

import math
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from foveate.kernels import _native
from foveate.kernels._dispatch import STORED

PAST_THE_CACHE = 8 << 20  # bytes of a map from which on its writes go past the cache


class MemoryLayout(NamedTuple):
    """How a dense map (N, C, *S) lies in memory: I rows of J values a sample; channels are the columns if `last`."""

    n: int
    rows: int
    columns: int
    last: bool


def memory_layout(x: Tensor) -> MemoryLayout:
    """The layout of a map that is contiguous or channels-last."""
    n, channels, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    if x.is_contiguous():
        return MemoryLayout(n, channels, positions, False)
    assert x.movedim(1, -1).is_contiguous()
    return MemoryLayout(n, positions, channels, True)


def sizes_of(x: Tensor) -> tuple[int, int, int, bool]:
    """N, C, P of a dense map, and whether its channels are last."""
    n, rows, columns, last = memory_layout(x)
    return (n, columns, rows, last) if last else (n, rows, columns, last)


def dense(x: Tensor) -> Tensor:
    """The map itself if it lies in one of the two layouts, else a contiguous copy."""
    return x if x.is_contiguous() or x.movedim(1, -1).is_contiguous() else x.contiguous()


def like(dy: Tensor, x: Tensor) -> Tensor:
    """dy in the layout of the dense map x, copied only if it lies otherwise."""
    if dy.stride() == x.stride():
        return dy
    return torch.empty_like(x).copy_(dy)


def computed(dtype: torch.dtype) -> torch.dtype:
    """What the passes compute in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@overload
def small(value: Tensor, x: Tensor) -> Tensor: ...
@overload
def small(value: None, x: Tensor) -> None: ...
@overload
def small(value: Tensor | None, x: Tensor) -> Tensor | None: ...
def small(value: Tensor | None, x: Tensor) -> Tensor | None:
    """A small tensor as the passes read it: contiguous, in the dtype that x is computed in."""
    if value is None or (value.dtype == computed(x.dtype) and value.is_contiguous()):
        return value
    return value.to(computed(x.dtype)).contiguous()


def segments_of(n: int, rows: int) -> int:
    """Into how many parts to cut the rows of each sample, so that threads share them evenly; depends on sizes alone."""
    return 1 if rows < 64 else min(rows // 32, max(1, 16 // n))


def pointer(value: Tensor | None) -> int | None:
    return None if value is None else value.data_ptr()


_functions: dict[tuple[str, torch.dtype], Any] = {}


def run(name: str, x: Tensor, *given: Any) -> None:
    """Call the C function of this name for x's dtype: tensors and None become pointers, numbers stay.

    Every argument is 64 bits wide (a pointer or int64_t); the number of threads is put behind the others.
    """
    function = _functions.get((name, x.dtype))
    if function is None:
        stored = STORED[x.dtype]
        function = getattr(_native.library(stored), f"{name}_{stored}")
        function.restype, function.argtypes = None, [_native.word] * (len(given) + 1)
        _functions[name, x.dtype] = function
    function(*[v.data_ptr() if isinstance(v, Tensor) else v or 0 for v in given], torch.get_num_threads())


def run_named(name: str, x: Tensor, *given: Any) -> None:
    """`run`, for a function that is no operator: profilers see it under foveate::NAME."""
    if torch._C._autograd._profiler_enabled():
        with torch.profiler.record_function(f"foveate::{name}"):
            run(name, x, *given)
    else:
        run(name, x, *given)


class Planes(NamedTuple):
    """Channels first, a plane is a channel and `channels` is 1; channels last, a plane is a sample."""

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
    """Room for a number for each row (N, C, H) and for each column (N, C, W), in the order of x in memory."""
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
    """Numbers (N, C, side) as the passes read them: in the order of x in memory and the dtype it is computed in."""
    if value is None:
        return None
    value = value.to(computed(x.dtype))
    return value.mT.contiguous().mT if memory_layout(x).last else value.contiguous()
