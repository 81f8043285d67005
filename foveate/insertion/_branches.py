"""Finds residual branches in a trace by the adds that close them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import nn

from foveate.insertion._layouts import layout_of
from foveate.insertion._probe import CONVOLUTIONS, PRODUCTS, Call, Node, Trace

ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})
TRANSPOSITIONS = frozenset({"transpose", "permute", "swapaxes", "swapdims", "mT", "t"})
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


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
        if node.op in ADDITIONS and len(node.shape) > 2 and len(set(node.operands) - {None}) == 2:
            branch = _branch(trace, node)
            if branch is not None:
                found.append(branch)
    return found


def _branch(trace: Trace, add: Node) -> Branch | None:
    """What ``add`` joins, if one operand is a block's input (or a projection of it) and the other its branch."""
    one, other = (n for n in add.operands if n is not None)
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
    scope = _scope(trace, add, one, other)
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
        here = base[0] if base and node.op not in ADDITIONS else max(same)
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
