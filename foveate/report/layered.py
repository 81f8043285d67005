"""Boxes in layers, each below what it takes from, and the lines between them: where they go in a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

GAP, LANE, SWEEPS = 24.0, 16.0, 8  # pixels between boxes, width of a passing line; rounds of straightening


@dataclass(frozen=True)
class Layered:
    """x: centres of the boxes; y: their upper edges. lines: for each (from, to) the points that its line goes through.

    The first box is the input; `width` and `height` are of the whole.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    lines: dict[tuple[int, int], tuple[tuple[float, float], ...]]
    width: float
    height: float


def layered(
    takes: Sequence[Sequence[int]], widths: Sequence[float], heights: Sequence[float], gap: float = GAP
) -> Layered:
    """Places for boxes that take from earlier ones.

    Source: K. Sugiyama, S. Tagawa, M. Toda, Methods for Visual Understanding of Hierarchical System Structures, IEEE
    Transactions on Systems, Man, and Cybernetics 11 (1981); positions within a layer by isotonic regression.

    Args:
        takes: of each box, the numbers of the boxes that it takes from, all smaller than its own.
    """
    layer: list[int] = []
    for sources in takes:
        layer.append(1 + max((layer[s] for s in sources), default=-1))
    chains: dict[tuple[int, int], list[int]] = {}
    below: list[list[int]] = [[] for _ in range(max(layer) + 1)]
    wide, at_layer = list(widths), list(layer)
    above: dict[int, list[int]] = {}
    for box in range(len(takes)):
        below[layer[box]].append(box)
    for box, sources in enumerate(takes):
        for source in sources:
            chain, last = [source], source
            for depth in range(layer[source] + 1, layer[box]):  # a place in every layer that the line passes
                wide.append(LANE)
                at_layer.append(depth)
                below[depth].append(len(wide) - 1)
                above.setdefault(len(wide) - 1, []).append(last)
                last = len(wide) - 1
                chain.append(last)
            above.setdefault(box, []).append(last)
            chains[source, box] = [*chain, box]
    under: dict[int, list[int]] = {}
    for node, parents in above.items():
        for parent in parents:
            under.setdefault(parent, []).append(node)
    _order(below, above, under)
    x = _across(below, wide, above, under)
    tops, y = [], 0.0
    for nodes in below:
        tops.append(y)
        y += max((heights[node] for node in nodes if node < len(takes)), default=0.0) + gap
    left = min(x[node] - wide[node] / 2 for node in range(len(wide)))
    right = max(x[node] + wide[node] / 2 for node in range(len(wide)))
    x = [value - left for value in x]
    lines = {}
    for (source, box), chain in chains.items():
        points = [(x[source], tops[at_layer[source]] + heights[source])]
        for node in chain[1:-1]:
            top = tops[at_layer[node]]
            bottom = tops[at_layer[node] + 1] - gap
            points += [(x[node], top), (x[node], bottom)]
        lines[source, box] = (*points, (x[box], tops[at_layer[box]]))
    count = len(takes)
    return Layered(tuple(x[:count]), tuple(tops[at] for at in layer), lines, right - left, y - gap)


def _order(below: list[list[int]], above: dict[int, list[int]], under: dict[int, list[int]]) -> None:
    """Put the nodes of each layer where those that they are joined to lie."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        layers = range(1, len(below)) if down else range(len(below) - 2, -1, -1)
        for depth in layers:
            beside = below[depth - 1 if down else depth + 1]
            place = {node: at for at, node in enumerate(beside)}
            joined = above if down else under

            def middle(node: int, joined: dict[int, list[int]] = joined, place: dict[int, int] = place) -> float:
                found = [place[other] for other in joined.get(node, []) if other in place]
                return sum(found) / len(found) if found else len(place) / 2

            below[depth].sort(key=middle)


def _across(
    below: list[list[int]], wide: list[float], above: dict[int, list[int]], under: dict[int, list[int]]
) -> list[float]:
    """Centres, each near those that it is joined to, none over another."""
    x = [0.0] * len(wide)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for nodes in below if down else below[::-1]:
            joined = above if down else under
            wanted = []
            for node in nodes:
                others = [x[other] for other in joined.get(node, [])]
                wanted.append(sum(others) / len(others) if others else x[node])
            apart = [0.0]
            for one, other in pairwise(nodes):
                apart.append(apart[-1] + (wide[one] + wide[other]) / 2 + LANE)
            for node, value, offset in zip(
                nodes, _isotonic([w - a for w, a in zip(wanted, apart, strict=True)]), apart, strict=True
            ):
                x[node] = value + offset
    return x


def _isotonic(values: Sequence[float]) -> list[float]:
    """The nearest values that never fall (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2], pools[-1]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return [value for value, count in pools for _ in range(count)]
