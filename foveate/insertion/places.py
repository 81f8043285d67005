"""The places of a network where attention can stand, read from a trace.

First what there is (residual branches by the adds that close them, repeated units, stages), then the :class:`Site` at a
call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from torch import nn

from foveate.insertion.layouts import Layout, layout_of
from foveate.insertion.probe import ACTIVATIONS, CONVOLUTIONS, PRODUCTS, Call, Node, Trace
from foveate.insertion.site import Site

ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})
JOINS = ADDITIONS | {"sub", "sub_", "subtract", "__sub__", "__isub__", "__rsub__", "rsub"}
JOINS |= {"lerp", "lerp_", "addcmul", "addcmul_", "addcdiv", "addcdiv_"}
SQUASHING = frozenset({"sigmoid", "hardsigmoid", "tanh", "hardtanh", "softplus"})
"""Activations that also end predictions: of images, masks and depths."""
TRANSPOSITIONS = frozenset({"transpose", "permute", "swapaxes", "swapdims", "mT", "t"})
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass
class Places:
    """Everything found in one trace."""

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
    return Site(
        call.name,
        kind,
        layout.channels,
        layout.shape,
        stage,
        host.name,
        side,
        title,
        layout.name,
        input_shape=layout.input_shape,
    )


def host_of(places: Places, call: Call) -> Call:
    """The call whose module carries what is put at the end of ``call``.

    For containers and modules made of blocks this is their last child, if its output is the same tensor, so that
    iteration over them, their length and their slices do not change.
    """
    trace = places.trace
    holders = {up for unit in places.units for up in above(trace, unit.index)}
    while call.children and (isinstance(call.module, CONTAINERS) or call.index in holders):
        last = trace.calls[call.children[-1]]
        if last.output != call.output or last.passes_through or not trace.called_once(last.name):
            break
        call = last
    return call


@dataclass(frozen=True)
class Branch:
    """A residual branch: the nodes between its fork and its add, along the main path."""

    call: int
    fork: int
    end: int
    path: tuple[int, ...]
    at: Call

    def convolutions(self, trace: Trace) -> list[int]:
        return [n for n in self.path if trace.nodes[n].op in CONVOLUTIONS]


def gives_features(trace: Trace, call: Call) -> bool:
    """Whether the call's output is a map, in any layout."""
    return call.output is not None and layout_of(trace, call.output) is not None


def producer(trace: Trace, node: int, *, trivial: bool = False) -> Call | None:
    """The innermost module, called once in the pass, whose output is this tensor."""
    ended = sorted(
        (c for c in trace.calls if c.output == node and c.name and trace.called_once(c.name)),
        key=lambda c: (c.ended, -c.index),
    )
    return next((c for c in ended if c.passes_through == trivial and (c.children or not _empty(c))), None)


def consumer(trace: Trace, node: int, by: int) -> Call | None:
    """The innermost module, called once, that takes ``node`` as its only tensor and executes ``by`` on it."""
    for index in reversed(trace.nodes[by].scope):
        call = trace.calls[index]
        if call.inputs == (node,) and call.name and trace.called_once(call.name):
            return call
    return None


def _empty(call: Call) -> bool:
    return isinstance(call.module, CONTAINERS) and not len(call.module)


def find_branches(trace: Trace) -> list[Branch]:
    """Residual branches in the order of their adds, whatever the layout of their tensors."""
    found = []
    for node in trace.nodes:
        joined = _joined_by(trace, node)
        if len(node.shape) > 2 and len(joined) == 2:
            branch = _branch(trace, node, *joined)
            if branch is not None and not (_reduces(trace, branch) and is_head(trace, branch.end)):
                found.append(branch)
    return found


def _joined_by(trace: Trace, node: Node) -> list[int]:
    """The tensors that an operation adds, subtracts or blends; also those of ``torch.stack([...]).sum(0)``."""
    if node.op in JOINS:
        return list(dict.fromkeys(n for n in node.operands if n is not None))
    if node.op in ("sum", "mean") and len(node.parents) == 1:
        stack = trace.nodes[node.parents[0]]
        if stack.op == "stack" and stack.shape[1:] == node.shape:
            return list(stack.parents)
    return []


def _reduces(trace: Trace, branch: Branch) -> bool:
    """Whether the last convolution of a branch has fewer channels out than in, as that of a prediction."""
    convolutions = branch.convolutions(trace)
    if not convolutions:
        return False
    last = trace.nodes[convolutions[-1]]
    source = next((n for n in last.operands if n is not None), None)
    return source is not None and last.shape[1] < trace.nodes[source].shape[1]


def is_head(trace: Trace, node: int) -> bool:
    """Whether a tensor is a prediction: of a convolution without norm and activation, and given out as it is."""
    here = trace.nodes[node]
    while here.op not in CONVOLUTIONS:
        if not here.parents or _makes_features(here.op) or (len(here.parents) > 1 and here.op not in JOINS):
            return False
        here = trace.nodes[max(here.parents)]
    consumers = trace.consumers()
    open_, seen = [here.index], set[int]()
    while open_:
        index = open_.pop()
        if index in trace.outputs:
            return True
        for after in consumers.get(index, []):
            if after not in seen and not _makes_features(trace.nodes[after].op):
                seen.add(after)
                open_.append(after)
    return False


def _makes_features(op: str) -> bool:
    plain = op.removesuffix("_")
    return op in PRODUCTS or "norm" in op or plain in ACTIVATIONS - SQUASHING


def _branch(trace: Trace, add: Node, one: int, other: int) -> Branch | None:
    """What ``add`` joins, if one operand is a block's input (or a projection of it) and the other its branch."""
    if trace.nodes[one].shape != add.shape or trace.nodes[other].shape != add.shape:
        return None
    common = trace.lineage(one) & trace.lineage(other)
    if not common:
        return None
    fork = common.bit_length() - 1
    paths = [_main_path(trace, fork, end) for end in (one, other)]
    if paths[0] is None or paths[1] is None:
        return None
    shortcut, path = sorted((p for p in paths if p is not None), key=lambda p: (_products(trace, p), len(p)))
    if not _is_shortcut(trace, fork, shortcut) or _products(trace, path) <= _products(trace, shortcut):
        return None
    if add.op not in ADDITIONS and shortcut and not _products(trace, shortcut):
        return None  # a difference within a branch, as that of FastViT's mixer and norm
    scope = _scope(trace, add, one, other)
    outside = any(scope not in trace.nodes[n].scope for n in path)
    parent = trace.calls[scope].parent
    if outside and parent is not None and (shortcut[-1] if shortcut else fork) in trace.calls[scope].inputs:
        scope = parent  # the module that adds was handed the skip, as the output layers of BERT are
    if any(scope not in trace.nodes[n].scope for n in path) or _goes_down_and_up(trace, path):
        return None  # a pyramid or decoder that adds what other modules made, not a block around its own branch
    end = path[-1]
    axis, ended = trace.nodes[fork].axis, trace.nodes[end]
    if len(trace.nodes[fork].shape) == len(ended.shape) and axis is not None and axis != ended.axis:
        trace.nodes[end] = replace(ended, axis=axis)  # of x + f(x), x knows it better
        trace.layouts.pop(end, None)
    at = _end_of(trace, fork, end)
    return None if at is None else Branch(scope, fork, end, tuple(path), at)


def _scope(trace: Trace, add: Node, one: int, other: int) -> int:
    """The call that joins: the one that executes the add, or its parent if it does nothing but add."""
    scope = add.scope[-1]
    while (parent := trace.calls[scope].parent) is not None and not any(
        scope in trace.nodes[n].scope for n in (one, other)
    ):
        scope = parent
    return scope


def _main_path(trace: Trace, fork: int, end: int) -> list[int] | None:
    """Nodes from after ``fork`` to ``end``, past gates and side inputs, in order."""
    path: list[int] = []
    here = end
    while here != fork:
        path.append(here)
        node = trace.nodes[here]
        parents = [p for p in node.parents if trace.lineage(p) >> fork & 1]
        if not parents:
            return None
        same = [p for p in parents if trace.nodes[p].shape == node.shape] or parents
        # x * gate(x): x is what the gate was made from; of x + f(x), f(x) is the longer way
        base = [p for p in same if all(trace.lineage(q) >> p & 1 for q in same)]
        here = base[0] if base and node.op not in JOINS else max(same)
    return path[::-1]


def _goes_down_and_up(trace: Trace, path: list[int]) -> bool:
    """Whether the way leads through a smaller map than it ends in, as in decoders."""
    nodes = (trace.nodes[i] for i in path)
    maps = (n for n in nodes if n.axis == 1 and n.is_map and (len(n.shape) > 3 or n.op in CONVOLUTIONS))
    sizes = [math.prod(n.shape[2:]) for n in maps]  # of three axes, a linear layer may be what changed the last
    return bool(sizes) and min(sizes) < sizes[-1]


def _products(trace: Trace, path: list[int]) -> int:
    return sum(trace.nodes[n].op in PRODUCTS for n in path)


def _is_shortcut(trace: Trace, fork: int, path: list[int]) -> bool:
    """The fork itself, or one projection of it: a plain chain, not a slice of its channels."""
    projections = _products(trace, path)
    if projections > 1 or any(len(trace.nodes[n].parents) > 1 for n in path):
        return False
    channels = trace.nodes[path[-1]].shape[1] if path else 0
    start = trace.nodes[fork].shape
    return not path or projections == 1 or len(start) < 3 or channels >= start[1]


def _end_of(trace: Trace, fork: int, end: int) -> Call | None:
    """The module that ends a branch: what made its last tensor, else the last before functional scaling."""
    here, shape = end, trace.nodes[end].shape
    while True:
        found = producer(trace, here)
        if found is not None:
            return found
        parents = trace.nodes[here].parents
        if len(parents) != 1 or parents[0] <= fork or trace.nodes[parents[0]].shape != shape:
            return producer(trace, end, trivial=True) or _before_transposing(trace, here)
        here = parents[0]
        if layout_of(trace, here) is None:
            return producer(trace, end, trivial=True)


def _before_transposing(trace: Trace, node: int) -> Call | None:
    """The module that gave what was only transposed into the node, as an MLP-Mixer's mixing of tokens."""
    made = trace.nodes[node]
    if made.op not in TRANSPOSITIONS or len(made.parents) != 1:
        return None
    call = producer(trace, made.parents[0])
    return call if call is not None and gives_features(trace, call) else None


def find_units(trace: Trace, branches: list[Branch]) -> list[Call]:
    """Blocks in order: modules that close a residual branch, their like without one, modules of several convs."""
    joins = {b.call for b in branches}
    outer = {up for b in joins for up in above(trace, b)}
    innermost = {b for b in joins if b not in outer and trace.calls[b].parent is not None}
    classes: set[type] = {type(trace.calls[b].module) for b in innermost}
    convolutions: dict[int, int] = {}
    for node in trace.nodes:
        if node.op in CONVOLUTIONS and any(s > 1 for s in node.shape[2:]):
            for index in node.scope:
                convolutions[index] = convolutions.get(index, 0) + 1

    roots = [call for call in trace.calls if call.parent is None]
    found = [unit for root in roots for unit in _units_within(trace, root, innermost, classes, convolutions)]
    last = max((i for i, unit in enumerate(found) if type(unit.module) in classes), default=len(found) - 1)
    found = found[: last + 1]  # heads behind the last residual block are no blocks
    return [u for u in found if u.index in innermost or u.output is None or not is_head(trace, u.output)]


def _units_within(
    trace: Trace, call: Call, innermost: set[int], classes: set[type], convolutions: dict[int, int]
) -> list[Call]:
    """The outermost units in a call; ``convolutions``: their number by call."""
    inside = call.parent is not None
    if inside and gives_features(trace, call) and (call.index in innermost or type(call.module) in classes):
        return [call]
    children = (trace.calls[child] for child in call.children)
    found = [unit for child in children for unit in _units_within(trace, child, innermost, classes, convolutions)]
    whole = len(found) == 1 and isinstance(found[0].module, CONTAINERS) and not isinstance(call.module, CONTAINERS)
    if whole and inside and gives_features(trace, call) and convolutions[call.index] > convolutions[found[0].index]:
        return [call]  # a list of convolutions and the one that fuses them
    if found or not inside or type(call.module) in CONTAINERS or not gives_features(trace, call):
        return found
    return [call] if convolutions.get(call.index, 0) >= 2 else []


def above(trace: Trace, call: int) -> list[int]:
    above: list[int] = []
    parent = trace.calls[call].parent
    while parent is not None:
        above.append(parent)
        parent = trace.calls[parent].parent
    return above


def find_chains(trace: Trace) -> list[Call]:
    """Each convolution with its normalisation and activation, in networks without blocks."""
    consumers = trace.consumers()
    found = []
    for node in trace.nodes:
        if node.op not in CONVOLUTIONS or not node.is_map or all(s == 1 for s in node.shape[2:]):
            continue
        here, best = node.index, producer(trace, node.index)
        while len(after := consumers.get(here, [])) == 1:
            after_node = trace.nodes[after[0]]
            if after_node.shape != node.shape or after_node.op in PRODUCTS or len(after_node.parents) > 1:
                break
            if "pool" in after_node.op or "dropout" in after_node.op:
                break
            here = after[0]
            best = producer(trace, here) or best
        if best is not None and best not in found and not is_head(trace, node.index):
            found.append(best)
    return found


def find_stages(trace: Trace, units: list[Call]) -> list[tuple[Call, list[Call]]]:
    """Runs of units of one resolution and width, each with the module that ends it.

    Where the width changes at nearly every unit, as in DPN or GoogLeNet, only the resolution counts.
    """
    runs, by_size = _runs(trace, units, width=True), _runs(trace, units, width=False)
    if len(runs) >= 0.6 * len(units) and len(runs) > 2 * len(by_size):
        runs = by_size
    return [(_stage_end(trace, run, units), run) for run in runs]


def _runs(trace: Trace, units: list[Call], *, width: bool) -> list[list[Call]]:
    """Neighbours whose outputs agree in resolution and, if ``width``, in channels."""
    runs: list[list[Call]] = []
    seen = None
    for unit in units:
        layout = _features(trace, unit)
        shape = (layout.shape, layout.channels if width else None)
        if shape == seen:
            runs[-1].append(unit)
        else:
            runs.append([unit])
        seen = shape
    return runs


def _stage_end(trace: Trace, run: list[Call], units: list[Call]) -> Call:
    """The outermost module that holds units of this run only and ends at the same resolution."""
    end = run[-1]
    size = _features(trace, end).shape
    outside = {up for unit in units if unit not in run for up in above(trace, unit.index)}
    for index in above(trace, end.index):
        call = trace.calls[index]
        if (
            call.parent is None
            or index in outside
            or not gives_features(trace, call)
            or not trace.called_once(call.name)
        ):
            break
        if _features(trace, call).shape != size:
            break
        end = call
    return end


def _features(trace: Trace, call: Call) -> Layout:
    layout = None if call.output is None else layout_of(trace, call.output)
    assert layout is not None, call.name
    return layout
