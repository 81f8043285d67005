"""How wide 1×1 layers must be at the sites of an attention to have its parameters or its multiply-adds.

Each layer has three widths (`foveate.attention.PositionwiseLayer`): of channels C and N cells, a hidden channel has 2·C
parameters and 2·C·N multiply-adds, a scaled channel 1 and N, a shifted channel 1 and 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.controls import Layer

CLOSE = 0.002  # of a site's multiply-adds: a grid that leaves less than this open is taken
MOST_SHARE = 64.0  # hidden channels to channels, the widest layers that are measured


@dataclass(frozen=True)
class Place:
    """A site of an attention, and the parameters and multiply-adds of a sample that the attention has there."""

    channels: int
    shape: tuple[int, ...]
    parameters: int
    macs: int


def layers_of_parameters(places: Sequence[Place], total: int) -> tuple[Layer, ...]:
    """Layers with `total` parameters together, each site's in proportion to its attention's; exact."""
    layers = []
    for place, own in zip(places, _parts([place.parameters for place in places], total), strict=True):
        hidden, rest = divmod(own, 2 * place.channels)
        scaled = min(rest, place.channels)
        layers.append(Layer(hidden=hidden, scaled=scaled, shifted=rest - scaled))
    return tuple(layers)


def layers_of_macs(places: Sequence[Place], total: int) -> tuple[Layer, ...]:
    """Layers with about `total` multiply-adds of a sample together, each site's in proportion to its attention's.

    What a site's layer leaves open is added to the next, coarsest sites first. A site with fewer than those of one
    hidden channel at every position has its layer on a coarser grid.
    """
    layers: dict[int, Layer] = {}
    own = _parts([place.macs for place in places], total)
    order = sorted(range(len(places)), key=lambda i: -places[i].channels * math.prod(places[i].shape))
    left = 0
    for i in order:
        layers[i], left = _layer(places[i], own[i] + left, closely=i == order[-1])
    return tuple(layers[i] for i in range(len(places)))


def layers_of_share(places: Sequence[Place], share: float) -> tuple[Layer, ...]:
    """Layers of about `share` hidden channels for each channel; they grow one after another as the share grows."""
    count = len(places)
    return tuple(Layer(hidden=int(share * place.channels + i / count)) for i, place in enumerate(places))


def channels_more(widths: Sequence[tuple[int, int]], total: int) -> list[int]:
    """How many channels more each width of (channels, cost of one more) gets, so that they cost about `total` together.

    All grow in proportion, as far as whole channels allow; what is left open goes to the one or two widths, a few
    channels each, that come nearest.
    """
    share = total / sum(channels * cost for channels, cost in widths)
    more = [int(share * channels) for channels, _ in widths]
    costs = [cost for _, cost in widths]
    left = total - sum(n * cost for n, cost in zip(more, costs, strict=True))
    best: tuple[float, tuple[tuple[int, int], ...]] = (abs(left), ())
    for i, first in enumerate(costs):
        for a in range(left // first + 2):
            rest = left - a * first
            for j, second in enumerate(costs[i + 1 :], i + 1):
                b = max(0, round(rest / second))
                best = min(best, (abs(rest - b * second), ((i, a), (j, b))))
            best = min(best, (abs(rest), ((i, a),)))
    for i, n in best[1]:
        more[i] += n
    return more


def _layer(place: Place, macs: int, *, closely: bool) -> tuple[Layer, int]:
    """A layer with at most these multiply-adds, and how many are left; `closely` tries every grid."""
    best: tuple[Layer, int] | None = None
    for grid in _grids(place, macs, closely):
        cells = math.prod(min(grid, size) if grid else size for size in place.shape)
        hidden, rest = divmod(macs, 2 * place.channels * cells)
        scaled = min(place.channels, rest // cells)
        found = Layer(hidden=hidden, scaled=scaled, grid=grid), rest - scaled * cells
        if best is None or found[1] < best[1]:
            best = found
        if best[1] <= CLOSE * macs:
            break
    assert best is not None
    return best


def _grids(place: Place, macs: int, closely: bool) -> list[int]:
    """Grids with one hidden channel at least, where the multiply-adds allow one; the finest first, 0: all positions."""
    sizes = range(max(place.shape) - 1, 0, -1)
    fitting = [0, *sizes]
    for grid in (0, *sizes):
        cells = math.prod(min(grid, size) if grid else size for size in place.shape)
        if 2 * place.channels * cells <= macs:
            break
        fitting.remove(grid)
    return (fitting if closely else fitting[:1]) or [1]


def _parts(shares: Sequence[int], total: int) -> list[int]:
    """Whole numbers in proportion to the shares (equal ones where all are 0) that add up to the total."""
    if sum(shares) == total:
        return list(shares)
    whole = sum(shares)
    ends = [
        round(total * (sum(shares[: i + 1]) / whole if whole else (i + 1) / len(shares))) for i in range(len(shares))
    ]
    return [end - before for before, end in zip([0, *ends], ends, strict=False)]
