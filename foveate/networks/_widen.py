"""Any network made wider: the plain network that costs what attention costs.

A wider network should be born as the network's author would have written it, with the author's own initialisation. So
the constructor runs as it is, while the layers that it makes take more channels: every width c becomes the same
round(c · factor) wherever it appears, the image's channels and the number of classes excepted. A width that a grouped
convolution splits becomes the nearest multiple of its groups.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_WIDTHS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv1d: ("in_channels", "out_channels"),
    nn.Conv2d: ("in_channels", "out_channels"),
    nn.Conv3d: ("in_channels", "out_channels"),
    nn.Linear: ("in_features", "out_features"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.BatchNorm3d: ("num_features",),
    nn.GroupNorm: ("num_channels",),
    nn.LayerNorm: ("normalized_shape",),
}


@contextmanager
def widened(
    factor: float, *, in_channels: int, num_classes: int, multiples: Mapping[int, int] | None = None
) -> Iterator[None]:
    """Networks constructed inside are wider by the factor (1 changes nothing). torch is as it was afterwards.

    multiples: what a width must stay a multiple of, as `grouped_widths` finds it.
    """
    if factor == 1:
        yield
        return
    before = {cls: cls.__init__ for cls in _WIDTHS}
    try:
        for cls, names in _WIDTHS.items():
            wider = _wider_init(cls.__init__, names, factor, in_channels, num_classes, multiples or {})
            setattr(cls, "__init__", wider)  # noqa: B010
        yield
    finally:
        for cls, init in before.items():
            setattr(cls, "__init__", init)  # noqa: B010


def _wider_init(
    init: Callable[..., None],
    names: tuple[str, ...],
    factor: float,
    in_channels: int,
    num_classes: int,
    multiples: Mapping[int, int],
) -> Callable[..., None]:
    signature = inspect.signature(init)

    def wider(self: nn.Module, *args: Any, **options: Any) -> None:
        given = signature.bind(self, *args, **options)
        given.apply_defaults()
        values = given.arguments
        groups = values.get("groups", values.get("num_groups", 1))
        depthwise = groups > 1 and groups == values.get("in_channels")
        for name in names:
            kept = {"in_channels": in_channels, "out_features": num_classes}.get(name)
            if values[name] != kept and isinstance(values[name], int):
                multiple = math.lcm(1 if depthwise else groups, multiples.get(values[name], 1))
                values[name] = _round(values[name] * factor, multiple)
        if depthwise:
            values["groups"] = values["in_channels"]
        init(*given.args, **given.kwargs)

    return wider


def _round(width: float, multiple: int) -> int:
    return max(1, round(width / multiple)) * multiple


def grouped_widths(build: Callable[[], nn.Module]) -> dict[int, int]:
    """The widths that grouped convolutions of the plain network split, with what they must stay a multiple of.

    The network is built without memory; one that cannot be is taken to have none.
    """
    found: dict[int, int] = {}
    with torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # initialisation of empty tensors
        try:
            layers = list(build().modules())
        except (NotImplementedError, RuntimeError):
            return {}
    for layer in layers:
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and 1 < layer.groups < layer.in_channels:
            for width in (layer.in_channels, layer.out_channels):
                found[width] = math.lcm(found.get(width, 1), layer.groups)
    return found


def widen_until(enough: Callable[[float], bool], *, most: float = 4.0, step: float = 1 / 64) -> float | None:
    """The smallest factor in steps of 1/64 above 1 at which `enough(factor)` holds; None if `most` does not do.

    `enough` is taken to hold for all factors above the first; at most 16 factors are tried.
    """
    low, high = 0, math.ceil((most - 1) / step)
    if not enough(1 + high * step):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(1 + middle * step) else (middle, high)
    return 1 + high * step
