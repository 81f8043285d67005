"""Finds repeated units and stages in a trace."""

from __future__ import annotations

from foveate.insertion._branches import CONTAINERS, Branch, gives_features, producer
from foveate.insertion._layouts import Layout, layout_of
from foveate.insertion._probe import CONVOLUTIONS, PRODUCTS, Call, Trace


def find_units(trace: Trace, branches: list[Branch]) -> list[Call]:
    """Blocks in order: modules that close a residual branch, their like without one, modules of several convs."""
    joins = {b.call for b in branches}
    outer = {up for b in joins for up in above(trace, b)}
    innermost = {b for b in joins if b not in outer and trace.calls[b].parent is not None}
    classes = {type(trace.calls[b].module) for b in innermost}
    convolutions: dict[int, int] = {}
    for node in trace.nodes:
        if node.op in CONVOLUTIONS and any(s > 1 for s in node.shape[2:]):
            for index in node.scope:
                convolutions[index] = convolutions.get(index, 0) + 1

    def within(call: Call) -> list[Call]:
        inside = call.parent is not None
        if inside and gives_features(trace, call) and (call.index in innermost or type(call.module) in classes):
            return [call]
        found = [unit for child in call.children for unit in within(trace.calls[child])]
        whole = len(found) == 1 and isinstance(found[0].module, CONTAINERS) and not isinstance(call.module, CONTAINERS)
        if whole and inside and gives_features(trace, call) and convolutions[call.index] > convolutions[found[0].index]:
            return [call]  # a list of convolutions and the one that fuses them
        if found or not inside or type(call.module) in CONTAINERS or not gives_features(trace, call):
            return found
        return [call] if convolutions.get(call.index, 0) >= 2 else []

    found = [unit for root in trace.calls if root.parent is None for unit in within(root)]
    last = max((i for i, unit in enumerate(found) if type(unit.module) in classes), default=len(found) - 1)
    return found[: last + 1]  # heads behind the last residual block are no blocks


def above(trace: Trace, call: int) -> list[int]:
    above: list[int] = []
    parent = trace.calls[call].parent
    while parent is not None:
        above.append(parent)
        parent = trace.calls[parent].parent
    return above


def find_chains(trace: Trace) -> list[Call]:
    """Each convolution with its normalisation and activation, in networks without blocks."""
    consumers: dict[int, list[int]] = {}
    for node in trace.nodes:
        for parent in node.parents:
            consumers.setdefault(parent, []).append(node.index)
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
        if best is not None and best not in found:
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
    """Neighbours whose outputs agree in resolution and, if asked for, width."""
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
