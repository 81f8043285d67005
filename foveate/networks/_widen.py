"""Any network made wider: the plain network that costs what attention costs.

A wider network should be born as the network's author would have written it, with the author's own initialisation. So
the constructor runs as it is, while the layers that it makes take more channels: every width c becomes the same
round(c · factor) wherever it appears, the image's channels and what follows the number of classes excepted. A width
that a grouped convolution splits becomes the nearest multiple of its groups.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from foveate.networks._head import Build, build_without_memory, find_head

_WIDTHS: dict[type[nn.Module], tuple[str, ...]] = {  # arguments, by the axis of the weight that they are
    nn.Conv1d: ("out_channels", "in_channels"),
    nn.Conv2d: ("out_channels", "in_channels"),
    nn.Conv3d: ("out_channels", "in_channels"),
    nn.Linear: ("out_features", "in_features"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.BatchNorm3d: ("num_features",),
    nn.GroupNorm: ("num_channels",),
    nn.LayerNorm: ("normalized_shape",),
}
_NUMBER = "_foveate_number"  # of a layer, in the order in which the constructor makes them


@dataclass(frozen=True)
class Fixed:
    """What widening leaves as it is.

    classes: number of a layer, in the order of construction → its arguments that follow the number of classes.
    multiples: width → what it stays a multiple of, because a grouped convolution splits it.
    """

    classes: Mapping[int, frozenset[str]] = field(default_factory=dict)
    multiples: Mapping[int, int] = field(default_factory=dict)


@contextmanager
def widened(factor: float, *, in_channels: int, fixed: Fixed) -> Iterator[None]:
    """Networks constructed inside are wider by the factor (1 changes nothing). torch is as it was afterwards.

    Args:
        in_channels: of the image.
        fixed: of the network that is constructed inside, as `fixed_widths` finds it; one network at a time.
    """
    if factor == 1:
        yield
        return

    def change(number: int, layer: nn.Module, names: tuple[str, ...], values: dict[str, Any]) -> None:
        groups = values.get("groups", values.get("num_groups", 1))
        depthwise = groups > 1 and groups == values.get("in_channels")
        for name in names:
            kept = name in fixed.classes.get(number, ()) or (name == "in_channels" and values[name] == in_channels)
            if not kept and isinstance(values[name], int):
                multiple = math.lcm(1 if depthwise else groups, fixed.multiples.get(values[name], 1))
                values[name] = _round(values[name] * factor, multiple)
        if depthwise:
            values["groups"] = values["in_channels"]

    with _each_layer(change):
        yield


@contextmanager
def _each_layer(change: Callable[[int, nn.Module, tuple[str, ...], dict[str, Any]], None]) -> Iterator[None]:
    """Calls `change` before each layer is made, with its number, itself, its widths' names, and its arguments."""
    before = {cls: cls.__init__ for cls in _WIDTHS}
    count = 0

    def counting(init: Callable[..., None], names: tuple[str, ...]) -> Callable[..., None]:
        signature = inspect.signature(init)

        def made(self: nn.Module, *args: Any, **options: Any) -> None:
            nonlocal count
            given = signature.bind(self, *args, **options)
            given.apply_defaults()
            number, count = count, count + 1
            change(number, self, names, given.arguments)
            init(*given.args, **given.kwargs)

        return made

    try:
        for cls, names in _WIDTHS.items():
            setattr(cls, "__init__", counting(cls.__init__, names))  # noqa: B010
        yield
    finally:
        for cls, init in before.items():
            setattr(cls, "__init__", init)  # noqa: B010


@contextmanager
def widened_layers(extra: Mapping[int, tuple[int, int]]) -> Iterator[None]:
    """The network constructed inside has some of its layers wider. torch is as it was afterwards.

    Args:
        extra: number of a layer, in the order of construction → channels more that it takes and that it gives.
    """

    def change(number: int, layer: nn.Module, names: tuple[str, ...], values: dict[str, Any]) -> None:
        if number not in extra:
            return
        taken, given = extra[number]
        depthwise = 1 < values.get("groups", 1) == values.get("in_channels")
        for name, more in zip(names, (given, taken), strict=False):
            old = values[name]
            values[name] = old + more if isinstance(old, int) else (*old[:-1], old[-1] + more)
        if depthwise:
            values["groups"] = values["in_channels"]

    with _each_layer(change):
        yield


def numbered(build: Callable[[], nn.Module]) -> nn.Module:
    """The network without memory; `number_of` gives the numbers of its layers."""

    def note(number: int, layer: nn.Module, names: tuple[str, ...], values: dict[str, Any]) -> None:
        vars(layer)[_NUMBER] = number

    def made() -> nn.Module:
        with _each_layer(note):
            return build()

    return build_without_memory(made)


def number_of(layer: nn.Module) -> int | None:
    """Of a layer of a network made by `numbered`, in the order of construction; None for what cannot be widened."""
    number = vars(layer).get(_NUMBER)
    return number if isinstance(number, int) else None


def _round(width: float, multiple: int) -> int:
    return max(1, round(width / multiple)) * multiple


def fixed_widths(build: Build, num_classes: int) -> Fixed:
    """What stays as it is when the network of `build` (number of classes → network) is widened.

    Raises: ValueError: as `find_head`.
    """
    plain = numbered(lambda: build(num_classes))
    head = find_head(build, num_classes, built=plain)
    classes: dict[int, frozenset[str]] = {}
    multiples: dict[int, int] = {}
    for path, layer in plain.named_modules():
        number = number_of(layer)
        names = next((names for cls, names in _WIDTHS.items() if isinstance(layer, cls)), ())
        axes = head.tensors.get(f"{path}.weight".removeprefix("."), ())
        if number is not None and (own := frozenset(names[axis] for axis in axes if axis < len(names))):
            classes[number] = own
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and 1 < layer.groups < layer.in_channels:
            for width in (layer.in_channels, layer.out_channels):
                multiples[width] = math.lcm(multiples.get(width, 1), layer.groups)
    return Fixed(classes, multiples)


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
