"""A map that is read several times and whose gradient is written once.

A mechanism reads its map to pool it and again to gate it. Left to autograd, each of these nodes writes a gradient as
large as the map, and these are read back and added. Here the nodes that read a shared map hand small terms to a accumulator,
and one node at its root, which autograd runs after all of them, writes their sum (see `map_gradient`).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._dispatch import choose, is_plain
from foveate.kernels._layout import dense
from foveate.kernels.gradient.map_gradient import Terms, map_gradient


class AccumulatedMap:
    """A map as the primitives take it. Made by `accumulate_gradient`; lives for one forward pass.

    tensor: the map, dense unless impl is "reference".
    impl: the form that its primitives take.
    anchor: a number without meaning whose gradient tells the root that a reader is done; None without gradients.
    """

    def __init__(self, tensor: Tensor, impl: str) -> None:
        self.impl = impl
        self.tensor = tensor if impl == "reference" else dense(tensor)
        self.accumulator = GradientAccumulator(impl)
        self.anchor: Tensor | None = None
        if impl != "reference" and torch.is_grad_enabled() and tensor.requires_grad:
            self.anchor = _Root.apply(self.tensor, self.accumulator)


class GradientAccumulator:
    """The terms that the readers have handed in during one run of autograd."""

    def __init__(self, impl: str) -> None:
        self.impl = impl
        self._terms = Terms()
        self._run = -1

    def terms(self) -> Terms:
        """Where to put a term; what an earlier run of autograd left that did not reach the root is dropped."""
        if (run := torch._C._current_graph_task_id()) != self._run:
            self._terms, self._run = Terms(), run
        return self._terms

    def take(self) -> Terms:
        """The terms, which are then no longer held."""
        terms, self._terms = self.terms(), Terms()
        return terms

    def gradient(self, x: Tensor) -> Tensor:
        terms = self.take()
        return map_gradient(x, terms, backward_form(self.impl, *terms.tensors()))


def backward_form(impl: str, *given: Tensor) -> str:
    """The form of a backward pass: the forward's, or the reference where the result must itself be differentiable."""
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
    """The map for the primitives of this package, which then write its gradient once.

    Args:
        x: (N, C, *S), floating, or a map already accumulated.
        primitive: named in error messages.
        impl: "reference", "cpu" or "triton". None: the quickest that can run on x.

    Raises: ValueError: another impl. RuntimeError: one asked for by name that cannot run on x, and why.
    """
    if isinstance(x, AccumulatedMap):
        return x if impl in (None, x.impl) else AccumulatedMap(x.tensor, choose(primitive, impl, x.tensor))
    return AccumulatedMap(x, choose(primitive, impl, x))
