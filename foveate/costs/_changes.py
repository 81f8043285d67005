"""What a place would be if it followed its guideline, as operators that can be timed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foveate.costs._machine import Machine
from foveate.costs._places import Found, Product, predicted, product
from foveate.costs._trace import Call, Operand, alone


@dataclass(frozen=True)
class Change:
    """What the guideline asks for.

    predicted_ms: of what remains, at the machine's best rates. step: makes what remains, to be timed against the place;
    None where nothing is left to time. remains: calls of the place that stay. scale: the place's multiply-adds to the
    step's, where widths had to be rounded.
    """

    words: str
    predicted_ms: float
    step: Callable[[], Callable[[], object]] | None = None
    remains: tuple[int, ...] = ()
    scale: float = 1.0


def change(place: Found, calls: Sequence[Call], images: int, machine: Machine) -> Change | None:
    """The change that the place's guideline asks for; None where there is none."""
    if place.guideline == "G4":
        return _fused(place, calls, images, machine)
    if place.guideline == "G3":
        return _merged(place, calls, images, machine)
    one = product(calls[place.calls[0]], images)
    assert one is not None
    if place.guideline == "G1":
        width = _rounded(math.sqrt(one.channels * one.out), one)
        return _narrowed(calls[place.calls[0]], one, width, width, f"equal widths, {width} → {width}", machine)
    c1, c2 = (_rounded(c / math.sqrt(one.groups), one) for c in (one.channels, one.out))
    return _narrowed(calls[place.calls[0]], one, c1, c2, f"no groups, {c1} → {c2}", machine)


def _rounded(width: float, one: Product) -> int:
    """To a multiple of 8 where both widths of the place are, so that vector units are as well filled as before; narrow
    ones to a whole number."""
    step = 8 if one.channels % 8 == 0 and one.out % 8 == 0 and width >= 32 else 1
    return max(1, round(width / step) * step)


def _narrowed(call: Call, one: Product, c1: int, c2: int, words: str, machine: Machine) -> Change:
    """The same convolution or linear layer, ungrouped, of other widths."""
    args = list(call.args)
    if one.linear:
        x, weight = one.x.resized(one.x.shape[0], c1), one.weight.resized(c1, c2)
        args[-2:] = x, weight
        biases = [0] if len(args) == 3 else []
    else:
        x, kernel = one.x.resized(one.images, c1, *one.x.shape[2:]), one.kernel
        weight = one.weight.resized(*((c1, c2) if one.transposed else (c2, c1)), *kernel)
        args[0], args[1], args[8] = x, weight, 1
        biases = [2] if isinstance(args[2], Operand) else []
    for position in biases:
        args[position] = args[position].resized(*args[position].shape[:-1], c2)
    macs = one.images * one.macs * one.groups // (one.channels * one.out) * c1 * c2
    written = one.images * one.positions * c2 * one.x.dtype.itemsize
    return Change(
        words,
        machine.milliseconds(macs, x.bytes + weight.bytes + written, convolution=not one.linear),
        step=lambda: alone(call.func, tuple(args), call.kwargs),
        scale=call.row.macs / macs,
    )


def _merged(place: Found, calls: Sequence[Call], images: int, machine: Machine) -> Change:
    """The place's arithmetic in one launch on its first product's input; without products, one pass over its largest
    operand."""
    products = [found for i in place.calls if (found := product(calls[i], images))]
    macs = sum(calls[i].row.macs for i in place.calls)
    if not products:
        largest = max((o for i in place.calls for o in calls[i].operands), key=lambda o: o.numel)
        moved = 2 * largest.bytes
        return Change("one pass", machine.milliseconds(0, moved), lambda: _elementwise([largest]))
    first, most = products[0], max(products, key=lambda one: one.macs)
    kernel = math.prod(most.kernel) if not most.transposed else 1
    per_channel = first.images * first.positions_in * first.channels * kernel
    out = max(1, round(macs / per_channel))
    written = first.images * first.positions_in * out * first.x.dtype.itemsize
    moved = first.x.bytes + first.channels * out * kernel * first.x.dtype.itemsize + written
    words = f"one {'linear layer' if first.linear else 'convolution'} of equal arithmetic, {first.channels} → {out}"
    return Change(
        words,
        machine.milliseconds(per_channel * out, moved, convolution=not first.linear),
        step=lambda: _dense(first, out, most.kernel if kernel > 1 else ()),
    )


def _dense(one: Product, out: int, kernel: tuple[int, ...]) -> Callable[[], object]:
    if one.linear:
        weight = one.weight.resized(one.channels, out)
        return alone(torch.ops.aten.mm.default, (one.x, weight))
    rank = len(one.x.shape) - 2
    kernel = kernel if len(kernel) == rank else (1,) * rank
    weight = one.weight.resized(out, one.channels, *kernel)
    padding, ones, zeros = [side // 2 for side in kernel], [1] * rank, [0] * rank
    return alone(torch.ops.aten.convolution.default, (one.x, weight, None, ones, padding, ones, False, zeros, 1))


def _fused(place: Found, calls: Sequence[Call], images: int, machine: Machine) -> Change | None:
    """The chain in one launch: its depthwise convolution's, or that of the product before it, or one of its own."""
    inside = set(place.calls)
    depthwise = tuple(i for i in place.calls if calls[i].row.kind == "product")
    if depthwise and len(depthwise) < len(place.calls):
        return Change(
            "fused into its depthwise convolution", predicted([calls[i] for i in depthwise], machine), remains=depthwise
        )
    if depthwise:
        return None
    given = [o for i in place.calls for o in calls[i].operands if o.source not in inside and not o.weight]
    first = calls[place.calls[0]].sources[:1]
    before = calls[first[0]] if first else None
    if before is not None and before.row.kind == "product":
        other = sum(o.bytes for o in given if o.source != first[0])
        return Change("fused into the product before it", other / machine.bandwidth(other) / 1e6)
    if len(place.calls) == 1 or not given:
        return None
    largest = max(given, key=lambda o: o.numel)
    moved = sum(o.bytes for o in given) + largest.bytes
    pair = [largest] * min(2, len(given))
    return Change("fused into one pass", machine.milliseconds(0, moved), lambda: _elementwise(pair))


def _elementwise(operands: list[Operand]) -> Callable[[], object]:
    """One pass that reads these operands, one or two alike, and writes one."""
    if len(operands) == 1:
        return alone(torch.ops.aten.neg.default, (operands[0],))
    return alone(torch.ops.aten.add.Tensor, tuple(operands))


def sequence(calls: Sequence[Call]) -> Callable[[], object]:
    """A step that makes these calls one after another, each on tensors of its own."""
    steps = [call.alone() for call in calls]

    def step() -> None:
        for one in steps:
            one()

    return step


def signature(place: Found, calls: Sequence[Call]) -> Any:
    """Equal for places whose calls are alike, so that they are timed once."""

    def of(value: Any) -> str:
        if isinstance(value, Operand):
            return f"{value.shape}{value.stride}{value.dtype}{value.weight}"
        return "(" + ",".join(map(of, value)) + ")" if isinstance(value, (tuple, list)) else repr(value)

    return place.guideline, tuple(
        (str(calls[i].func), of(calls[i].args), of(list(calls[i].kwargs.items()))) for i in place.calls
    )
