"""One forward pass as a list of calls that can be run again alone: what was called, on what, made by whom, how long."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from foveate.counting import Batch, Row, Watch, call, first_tensor, storage_of, tensors_in


@dataclass(frozen=True)
class Operand:
    """A tensor that a call took. source: the number of the call that wrote it last; None: the batch or a weight."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    source: int | None
    weight: bool

    def resized(self, *shape: int) -> "Operand":
        """Another shape with the same axes fastest in memory."""
        strides, step = [0] * len(shape), 1
        for axis in sorted(range(len(shape)), key=lambda a: (self.stride[a], -a)):
            strides[axis], step = step, step * shape[axis]
        return Operand(shape, tuple(strides), self.dtype, self.device, self.source, self.weight)

    @property
    def numel(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def bytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def made(self) -> Tensor:
        """A tensor like it, of random numbers or ones."""
        t = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)
        return t.normal_() if self.dtype.is_floating_point else t.fill_(1)


@dataclass(frozen=True)
class Call:
    """One operator call of the pass: its counts, and the call itself with its tensors as operands."""

    row: Row
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dispatched: int  # its place among everything dispatched, views included

    @property
    def operands(self) -> list[Operand]:
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Operand)]

    @property
    def sources(self) -> list[int]:
        """The calls whose results it takes, each once, in order."""
        return list(dict.fromkeys(o.source for o in self.operands if o.source is not None))

    def alone(self) -> Callable[[], object]:
        """The call on tensors of its own."""
        return alone(self.func, self.args, self.kwargs)


def alone(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Callable[[], object]:
    """A step that calls the operator on tensors like its operands."""
    given, named = tree_map(lambda leaf: leaf.made() if isinstance(leaf, Operand) else leaf, (args, kwargs or {}))

    def step() -> None:
        with torch.no_grad():
            func(*given, **named)

    return step


def traced(model: nn.Module, x: Batch) -> list[Call]:
    """The calls of one forward pass without gradients, in the mode that the model is in.

    Raises: ValueError: the network refuses x.
    """
    return _trace(model, x).calls


def _trace(model: nn.Module, x: Batch) -> "_Trace":
    with torch.no_grad(), _fused_attention_off():
        _Trace(model).run(x)  # what a network keeps from its first pass, it has then
        trace = _Trace(model)
        trace.run(x)
    return trace


class _Trace(Watch):
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.calls: list[Call] = []
        self.dispatched = 0
        self._writer: dict[int, int] = {}
        self._weights = {storage_of(t) for t in (*model.parameters(), *model.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number, self.dispatched = self.dispatched, self.dispatched + 1
        taken, named = tree_map(
            lambda leaf: self._operand(leaf) if isinstance(leaf, Tensor) else leaf, (args, kwargs or {})
        )
        known = {storage_of(t) for t in tensors_in(args, kwargs)}
        result = super().__torch_dispatch__(func, types, args, kwargs)
        counted = len(self.rows) > len(self.calls)
        for t in tensors_in(result):  # a result in memory of an operand is a view of it, or it written in place
            if counted:
                self._writer[storage_of(t)] = len(self.calls)
            elif storage_of(t) not in known:
                self._writer.pop(storage_of(t), None)
        if counted:
            self.calls.append(Call(self.rows[-1], func, taken, named, number))
        return result

    def _operand(self, t: Tensor) -> Operand:
        key = storage_of(t)
        stride = t.stride() if t.layout is torch.strided else ()
        return Operand(tuple(t.shape), stride, t.dtype, t.device, self._writer.get(key), key in self._weights)


def timed(model: nn.Module, x: Batch, *, repeats: int, budget_s: float) -> tuple[list[Call], list[list[float]]]:
    """The calls of a pass, and milliseconds of each where it stands: a list for each of several passes.

    Two passes come first and are not counted; at least 5 are, whatever the budget.

    Raises: ValueError: the network refuses x, or does not run the same operators every time.
    """
    trace = _trace(model, x)
    passes: list[list[float]] = []
    end = float("inf")
    with torch.no_grad(), _fused_attention_off():
        for turn in range(-2, repeats):
            clock = _Clock(first_tensor(x).device)
            with clock:
                call(model, x)
            if len(clock.times) != trace.dispatched:
                raise ValueError("wanted a network that runs the same operators on every pass; got one that does not")
            if turn < 0:
                end = time.perf_counter() + budget_s
                continue
            passes.append([clock.times[call.dispatched] for call in trace.calls])
            if turn >= 4 and time.perf_counter() > end:
                break
    return trace.calls, passes


@contextlib.contextmanager
def _fused_attention_off() -> Iterator[None]:
    """The fused path of nn.MultiheadAttention would be one operator that says nothing of its parts."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Clock(TorchDispatchMode):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.times: list[float] = []
        self._waits = device.type != "cpu"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number = len(self.times)
        self.times.append(0.0)
        known = getattr(func, "_schema", None) is not None
        if known and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # as it is counted
                return func.decompose(*args, **(kwargs or {}))
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        if self._waits:
            torch.accelerator.synchronize()
        self.times[number] = 1e3 * (time.perf_counter() - start)
        return result
