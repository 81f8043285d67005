"""Widths inside a network that can grow alone: from one layer to the next, with norms and activations between them.

Seen in a traced pass: the channels that a convolution or linear layer gives and that reach other such layers by norms,
activations, pooling and depthwise convolutions alone. Where they are added, joined, split or given out, they are none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foveate.insertion.probe import ACTIVATIONS, CONVOLUTIONS, Node, Trace, probe
from foveate.networks._widen import number_of, numbered

_PASSING = {"dropout", "contiguous", "permute", "transpose", "flatten", "mean", "dropout1d", "dropout2d", "dropout3d"}
Widths = tuple[tuple[int, int, int], ...]  # number of a layer, channels more that it takes, and that it gives


@dataclass(frozen=True)
class InnerWidth:
    """One width: the layers that have it, and what one channel more costs.

    layers: number in the order of construction, whether the layer takes these channels, whether it gives them.
    """

    layers: tuple[tuple[int, bool, bool], ...]
    channels: int
    parameters: int
    macs: int


def inner_widths(build: Callable[[], nn.Module], example: Any) -> list[InnerWidth]:
    """The inner widths of the network, in the order of its layers; of two that share a layer the first, so that costs
    add up.

    Args:
        example: of one item, on the meta device.
    """
    model = numbered(build).eval()
    trace = probe(model, example)
    finder = _Finder(trace)
    found, taken = list[InnerWidth](), set[int]()
    for node in trace.nodes:
        width = finder.find(node)
        numbers = {number for number, *_ in width.layers} if width else set()
        if width is not None and not numbers & taken:
            found.append(width)
            taken |= numbers
    return found


def extra_layers(widths: list[InnerWidth], more: list[int]) -> Widths:
    """How much wider each layer is where each of the widths has so many channels more."""
    extra: dict[int, list[int]] = {}
    for width, channels in zip(widths, more, strict=True):
        for number, taken, given in width.layers:
            both = extra.setdefault(number, [0, 0])
            both[0] += channels * taken
            both[1] += channels * given
    return tuple((number, taken, given) for number, (taken, given) in sorted(extra.items()) if taken or given)


class _Finder:
    def __init__(self, trace: Trace) -> None:
        self.trace, self.consumers = trace, trace.consumers()

    def find(self, start: Node) -> InnerWidth | None:
        """The width of the channels that the layer at this node gives; None where they are no inner ones."""
        layer = self._layer(start)
        if not _is_product(start) or layer is None or getattr(layer, "groups", 1) > 1:
            return None
        channels: int = layer.weight.shape[0]
        parts = [_part(start, layer, taken=False, given=True)]
        waiting, seen = [start.index], {start.index}
        while waiting:
            index = waiting.pop()
            users = self.consumers.get(index, [])
            if index in self.trace.outputs or not users:
                return None
            for user in users:
                if user in seen:
                    return None
                seen.add(user)
                node, layer = self.trace.nodes[user], self._layer(self.trace.nodes[user])
                if len(node.parents) > 1:
                    return None
                if _is_product(node):
                    if layer is None or not self._last_axis(node, index):
                        return None
                    groups = getattr(layer, "groups", 1)
                    if groups == 1:
                        parts.append(_part(node, layer, taken=True, given=False))
                        continue
                    if not groups == channels == layer.weight.shape[0]:
                        return None
                    parts.append(_part(node, layer, taken=True, given=True))
                elif node.op in {"batch_norm", "layer_norm"}:
                    if layer is None or (layer.weight is not None and layer.weight.shape != (channels,)):
                        return None
                    parts.append(_part(node, layer, taken=False, given=True))
                elif not _passes(node, channels):
                    return None
                waiting.append(user)
        numbers = [number for (number, _, _), _, _ in parts]
        if len(set(numbers)) < len(numbers):
            return None
        return InnerWidth(
            tuple(one for one, _, _ in parts), channels, sum(p for _, p, _ in parts), sum(m for _, _, m in parts)
        )

    def _layer(self, node: Node) -> Any:
        """The layer whose own operation this is, called once and of a kind that can be widened."""
        if not node.scope:
            return None
        call = self.trace.calls[node.scope[-1]]
        return call.module if number_of(call.module) is not None and self.trace.called_once(call.name) else None

    def _last_axis(self, node: Node, source: int) -> bool:
        """A linear layer mixes the channels only where they are on the last axis."""
        given = self.trace.nodes[source]
        return node.op != "linear" or len(given.shape) == 2 or given.axis == len(given.shape) - 1


def _is_product(node: Node) -> bool:
    return node.op in CONVOLUTIONS or node.op == "linear"


def _passes(node: Node, channels: int) -> bool:
    op = node.op.removesuffix("_")
    if not (op in ACTIVATIONS or op in _PASSING or "pool" in op):
        return False
    axis = 1 if len(node.shape) == 2 else node.axis
    return axis is not None and axis < len(node.shape) and node.shape[axis] == channels


def _part(node: Node, layer: Any, *, taken: bool, given: bool) -> tuple[tuple[int, bool, bool], int, int]:
    """The layer's entry, and its parameters and multiply-adds of a channel."""
    number = number_of(layer)
    assert number is not None
    weight, bias = layer.weight, getattr(layer, "bias", None)
    if weight is None or weight.dim() == 1:
        return (number, taken, given), sum(one is not None for one in (weight, bias)), 0
    axis = 0 if given else 1
    own = weight.numel() // weight.shape[axis]
    positions = math.prod(node.shape) // node.shape[0] // weight.shape[0]
    return (number, taken, given), own + (given and bias is not None), own * positions


def grew_by(plain: nn.Module, wider: nn.Module, widths: list[InnerWidth], more: list[int]) -> bool:
    """Has the wider network the parameters that these widths are to bring?"""
    counts = [sum(torch.numel(p) for p in model.parameters()) for model in (plain, wider)]
    return counts[1] - counts[0] == sum(w.parameters * n for w, n in zip(widths, more, strict=True))
