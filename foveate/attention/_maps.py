"""Maps (N, C, *S) of one, two or three spatial axes: the layer classes for each, and checks of maps and options."""

from typing import Any

import torch
from torch import Tensor, nn

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


def conv(spatial_dims: int) -> Any:
    """The convolution class for this number of spatial axes."""
    return _CONV[spatial_dims]


def batch_norm(spatial_dims: int) -> Any:
    """The batch-norm class for this number of spatial axes."""
    return _BATCH_NORM[spatial_dims]


def max_pool(spatial_dims: int) -> Any:
    """The max-pool class for this number of spatial axes."""
    return _MAX_POOL[spatial_dims]


def axes(x: Tensor) -> tuple[int, ...]:
    """The spatial axes of (N, C, *S): (2,), (2, 3) or (2, 3, 4)."""
    return tuple(range(2, x.dim()))


def spread(gate: Tensor, x: Tensor) -> Tensor:
    """(N, C) → (N, C, 1, …), which broadcasts against x (N, C, *S)."""
    return gate.reshape(gate.shape + (1,) * (x.dim() - 2))


def check_dims(name: str, spatial_dims: int, allowed: tuple[int, ...] = (1, 2, 3), why: str = "") -> None:
    """Raise ValueError unless spatial_dims is one of the allowed numbers; `why` is added to the message."""
    if spatial_dims not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ValueError(f"{name}: spatial_dims must be {wanted}; got {spatial_dims!r}" + (f" ({why})" if why else ""))


def hidden_width(name: str, channels: int, reduction: int) -> int:
    """C // r. Raises: ValueError: it is 0, or r is not a positive whole number."""
    if not isinstance(reduction, int) or reduction < 1:
        raise ValueError(f"{name}: reduction must be a positive whole number; got {reduction!r}")
    if channels < reduction:
        raise ValueError(
            f"{name}: channels // reduction must be at least 1; got {channels} // {reduction} = 0"
            f" (reduction={max(channels // 2, 1)} would do)"
        )
    return channels // reduction


def odd_kernel(name: str, size: int) -> int:
    """The kernel size. Raises: ValueError: it is even or not positive."""
    if not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"{name}: kernel_size must be a positive odd number; got {size!r}")
    return size


def check_groups(name: str, channels: int, groups: int, parts: int = 1, option: str = "groups") -> None:
    """Raise ValueError unless the channels are a multiple of groups · parts; `option` is what the groups are called."""
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"{name}: {option} must be a positive whole number; got {groups!r}")
    if channels % (groups * parts):
        fit = next((g for g in range(min(groups, channels), 0, -1) if channels % (g * parts) == 0), None)
        hint = f"{option}={fit} would do" if fit else f"channels must be a multiple of {parts}"
        wanted = (
            f"a multiple of {option} = {groups}"
            if parts == 1
            else f"a multiple of {parts} · {option} = {parts * groups}"
        )
        raise ValueError(f"{name}: channels must be {wanted}; got {channels} ({hint})")


def one_of(name: str, option: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}: {option} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def check_map(name: str, x: Tensor, channels: int | None, spatial_dims: int, weight: Tensor | None = None) -> None:
    """Raise ValueError unless x is (N, channels, *S), S of `spatial_dims` axes, none empty, in the weight's dtype.

    channels: None: any number.
    """
    if not isinstance(x, Tensor) or x.dim() != spatial_dims + 2 or channels not in (None, x.shape[1]):
        letters = ", ".join("DHW"[-spatial_dims:] if spatial_dims > 1 else "L")
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ValueError(f"{name}: wanted a map (N, {channels or 'C'}, {letters}); got {got}")
    if torch.compiler.is_compiling():
        return
    if x.numel() == 0 and x.shape[0] != 0:
        raise ValueError(f"{name}: the map has an empty axis: {tuple(x.shape)}")
    if isinstance(weight, Tensor) and weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"{name}: the weights are {weight.dtype} but the map is {x.dtype}; convert one or use autocast"
        )
