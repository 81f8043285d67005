"""The places of a network where attention can stand, as read from a trace."""

from __future__ import annotations

from dataclasses import dataclass, field

from foveate.insertion._branches import CONTAINERS, Branch, find_branches, gives_features
from foveate.insertion._layouts import layout_of
from foveate.insertion._probe import Call, Trace
from foveate.insertion._stages import above, find_chains, find_stages, find_units


@dataclass(frozen=True)
class Site:
    """A place where an attention module can stand.

    Attributes:
        name: dotted name of the module that was asked for, such as ``"layer3"``.
        kind: ``"block"`` (end of a residual branch or of a repeated unit), ``"stage"`` (last map before resolution or
            width changes) or ``"module"`` (any module that gives a map).
        channels: C of the features there.
        shape: S, the spatial sizes at the example that was probed; of tokens, those of their grid.
        stage: number of the stage it lies in, from 1; None outside of all stages.
        attached_to: dotted name of the module that carries the attention; differs from ``name`` for containers, whose
            last child stands for them.
        side: ``"output"``; ``"input"`` where only the next module's input is the wanted tensor; ``"instead"`` where
            the module itself is bypassed.
        module: class name of the module called ``name``.
        layout: ``"NCHW"``, ``"NHWC"``, ``"NLC+1"``, ...: channels second, channels last, or tokens (here behind one
            class token), ``"NC(HW)"``: tokens second. Attention sees ``(N, C, *S)`` in each.
    """

    name: str
    kind: str
    channels: int
    shape: tuple[int, ...]
    stage: int | None
    attached_to: str
    side: str = "output"
    module: str = ""
    layout: str = "NCHW"

    @property
    def prefix(self) -> int:
        """Tokens before the grid, which attention never sees."""
        return int(self.layout.partition("+")[2] or 0)


@dataclass
class Places:
    """All that was found in one trace."""

    trace: Trace
    branches: list[Branch] = field(default_factory=list)
    units: list[Call] = field(default_factory=list)
    stages: list[tuple[Call, list[Call]]] = field(default_factory=list)
    unknown: list[Branch] = field(default_factory=list)  # residual branches of tensors whose layout is not understood

    def stage_of(self, call: int) -> int | None:
        """Number, from 1, of the stage whose units hold the call, or whose units alone lie in the same parent."""
        trace = self.trace
        number = {unit.index: i for i, (_, units) in enumerate(self.stages, 1) for unit in units}
        for up in (call, *above(trace, call)):
            if up in number:
                return number[up]
            inside = {i for unit, i in number.items() if up in above(trace, unit)}
            if inside:
                return inside.pop() if len(inside) == 1 and trace.calls[up].parent is not None else None
        return None


def find_places(trace: Trace) -> Places:
    """Branches, units and stages of a trace."""
    branches = find_branches(trace)
    known = [branch for branch in branches if gives_features(trace, branch.at)]
    places = Places(trace, known, unknown=[branch for branch in branches if branch not in known])
    places.units = find_units(trace, places.branches)
    if not places.branches and len(places.units) < 2:
        places.units = [] if places.unknown else find_chains(trace)
    places.stages = find_stages(trace, places.units)
    return places


def site_at(places: Places, call: Call, kind: str, side: str = "output") -> Site:
    """The site at a call's output, or at the single tensor that enters it."""
    trace = places.trace
    node = call.output if side == "output" else call.inputs[0]
    assert node is not None, call.name
    host = host_of(places, call) if side == "output" else call
    layout = layout_of(trace, node)
    assert layout is not None, call.name
    stage = places.stage_of(call.index)
    if kind == "stage":
        stage = next(i for i, (end, _) in enumerate(places.stages, 1) if end is call)
    title = type(call.module).__name__
    return Site(call.name, kind, layout.channels, layout.shape, stage, host.name, side, title, layout.name)


def host_of(places: Places, call: Call) -> Call:
    """The call whose module carries what is put at the end of ``call``.

    Containers and modules made of blocks hand it down to their last child where that gives the same tensor, so that
    iterating over them, their length and slices stay as they were.
    """
    trace = places.trace
    holders = {up for unit in places.units for up in above(trace, unit.index)}
    while call.children and (isinstance(call.module, CONTAINERS) or call.index in holders):
        last = trace.calls[call.children[-1]]
        if last.output != call.output or last.passes_through or not trace.called_once(last.name):
            break
        call = last
    return call
