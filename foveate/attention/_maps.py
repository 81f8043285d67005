"""Maps (N, C, *S) of one, two or three spatial axes: the layers for each, and the check of what comes in."""

from typing import Any

import torch
from torch import Tensor, nn

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


def conv(spatial_dims: int) -> Any:
    """The convolution class for maps with that many spatial axes."""
    return _CONV[spatial_dims]


def batch_norm(spatial_dims: int) -> Any:
    """The batch-norm class for maps with that many spatial axes."""
    return _BATCH_NORM[spatial_dims]


def max_pool(spatial_dims: int) -> Any:
    """The max-pool class for maps with that many spatial axes."""
    return _MAX_POOL[spatial_dims]


def axes(x: Tensor) -> tuple[int, ...]:
    """The spatial axes of (N, C, *S): (2,), (2, 3) or (2, 3, 4)."""
    return tuple(range(2, x.dim()))


def spread(gate: Tensor, x: Tensor) -> Tensor:
    """(N, C) → (N, C, 1, …), to be broadcast over x (N, C, *S)."""
    return gate.reshape(gate.shape + (1,) * (x.dim() - 2))


PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.Identity)


def unhooked(*modules: nn.Module) -> bool:
    """Whether nothing is hooked to these modules, so that nobody misses their being called."""
    return not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules
    )


def bare(*layers: nn.Module) -> bool:
    """Whether these are torch's own layers with nothing hooked to them: their weights say all that they do."""
    return all(type(layer) in PLAIN for layer in layers) and unhooked(*layers)


def affine(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear layer or a convolution."""
    return layer.weight, layer.bias


def running(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, float] | None:
    """Running mean and variance, weight, bias and ε of a batch norm that takes these and leaves them as they are."""
    if norm.training or not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        return None
    if norm.running_mean is None or norm.running_var is None:
        return None
    return norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps


def check_dims(name: str, spatial_dims: int, allowed: tuple[int, ...] = (1, 2, 3), why: str = "") -> None:
    """Raise ValueError unless the mechanism has a meaning on maps of so many spatial axes; `why` says why not."""
    if spatial_dims not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ValueError(f"{name}: spatial_dims must be {wanted}; got {spatial_dims!r}" + (f" ({why})" if why else ""))


def hidden_width(name: str, channels: int, reduction: int) -> int:
    """C // r, which must not be zero. Raises: ValueError: what was given and what would do."""
    if not isinstance(reduction, int) or reduction < 1:
        raise ValueError(f"{name}: reduction must be a positive whole number; got {reduction!r}")
    if channels < reduction:
        raise ValueError(
            f"{name}: channels // reduction must be at least 1; got {channels} // {reduction} = 0"
            f" (reduction={max(channels // 2, 1)} would do)"
        )
    return channels // reduction


def odd_kernel(name: str, size: int) -> int:
    """The size itself if a map keeps its size under it. Raises: ValueError for even or non-positive sizes."""
    if not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"{name}: kernel_size must be a positive odd number; got {size!r}")
    return size


def check_groups(name: str, channels: int, groups: int, parts: int = 1) -> None:
    """Raise ValueError unless the channels split into so many equal groups of `parts` equal parts each."""
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"{name}: groups must be a positive whole number; got {groups!r}")
    if channels % (groups * parts):
        fit = next((g for g in range(min(groups, channels), 0, -1) if channels % (g * parts) == 0), None)
        hint = f"groups={fit} would do" if fit else f"channels must be a multiple of {parts}"
        wanted = (
            f"a multiple of groups = {groups}" if parts == 1 else f"a multiple of {parts} · groups = {parts * groups}"
        )
        raise ValueError(f"{name}: channels must be {wanted}; got {channels} ({hint})")


def one_of(name: str, option: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ValueError unless the option has one of the allowed values."""
    if value not in allowed:
        raise ValueError(f"{name}: {option} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def check_map(name: str, x: Tensor, channels: int, spatial_dims: int, weight: Tensor | None = None) -> None:
    """Raise ValueError unless x is (N, channels, *S) with so many spatial axes, none empty, in the weights' dtype."""
    if not isinstance(x, Tensor) or x.dim() != spatial_dims + 2 or x.shape[1] != channels:
        letters = ", ".join("DHW"[-spatial_dims:] if spatial_dims > 1 else "L")
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ValueError(f"{name}: wanted a map (N, {channels}, {letters}); got {got}")
    if torch.compiler.is_compiling():
        return
    if x.numel() == 0 and x.shape[0] != 0:
        raise ValueError(f"{name}: the map has an empty axis: {tuple(x.shape)}")
    if isinstance(weight, Tensor) and weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"{name}: the weights are {weight.dtype} but the map is {x.dtype}; convert one or use autocast"
        )
