"""Where each channel of a tensor comes from, followed through operations that only move numbers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from foveate.insertion.probe import Watch, nested_tensors

VIEWS = frozenset(
    (
        *("__get__", "contiguous", "detach", "expand", "expand_as", "flatten", "movedim", "permute", "reshape"),
        *("squeeze", "swapaxes", "swapdims", "t", "to", "transpose", "unflatten", "unsqueeze", "view"),
    )
)
"""Operations that give every number of a tensor again, in another shape or order."""
SELECTIONS = frozenset(("__getitem__", "chunk", "narrow", "select", "split", "tensor_split", "unbind"))
JOINS = frozenset(("cat", "concat", "concatenate", "stack"))


class ArrangedWatch(Watch):
    """A watch that also replays views, selections and concatenations on numbered positions.

    Attributes:
        arranged: node → the channel of its source, or of its joined sources in their order, that each of its channels
            is; for tensors (N, C, *S) whose channels all positions have in the same order. Left out where a view keeps
        the order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arranged: dict[int, tuple[int, ...]] = {}
        self._numbers = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        op = getattr(func, "__name__", "")
        if op in VIEWS | SELECTIONS | JOINS:
            with torch._C.DisableTorchFunction():
                self._follow(op, func, args, kwargs or {}, result)
        return result

    def _follow(self, op: str, func: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
        sources = [tensor for tensor in nested_tensors((args, kwargs)) if self.find(tensor) is not None]
        if op == "to" or not any(self._is_followed(source) for source in sources):
            return
        first = 0

        def numbers_of(value: Any) -> Any:
            nonlocal first
            if not isinstance(value, Tensor):
                return value
            known = None if op in SELECTIONS | JOINS else self._numbers.get(value)
            numbers = torch.arange(value.numel(), dtype=torch.int32).reshape(value.shape) if known is None else known
            if op in JOINS:
                numbers = numbers + first
                first += value.numel()
            return numbers

        given, named = tree_map(numbers_of, (args, kwargs))
        # the numbers have strides of their own
        replayed = (Tensor.reshape if op == "view" else func)(*given, **named)
        for made, numbers in zip(nested_tensors(result), nested_tensors(replayed), strict=True):
            node = self.find(made)
            if node is None or made.shape != numbers.shape:
                continue
            if op in VIEWS | JOINS:
                self._numbers[made] = numbers
            if made.dim() > 2 and made.numel():
                self._note_channels(node, op, numbers[0].flatten(1))

    def _is_followed(self, source: Tensor) -> bool:
        node = self.trace.nodes[self._known(source)]
        return source.dim() > 1 and (source in self._numbers or node.is_map or source.dim() > 3)

    def _known(self, tensor: Tensor) -> int:
        found = self.find(tensor)
        assert found is not None
        return found

    def _note_channels(self, node: int, op: str, numbers: Tensor) -> None:
        """numbers: (C, P), of every position."""
        count, positions = numbers.shape
        channels = numbers[:, 0] // positions
        if op in VIEWS and torch.equal(channels, torch.arange(count, dtype=torch.int32)):
            return
        along = torch.arange(positions, dtype=torch.int32)
        if torch.equal(numbers, channels[:, None] * positions + along):
            self.arranged[node] = tuple(channels.tolist())
