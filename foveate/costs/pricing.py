"""ShuffleNet v2's four guidelines on any network: each place, its price on this machine, and what a change saves."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foveate.costs.latency import Latency, forward_step, interval_of_the_median, time_interleaved, time_settled
from foveate.costs.places import Found, Product, Reading, predicted, product, read
from foveate.costs.roofs import Machine, measure_machine_of
from foveate.costs.trace import Call, Operand, alone, timed, traced
from foveate.counting import Batch, batch_size


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


@dataclass(frozen=True)
class Place:
    """A place of the network that departs from a guideline, over the whole batch.

    guideline: G1 (a 1×1 convolution of unequal widths), G2 (a group convolution), G3 (fragments: parallel branches, or
    small launches in series), G4 (elementwise operators, one after another). where: the module. elements: memory
    access of one image by the paper's formula; least: its lower bound (G1), or that of the ungrouped convolution of
    equal arithmetic on the same input (G2). predicted_ms: at this machine's best rates. measured_ms: where it stands
    in the network, with its 95 % interval; share: of the time of all operators. change: what the guideline asks for;
    saves_predicted_ms, saves_ms: what that would save.
    """

    guideline: str
    where: str
    what: str
    launches: int
    macs: int
    bytes_moved: int
    elements: float | None
    least: float | None
    predicted_ms: float
    measured_ms: Latency | None
    share: float | None
    change: str | None
    saves_predicted_ms: float | None
    saves_ms: Latency | None

    @property
    def ratio(self) -> float | None:
        """Memory access to the least."""
        return None if self.elements is None or not self.least else self.elements / self.least


@dataclass(frozen=True)
class Total:
    """All places of one guideline, none of their operators counted twice.

    checked: how many 1×1 convolutions (G1), convolutions and linear layers (G2) or operators (G3, G4) were checked;
    saves_ms: the sum of the medians of the places.
    """

    guideline: str
    checked: int
    places: int
    launches: int
    predicted_ms: float
    measured_ms: Latency | None
    share: float | None
    saves_predicted_ms: float
    saves_ms: float | None


@dataclass(frozen=True)
class Guidelines:
    """What the guidelines say of a network.

    totals: one for each guideline; places of different guidelines may overlap, so their prices do not add up.
    latency_ms: of one pass. operators_ms: of its operators alone, added up. small_launches: whose work at the machine's
    best rates takes less time than their launch; small_share: their share of operators_ms. unknown: operators whose
    arithmetic is not known.
    """

    places: tuple[Place, ...]
    totals: tuple[Total, ...]
    launches: int
    small_launches: int
    small_share: float | None
    latency_ms: Latency | None
    operators_ms: float | None
    unknown: tuple[str, ...]
    machine: Machine

    def of(self, guideline: str) -> list[Place]:
        """The places of one guideline, in the order in which they run."""
        return [place for place in self.places if place.guideline == guideline]


def guidelines(
    model: nn.Module,
    x: Batch,
    *,
    machine: Machine | None = None,
    measure: bool = True,
    budget_s: float = 15.0,
) -> Guidelines:
    """Read a network against ShuffleNet v2's guidelines G1 to G4, in evaluation mode, and price what they find.

    Args:
        model: any network; left as it was found.
        x: a batch on the device to measure, as `foveate.counting.count` takes it.
        machine: the roofs to predict with; those of x's device and dtype, measured now, where not given.
        measure: False counts and predicts only.
        budget_s: seconds of measuring at most, about; every change gets at least 5 rounds.

    Raises: ValueError: the network refuses x.

    Source: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV
    2018, arXiv:1807.11164. Ours: linear layers over a map's positions are 1×1 convolutions, copies and normalisations
    are elementwise operators, any network is read by its operators.
    """
    machine = machine or measure_machine_of(x)
    passes, latency = None, None
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        if measure:
            calls, passes = timed(model, x, repeats=25, budget_s=budget_s / 6)
            samples = time_interleaved({"model": forward_step(model, x)}, repeats=25, budget_s=budget_s / 6)["model"]
            latency = interval_of_the_median(samples)
        else:
            calls = traced(model, x)
    finally:
        for module, mode in modes.items():
            module.training = mode
    images = batch_size(x)
    reading = read(calls, images, machine)
    changes = [change(place, calls, images, machine) for place in reading.places]
    ratios = _timed(reading.places, changes, calls, 2 * budget_s / 3) if measure else {}
    whole = None if passes is None else _together(passes, range(len(calls))).median
    places = []
    for place, wanted in zip(reading.places, changes, strict=True):
        rows = [calls[i] for i in place.calls]
        cost = predicted(rows, machine)
        now = None if passes is None else _together(passes, place.calls)
        saves = None
        if wanted is not None and passes is not None:
            saves = _saves(passes, place, wanted, ratios.get(signature(place, calls)))
        places.append(
            Place(
                place.guideline,
                place.where,
                place.what,
                launches=len(rows),
                macs=sum(call.row.macs for call in rows),
                bytes_moved=sum(call.row.bytes_read + call.row.bytes_written for call in rows),
                elements=place.elements,
                least=place.least,
                predicted_ms=cost,
                measured_ms=now,
                share=None if now is None or not whole else now.median / whole,
                change=wanted.words if wanted else None,
                saves_predicted_ms=cost - wanted.predicted_ms * wanted.scale if wanted else None,
                saves_ms=saves,
            )
        )
    return Guidelines(
        tuple(places),
        tuple(_total(name, reading, places, calls, passes, machine) for name in reading.checked),
        launches=len(calls),
        small_launches=len(reading.small),
        small_share=None if passes is None or not whole else _together(passes, reading.small).median / whole,
        latency_ms=latency,
        operators_ms=whole,
        unknown=tuple(sorted({call.row.operator for call in calls if call.row.kind == "unknown"})),
        machine=machine,
    )


def _total(
    guideline: str,
    reading: Reading,
    places: Sequence[Place],
    calls: Sequence[Call],
    passes: list[list[float]] | None,
    machine: Machine,
) -> Total:
    of_it = [(set(f.calls), place) for f, place in zip(reading.places, places, strict=True) if f.guideline == guideline]
    outer = [place for own, place in of_it if not any(own < other for other, _ in of_it)]
    numbers = sorted(set().union(*(own for own, _ in of_it)))
    now = None if passes is None else _together(passes, numbers)
    whole = None if passes is None else _together(passes, range(len(calls))).median
    return Total(
        guideline,
        reading.checked[guideline],
        places=len(of_it),
        launches=len(numbers),
        predicted_ms=predicted([calls[i] for i in numbers], machine),
        measured_ms=now,
        share=None if now is None or not whole else now.median / whole,
        saves_predicted_ms=sum(place.saves_predicted_ms or 0.0 for place in outer),
        saves_ms=None if passes is None else sum(place.saves_ms.median for place in outer if place.saves_ms),
    )


def _together(passes: Sequence[Sequence[float]], calls: Iterable[int]) -> Latency:
    """Of these calls added up, over the passes."""
    numbers = tuple(calls)
    if not numbers:
        return Latency(0.0, 0.0, 0.0)
    return interval_of_the_median([sum(one[i] for i in numbers) for one in passes])


def _timed(
    places: Sequence[Found], changes: Sequence[Change | None], calls: Sequence[Call], budget_s: float
) -> dict[object, Latency]:
    """Time of the changed place to that of the place, both alone, in turns; once for places that are alike."""
    distinct = {
        signature(place, calls): (place, wanted)
        for place, wanted in zip(places, changes, strict=True)
        if wanted is not None and wanted.step is not None
    }
    found: dict[object, Latency] = {}
    for key, (place, wanted) in distinct.items():
        assert wanted.step is not None
        steps = {"now": sequence([calls[i] for i in place.calls]), "changed": wanted.step()}
        samples = time_settled(steps, repeats=25, budget_s=budget_s / len(distinct))
        pairs = zip(samples["changed"], samples["now"], strict=True)
        found[key] = interval_of_the_median([wanted.scale * changed / now for changed, now in pairs])
    return found


def _saves(passes: Sequence[Sequence[float]], place: Found, wanted: Change, ratio: Latency | None) -> Latency:
    """Of the place's time in the network, the part that the change saved when both were timed alone; where the change
    leaves nothing to time, all but what remains."""
    if ratio is not None:
        now = _together(passes, place.calls).median
        return Latency(now * (1 - ratio.median), now * (1 - ratio.high), now * (1 - ratio.low))
    gone = [i for i in place.calls if i not in wanted.remains]
    found, left = _together(passes, gone), 0.0 if wanted.remains else wanted.predicted_ms
    return Latency(found.median - left, found.low - left, found.high - left)


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
