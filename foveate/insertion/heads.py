"""The maps that are given to prediction heads: where "before every classifier" is, in a detector."""

from __future__ import annotations

import fnmatch

from foveate.insertion.layouts import layout_of
from foveate.insertion.places import Places, above, gives_features, site_at
from foveate.insertion.probe import PRODUCTS, Call, Trace
from foveate.insertion.site import Site

DECLARED = "head_inputs"
"""Attribute of a network that says so itself: globs over the modules that give the maps, one or several."""


def head_sites(places: Places) -> list[Site]:
    """A site for each map that is given to prediction heads, in the order of the maps.

    Heads take several maps at once, as those of a feature pyramid: the maps are what the last module returns that
    returns nothing but maps, and whose maps are convolved further, which predictions are not. They are changed behind
    that module, so that levels that are made of one another are not. A network that declares ``head_inputs`` is
    believed.

    Raises:
        LookupError: if no module returns maps together.
    """
    trace = places.trace
    declared = next((getattr(c.module, DECLARED, None) for c in trace.calls if c.parent is None), None)
    if declared is not None:
        patterns = [declared] if isinstance(declared, str) else list(declared)
        calls = [call for call in trace.calls if any(fnmatch.fnmatchcase(call.name, one) for one in patterns)]
        return [site for call in calls for site in _sites(places, call)]
    consumers = trace.consumers()
    together = [call for call in trace.calls if _gives_maps(places, call) and _goes_on(trace, call, consumers)]
    if not together:
        raise LookupError(
            "no head sites: no module of this network returns several maps together, as the backbone of a detector "
            "does; give globs over the modules that give the maps"
        )
    return _sites(places, max(together, key=lambda call: (call.ended, -call.index)))


def _gives_maps(places: Places, call: Call) -> bool:
    trace = places.trace
    if call.parent is None or not call.entries or any(not trace.called_once(n) for n in _names_to(places, call)):
        return False
    return all(len(trace.nodes[node].shape) > 3 and layout_of(trace, node) for _, node in call.entries.values())


def _goes_on(trace: Trace, call: Call, consumers: dict[int, list[int]]) -> bool:
    """Whether a convolution or linear layer takes one of the maps, behind norms and activations at most."""
    open_, seen = [node for _, node in call.entries.values()], set[int]()
    while open_:
        node = open_.pop()
        for after in consumers.get(node, []):
            if trace.nodes[after].op in PRODUCTS and call.index not in trace.nodes[after].scope:
                return True
            if after not in seen and trace.nodes[after].shape == trace.nodes[node].shape:
                seen.add(after)
                open_.append(after)
    return False


def _names_to(places: Places, call: Call) -> list[str]:
    return [call.name, *(places.trace.calls[up].name for up in above(places.trace, call.index))]


def _sites(places: Places, call: Call) -> list[Site]:
    if gives_features(places.trace, call):
        return [site_at(places, call, "head")]
    found = []
    for number, (key, node) in call.entries.items():
        layout = layout_of(places.trace, node)
        if layout is not None:
            title = type(call.module).__name__
            name = f"{call.name}:{key}"
            found.append(
                Site(
                    name,
                    "head",
                    layout.channels,
                    layout.shape,
                    None,
                    call.name,
                    "output",
                    title,
                    layout.name,
                    number,
                    layout.input_shape,
                )
            )
    return found
