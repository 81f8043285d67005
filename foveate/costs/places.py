"""Where a network departs from ShuffleNet v2's guidelines, read from the calls of one pass; counts, no clock.

Source: Ma, Zhang, Zheng, Sun, ECCV 2018, arXiv:1807.11164, section 2. Memory access is in elements an image, as there.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from foveate.costs.roofs import Machine
from foveate.costs.trace import Call, Operand

SERIES = 4  # this many small launches one after another are a fragmented series


@dataclass(frozen=True)
class Product:
    """A convolution, or a linear layer over the positions of a map or sequence, which is a 1×1 convolution.

    positions_in, positions: of its input's and output's map, of one image. kernel: weights of one channel pair.
    """

    x: Operand
    weight: Operand
    channels: int
    out: int
    kernel: tuple[int, ...]
    groups: int
    images: int
    positions_in: int
    positions: int
    linear: bool
    transposed: bool

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.channels

    @property
    def pointwise(self) -> bool:
        return math.prod(self.kernel) == 1 and self.groups == 1

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        positions = self.positions_in if self.transposed else self.positions
        return positions * math.prod(self.kernel) * self.channels * self.out // self.groups


@dataclass(frozen=True)
class Found:
    """One place. calls: the numbers of its calls. elements: memory access of an image; least: the bound (G1), or that
    of the ungrouped convolution of equal arithmetic (G2)."""

    guideline: str
    where: str
    what: str
    calls: tuple[int, ...]
    elements: float | None = None
    least: float | None = None


@dataclass(frozen=True)
class Reading:
    """All places of a network; checked: how many candidates each guideline was checked on; small: calls whose work at
    the machine's best rates takes less time than their launch."""

    places: tuple[Found, ...]
    checked: dict[str, int]
    small: frozenset[int]


def product(call: Call, images: int) -> Product | None:
    """The convolution or linear layer that a call is, or None."""
    if call.row.operator == "aten.convolution":
        x, weight, groups, transposed = call.args[0], call.args[1], call.args[8], bool(call.args[6])
        out, positions = call.row.outputs[0][1], math.prod(call.row.outputs[0][2:])
        positions_in = math.prod(x.shape[2:])
        return Product(
            x, weight, x.shape[1], out, tuple(weight.shape[2:]), groups, x.shape[0], positions_in, positions,
            linear=False, transposed=transposed,
        )  # fmt: skip
    if call.row.operator in ("aten.addmm", "aten.mm"):
        x, weight = call.args[-2:]
        if not weight.weight or x.weight or x.shape[0] <= images:
            return None
        n = images if x.shape[0] % images == 0 else 1
        positions = x.shape[0] // n
        return Product(
            x, weight, weight.shape[0], weight.shape[1], (), 1, n, positions, positions, linear=True, transposed=False
        )
    return None


def memory_access(positions: int, c1: int, c2: int, *, groups: int = 1, kernel: int = 1) -> float:
    """Elements that a convolution reads and writes for one image: hw(c1 + c2) + kernel·c1·c2/g."""
    return positions * (c1 + c2) + kernel * c1 * c2 / groups


def least_memory_access(positions: int, c1: int, c2: int) -> float:
    """The least of all 1×1 convolutions of equal arithmetic B = hw·c1·c2: 2√(hw·B) + B/hw, reached where c1 = c2."""
    arithmetic = positions * c1 * c2
    return 2 * math.sqrt(positions * arithmetic) + arithmetic / positions


def read(calls: Sequence[Call], images: int, machine: Machine) -> Reading:
    """The places of each guideline, in the order in which they run.

    images: of the batch. machine: what is small is small to it.
    """
    products = {i: found for i, call in enumerate(calls) if (found := product(call, images))}
    small = frozenset(i for i, call in enumerate(calls) if _is_small(call, machine))
    graph = _Graph(calls)
    widths = [place for i, one in products.items() if (place := _unequal(calls[i], i, one))]
    grouped = [_grouped(calls[i], i, one) for i, one in products.items() if one.groups > 1 and not one.depthwise]
    branches = list(_branches(calls, products, graph))
    series = list(_series(calls, small, graph, taken={i for place in branches for i in place.calls}))
    light = {i for i, call in enumerate(calls) if is_light(call, products.get(i))}
    chains = [_chain(calls, chain) for chain in _chains(light, graph)]
    pointwise = sum(one.pointwise and not one.transposed for one in products.values())
    checked = {"G1": pointwise, "G2": len(products), "G3": len(calls), "G4": len(calls)}
    return Reading((*widths, *grouped, *branches, *series, *chains), checked, small)


def is_light(call: Call, found: Product | None) -> bool:
    """Whether G4 is about it: elementwise, normalisation, copy, or a depthwise convolution."""
    return call.row.kind in ("elementwise", "normalisation", "copy") or (found is not None and found.depthwise)


def predicted(calls: Iterable[Call], machine: Machine) -> float:
    """Milliseconds of these calls at the machine's best rates."""
    return sum(
        machine.milliseconds(
            call.row.macs,
            call.row.bytes_read + call.row.bytes_written,
            convolution=call.row.operator == "aten.convolution",
        )
        for call in calls
    )


def _is_small(call: Call, machine: Machine) -> bool:
    """Whether its work at the machine's best rates takes less time than its launch."""
    launch = machine.milliseconds(0, 0, convolution=call.row.operator == "aten.convolution")
    return predicted([call], machine) < 2 * launch


def _unequal(call: Call, number: int, one: Product) -> Found | None:
    if not one.pointwise or one.transposed or one.channels == one.out:
        return None
    value = memory_access(one.positions, one.channels, one.out)
    least = least_memory_access(one.positions, one.channels, one.out)
    return Found("G1", _common([call], [0]), _shape(call, one), (number,), value, least)


def _grouped(call: Call, number: int, one: Product) -> Found:
    kernel = math.prod(one.kernel)
    into = one.positions if kernel == 1 else one.positions_in  # a 1×1 convolution reads only what it uses
    fixed = into * one.channels + kernel * one.channels * one.out / one.groups
    value, least = fixed + one.positions * one.out, fixed + one.positions * one.out / one.groups
    return Found("G2", _common([call], [0]), f"{one.groups} groups, {_shape(call, one)}", (number,), value, least)


def _shape(call: Call, one: Product) -> str:
    sides = f"{one.positions} positions" if one.linear else "×".join(map(str, call.row.outputs[0][2:]))
    kernel = f"{'×'.join(map(str, one.kernel))}, " if one.kernel and not one.pointwise else ""
    return f"{kernel}{one.channels} → {one.out} on {sides}"


class _Graph:
    """Who takes whose result. before[i]: the calls that i depends on and i itself, as the bits of a number."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.sources = [call.sources for call in calls]
        self.taken_by: list[list[int]] = [[] for _ in calls]
        self.before: list[int] = []
        for i, sources in enumerate(self.sources):
            bits = 1 << i
            for source in sources:
                bits |= self.before[source]
                self.taken_by[source].append(i)
            self.before.append(bits)


def _branches(calls: Sequence[Call], products: dict[int, Product], graph: _Graph) -> Iterator[Found]:
    """Joins of two or more branches, at least two of them with a convolution, linear layer or pooling of their own."""
    heavy = sum(1 << i for i, call in enumerate(calls) if i in products or call.row.kind == "pooling")
    for i, sources in enumerate(graph.sources):
        if len(sources) < 2:
            continue
        own = []
        for source in sources:
            others = 0
            for other in sources:
                others |= graph.before[other] if other != source else 0
            own.append(graph.before[source] & ~others)
        if sum(bool(bits & heavy) for bits in own) < 2:
            continue
        whole = 0
        for bits in own:
            whole |= bits
        numbers = (*_bits(whole), i)
        lengths = " + ".join(str(bits.bit_count()) for bits in own if bits)
        what = f"{sum(map(bool, own))} branches of {lengths} launches, joined by {_name(calls[i])}"
        yield Found("G3", _common(calls, numbers), what, numbers)


def _series(calls: Sequence[Call], small: frozenset[int], graph: _Graph, taken: set[int]) -> Iterator[Found]:
    """Runs of small launches, each taking the one before it."""
    run: list[int] = []
    for i in range(len(calls) + 1):
        follows = i < len(calls) and i in small and i not in taken and (not run or run[-1] in graph.sources[i])
        if follows:
            run.append(i)
            continue
        if len(run) >= SERIES:
            what = f"{len(run)} small launches in series: {', '.join(_name(calls[n]) for n in run)}"
            yield Found("G3", _common(calls, run), what, tuple(run))
        run = [i] if i < len(calls) and i in small and i not in taken else []


def _chains(light: set[int], graph: _Graph) -> list[list[int]]:
    """Light calls of which each takes the one before it, whose result nobody else takes."""
    chain_of: dict[int, list[int]] = {}
    chains: list[list[int]] = []
    for i in sorted(light):
        before = [s for s in graph.sources[i] if s in light and graph.taken_by[s] == [i] and chain_of[s][-1] == s]
        if before:
            chain_of[i] = chain_of[max(before)]
            chain_of[i].append(i)
        else:
            chain_of[i] = [i]
            chains.append(chain_of[i])
    return chains


def _chain(calls: Sequence[Call], chain: list[int]) -> Found:
    return Found("G4", _common(calls, chain), ", ".join(_name(calls[i]) for i in chain), tuple(chain))


def _name(call: Call) -> str:
    name = call.row.operator.removeprefix("aten.").removeprefix("native_").rstrip("_")
    if name == "convolution" and call.args[8] > 1 and call.args[8] == call.args[0].shape[1]:
        return "depthwise convolution"
    return name


def _common(calls: Sequence[Call], numbers: Sequence[int]) -> str:
    """The path that the modules of these calls share; where there is none, the first and the last."""
    paths = list(dict.fromkeys(calls[i].row.module for i in numbers if calls[i].row.module)) or ["the network"]
    columns = zip(*(path.split(".") for path in paths), strict=False)
    shared = ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, columns))
    return shared or f"{paths[0]} to {paths[-1]}"


def _bits(number: int) -> list[int]:
    return [i for i in range(number.bit_length()) if number >> i & 1]
