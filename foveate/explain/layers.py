"""Layers whose maps can be explained, and those that are explained where nobody names one."""

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from foveate.explain.watch import watched
from foveate.insertion.heads import head_sites
from foveate.insertion.layouts import Layout, layout_of
from foveate.insertion.places import Places, find_places
from foveate.insertion.probe import Trace, nested_tensors, probe
from foveate.networks import is_detector
from foveate.registry import nearest

TRIED = 40  # of the last layers of tokens, where those after the last attention get no gradient


@dataclass(frozen=True)
class Layer:
    """A module that gives a map.

    Attributes:
        name: dotted, as in `model.named_modules()`; of one map among several that a module gives together, its number
            behind a colon, "backbone:2".
        channels: C.
        shape: S, at the example that was run.
        layout: as `foveate.insertion.Site` has it: "NCHW", "NHWC", "NLC+1" (tokens behind one class token), …
        entry: number of the map among those that the module gives together; None where it gives one.
    """

    name: str
    channels: int
    shape: tuple[int, ...]
    layout: str = "NCHW"
    entry: int | None = None

    @property
    def module(self) -> str:
        """Name of the module."""
        return self.name if self.entry is None else self.name.rpartition(":")[0]

    @property
    def prefix(self) -> int:
        """Tokens before the grid."""
        return int(self.layout.partition("+")[2] or 0)

    def as_maps(self, x: Tensor) -> Tensor:
        """What the module gives, as maps (N, C, *S). Raises: ValueError: tokens that are no grid of this shape."""
        if x.is_quantized:
            x = x.dequantize()
        if self.layout.startswith("NLC"):
            grid = self._grid(x.shape[1] - self.prefix)
            return x[:, self.prefix :].mT.unflatten(2, grid)
        if self.layout.startswith("NC("):
            return x.unflatten(2, self._grid(x.shape[2]))
        return x.movedim(-1, 1) if self.layout.endswith("C") else x

    def _grid(self, length: int) -> tuple[int, ...]:
        scale = (length / math.prod(self.shape)) ** (1 / len(self.shape))
        grid = tuple(round(side * scale) for side in self.shape)
        if math.prod(grid) != length:
            raise ValueError(
                f"{self.name}: wanted tokens of a grid like {'×'.join(map(str, self.shape))}; got {length}"
            )
        return grid


def as_example(inputs: Any) -> Any:
    """A batch as `probe` takes it: a list of images is one argument."""
    return (inputs,) if isinstance(inputs, list) else inputs


def list_layers(model: nn.Module, inputs: Any) -> list[Layer]:
    """Every module that gives a map with more than one position, in the order in which the network runs them.

    Args:
        model: any network; it is run once, in evaluation mode, and not changed.
        inputs: a batch (N, C, *S), or a list of images for a detector.

    Raises: LookupError: if there is none.
    """
    trace = probe(model, as_example(inputs))
    found = _layers(trace, _rank(inputs))
    if not found:
        raise LookupError(f"{type(model).__name__}: no module gives a map of its input; there is nothing to explain")
    return found


def find_layers(model: nn.Module, inputs: Any, wanted: str | Sequence[str] | None = None) -> list[Layer]:
    """The layers to explain.

    Where nobody names one: the last map of a classifier before its pooling (of a transformer with a class token, the
    last tokens that the class token still reads); the smallest map of a network that gives a map; the maps that a
    detector gives to its heads.

    Args:
        model, inputs: as of `list_layers`.
        wanted: names or glob patterns of modules; None: found as above.

    Raises: LookupError: if a name or pattern is of no layer with a map; names the nearest.
    """
    trace = probe(model, as_example(inputs))
    every = _layers(trace, _rank(inputs))
    if wanted is not None:
        return _named(every, trace, [wanted] if isinstance(wanted, str) else list(wanted))
    if not every:
        raise LookupError(f"{type(model).__name__}: no module gives a map of its input; there is nothing to explain")
    if is_detector(model):
        return _before_heads(trace) or [every[-1]]
    if any(len(trace.nodes[node].shape) == 2 + _rank(inputs) for node in trace.outputs):
        return [_smallest(find_places(trace), every)]
    ended = {call.name: trace.lineage(call.output) for call in trace.calls if call.output is not None}
    past = 0
    for node in trace.outputs:
        past |= trace.lineage(node)
    used = [layer for layer in every if ended[layer.module] & ~past == 0] or every
    last = used[-1]
    return [_read_by_class_token(model, inputs, used) if last.prefix else last]


def _rank(inputs: Any) -> int:
    """Spatial axes of a sample."""
    return next(nested_tensors(inputs)).dim() - (1 if isinstance(inputs, list) else 2)


def _layers(trace: Trace, rank: int) -> list[Layer]:
    found: dict[int, Layer] = {}
    for call in sorted(trace.calls, key=lambda call: (call.ended, -call.index)):
        if not call.name or call.output is None or not trace.called_once(call.name):
            continue
        layout = layout_of(trace, call.output)
        ranks = (2, 3) if rank == 3 else (rank,)  # frames of clips may stand in the batch
        if layout is not None and len(layout.shape) in ranks and math.prod(layout.shape) > 1:
            found[call.index] = _layer(call.name, layout)
    return list(found.values())


def _layer(name: str, layout: Layout, entry: int | None = None) -> Layer:
    return Layer(name, layout.channels, layout.shape, layout.name, entry)


def _named(every: Sequence[Layer], trace: Trace, patterns: Sequence[str]) -> list[Layer]:
    names = [layer.name for layer in every]
    chosen: dict[str, Layer] = {}
    for pattern in patterns:
        found = {layer.name: layer for layer in every if fnmatch.fnmatchcase(layer.name, pattern)}
        if not found:
            there = [call.name for call in trace.calls if fnmatch.fnmatchcase(call.name, pattern) and call.name]
            why = f"{there[0]!r} gives no map" if there else f"no layer is called {pattern!r}"
            raise LookupError(f"{why}; {nearest(pattern, names)}")
        chosen |= found
    return list(chosen.values())


def _before_heads(trace: Trace) -> list[Layer]:
    try:
        sites = head_sites(find_places(trace))
    except LookupError:
        return []
    numbered = {site: site.attached_to if site.entry is None else f"{site.attached_to}:{site.entry}" for site in sites}
    return [Layer(name, site.channels, site.shape, site.layout, site.entry) for site, name in numbered.items()]


def _smallest(places: Places, every: Sequence[Layer]) -> Layer:
    """The end of the stage with the smallest map, the last of several; without stages the last smallest map."""
    ends = {call.name for call, _ in places.stages}
    among = [layer for layer in every if layer.name in ends] or list(every)
    return min(reversed(among), key=lambda layer: math.prod(layer.shape))


def _read_by_class_token(model: nn.Module, inputs: Any, layers: Sequence[Layer]) -> Layer:
    """The last norm whose tokens of the grid get a gradient of the output; without one, the last layer of that sort."""
    tried = [layer for layer in layers if layer.prefix and layer.channels == layers[-1].channels][-TRIED:]
    with watched(model, tried, gradients=True) as seen:
        gradients = seen.gradients(_largest(model(inputs)))
    reached = [layer for layer in tried if gradients[layer.name].abs().amax() > 0]
    norms = [layer for layer in reached if "norm" in type(model.get_submodule(layer.module)).__name__.lower()]
    return next(reversed(norms or reached), layers[-1])


def _largest(given: Any) -> Tensor:
    first = next(nested_tensors(given))
    return first.flatten(1).amax(1).sum()
