"""Maps as the passes over strips see them: planes (H, W) of numbers that lie side by side in memory, x[N][H][W][C]."""

import math
from typing import NamedTuple, overload

from torch import Tensor

from foveate.kernels._layout import computed, layout_of


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
    return Planes(n, height, width, channels) if layout_of(x).last else Planes(n * channels, height, width, 1)


def strips_like(x: Tensor) -> tuple[Tensor, Tensor]:
    """Room for a number for each row (N, C, H) and for each column (N, C, W), in the order of x in memory."""
    last, (n, channels), dtype = layout_of(x).last, x.shape[:2], computed(x.dtype)
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
    return value.mT.contiguous().mT if layout_of(x).last else value.contiguous()
