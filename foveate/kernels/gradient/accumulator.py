"""The gradient accumulator of a map: its readers add small terms, and one node writes the gradient of the map once.

A mechanism reads its map to pool it and again to gate it. Under plain autograd each of these nodes writes a gradient as
large as the map, and the gradients are read again and added. Here the nodes add small terms to an accumulator, and one
node below them, which autograd runs last, computes the sum in one pass (see `map_gradient`).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._dispatch import choose, is_plain
from foveate.kernels._layout import dense
from foveate.kernels.gradient.map_gradient import Terms, map_gradient


class AccumulatedMap:
    """A map with its gradient accumulator, for one forward pass; returned by `accumulate_gradient`.

    tensor: the map, dense unless impl is "reference".
    impl: the form that the primitives on it take.
    anchor: a zero that every reader takes as an input, so that autograd runs the root node after all readers; None
        without gradients.
    """

    def __init__(self, tensor: Tensor, impl: str) -> None:
        self.impl = impl
        self.tensor = tensor if impl == "reference" else dense(tensor)
        self.accumulator = GradientAccumulator(impl)
        self.anchor: Tensor | None = None
        if impl != "reference" and torch.is_grad_enabled() and tensor.requires_grad:
            self.anchor = _Root.apply(self.tensor, self.accumulator)


class GradientAccumulator:
    """The terms of a map's gradient that its readers have added during one run of autograd."""

    def __init__(self, impl: str) -> None:
        self.impl = impl
        self._terms = Terms()
        self._run = -1

    def terms(self) -> Terms:
        """The terms of the current run; terms of an earlier run that did not reach the root are discarded."""
        if (run := torch._C._current_graph_task_id()) != self._run:
            self._terms, self._run = Terms(), run
        return self._terms

    def take(self) -> Terms:
        """The terms of the current run, removed from the accumulator."""
        terms, self._terms = self.terms(), Terms()
        return terms

    def gradient(self, x: Tensor) -> Tensor:
        """The sum of the terms, as a gradient of x."""
        terms = self.take()
        return map_gradient(x, terms, backward_form(self.impl, *terms.tensors()))


def backward_form(impl: str, *given: Tensor) -> str:
    """The form of a backward pass: that of the forward pass, or the reference if the result must be differentiable."""
    return impl if not torch.is_grad_enabled() and all(is_plain(t) for t in given) else "reference"


class _Root(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, accumulator: GradientAccumulator) -> Tensor:
        ctx.accumulator = accumulator
        ctx.save_for_backward(x)
        return x.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return ctx.accumulator.gradient(*ctx.saved_tensors), None


def accumulate_gradient(
    x: Tensor | AccumulatedMap, *, primitive: str = "accumulate_gradient", impl: str | None = None
) -> AccumulatedMap:
    """The map with an accumulator, for several primitives that then write its gradient once, together.

    Args:
        x: (N, C, *S), floating, or a map that already has an accumulator.
        primitive: the name for error messages.
        impl: "reference", "cpu" or "triton". None: the fastest that can run on x.

    Raises: ValueError: an unknown impl. RuntimeError: the requested impl cannot run on x; gives the reason.
    """
    if isinstance(x, AccumulatedMap):
        return x if impl in (None, x.impl) else AccumulatedMap(x.tensor, choose(primitive, impl, x.tensor))
    return AccumulatedMap(x, choose(primitive, impl, x))
