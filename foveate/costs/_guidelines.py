"""ShuffleNet v2's four guidelines, asked of any network: place by place, with the price on this machine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate.costs._changes import Change, change, sequence, signature
from foveate.costs._latency import Latency, forward_step, interval_of_the_median, time_interleaved
from foveate.costs._machine import Machine
from foveate.costs._machine import machine as measured_machine
from foveate.costs._places import Found, Reading, predicted, read
from foveate.costs._settled import time_settled
from foveate.costs._trace import Call, timed, traced


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

    checked: how many 1×1 convolutions (G1), convolutions and linear layers (G2) or operators (G3, G4) were asked;
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
    x: Tensor,
    *,
    machine: Machine | None = None,
    measure: bool = True,
    budget_s: float = 15.0,
) -> Guidelines:
    """Read a network against ShuffleNet v2's guidelines G1 to G4, in evaluation mode, and price what they find.

    Args:
        model: any network; left as it was found.
        x: a batch on the device to measure.
        machine: the roofs to predict with; those of x's device and dtype, measured now, where not given.
        measure: False counts and predicts only.
        budget_s: seconds of measuring at most, about; every change gets at least 5 rounds.

    Raises: ValueError: the network refuses x.

    Source: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV
    2018, arXiv:1807.11164. Ours: linear layers over a map's positions are 1×1 convolutions, copies and normalisations
    are elementwise operators, any network is read by its operators.
    """
    machine = machine or measured_machine(x.device, dtype=x.dtype if x.dtype.is_floating_point else torch.float32)
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
    images = int(x.shape[0])
    reading = read(calls, images, machine)
    changes = [change(place, calls, images, machine) for place in reading.places]
    ratios = _timed(reading.places, changes, calls, 2 * budget_s / 3) if measure else {}
    whole = None if passes is None else _together(passes, range(len(calls))).median
    places = []
    for place, asked in zip(reading.places, changes, strict=True):
        rows = [calls[i] for i in place.calls]
        cost = predicted(rows, machine)
        now = None if passes is None else _together(passes, place.calls)
        saves = None
        if asked is not None and passes is not None:
            saves = _saves(passes, place, asked, ratios.get(signature(place, calls)))
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
                change=asked.words if asked else None,
                saves_predicted_ms=cost - asked.predicted_ms * asked.scale if asked else None,
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
        signature(place, calls): (place, asked)
        for place, asked in zip(places, changes, strict=True)
        if asked is not None and asked.step is not None
    }
    found: dict[object, Latency] = {}
    for key, (place, asked) in distinct.items():
        assert asked.step is not None
        steps = {"now": sequence([calls[i] for i in place.calls]), "changed": asked.step()}
        samples = time_settled(steps, repeats=25, budget_s=budget_s / len(distinct))
        pairs = zip(samples["changed"], samples["now"], strict=True)
        found[key] = interval_of_the_median([asked.scale * changed / now for changed, now in pairs])
    return found


def _saves(passes: Sequence[Sequence[float]], place: Found, asked: Change, ratio: Latency | None) -> Latency:
    """Of the place's time in the network, the part that the change saved when both were timed alone; where the change
    leaves nothing to time, all but what remains."""
    if ratio is not None:
        now = _together(passes, place.calls).median
        return Latency(now * (1 - ratio.median), now * (1 - ratio.high), now * (1 - ratio.low))
    gone = [i for i in place.calls if i not in asked.remains]
    found, left = _together(passes, gone), 0.0 if asked.remains else asked.predicted_ms
    return Latency(found.median - left, found.low - left, found.high - left)
