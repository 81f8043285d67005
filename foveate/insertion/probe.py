"""One watched forward pass: which operation made which tensor, inside which call of a module.

Nothing here knows a network. The trace is a graph of operations (:class:`Node`) and a tree of module calls
(:class:`Call`); :mod:`foveate.insertion.places` reads residual branches and stages out of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from foveate import counting

CHILD = "foveate"
"""Name of an inserted module in its host."""

ACTIVATIONS = frozenset(
    (
        *("celu", "elu", "gelu", "hard_swish", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu"),
        *("relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh", "threshold"),
    )
)
CONVOLUTIONS = frozenset(f"conv{transpose}{d}d" for transpose in ("", "_transpose") for d in (1, 2, 3))
PRODUCTS = CONVOLUTIONS | {"linear", "matmul", "__matmul__", "__rmatmul__", "bmm", "einsum", "baddbmm"}
PRODUCTS |= {"scaled_dot_product_attention", "multi_head_attention_forward"}
_CHANNEL_SECOND = ("conv", "batch_norm", "group_norm", "instance_norm", "max_pool", "avg_pool", "interpolate", "pixel_")
_CHANNEL_LAST = ("linear", "layer_norm", "rms_norm")


@dataclass(frozen=True)
class Node:
    """A tensor as one operation left it. ``axis`` is its channel axis where it is known, else None."""

    index: int
    op: str
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    scope: tuple[int, ...]
    axis: int | None
    operands: tuple[int | None, ...] = ()
    joined: tuple[int, int] | None = None  # of a concatenation: what precedes its longest operand, and that

    @property
    def is_map(self) -> bool:
        """Whether this is ``(N, C, *S)`` with one to three spatial axes."""
        return self.axis == 1 if len(self.shape) == 3 else len(self.shape) in (4, 5) and self.axis in (1, None)


@dataclass(eq=False)
class Call:
    """One call of one module."""

    index: int
    name: str
    module: nn.Module
    parent: int | None
    inputs: tuple[int, ...]
    output: int | None = None
    entries: dict[int, tuple[str, int]] = field(default_factory=dict)  # number among what it returned: key and node
    ended: int = -1
    device: torch.device | None = None
    dtype: torch.dtype | None = None
    children: list[int] = field(default_factory=list)

    @property
    def passes_through(self) -> bool:
        """Whether the call returned its own input: Identity, and Dropout or DropPath in eval mode."""
        return self.output is not None and self.output in self.inputs


@dataclass
class Trace:
    """The record of one forward pass."""

    nodes: list[Node] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    ancestors: list[int] = field(default_factory=list)  # bit sets
    times: dict[str, int] = field(default_factory=dict)  # module name -> calls
    kinds: dict[str, str] = field(default_factory=dict)  # module name -> what its last call returned
    layouts: dict[int, object] = field(default_factory=dict)  # cache of layouts.layout_of
    outputs: set[int] = field(default_factory=set)  # nodes that the model returned

    def lineage(self, node: int) -> int:
        """Bit set of ``node`` and all that it was made from."""
        return self.ancestors[node] | (1 << node)

    def consumers(self) -> dict[int, list[int]]:
        """For each node the nodes that were made from it."""
        found: dict[int, list[int]] = {}
        for node in self.nodes:
            for parent in node.parents:
                found.setdefault(parent, []).append(node.index)
        return found

    def called_once(self, name: str) -> bool:
        return self.times.get(name, 0) == 1

    def call_of(self, name: str) -> Call:
        return next(call for call in self.calls if call.name == name)


def nested_tensors(value: object) -> Iterator[torch.Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from nested_tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from nested_tensors(item)


def leaves_by_key(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """All that nested tuples, lists and dictionaries hold, each under its keys and numbers, ``"features.0"``."""
    if isinstance(value, tuple | list | Mapping):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves_by_key(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _channel_axis(
    op: str, args: tuple[Any, ...], kwargs: dict[str, Any], source: Node, shape: tuple[int, ...]
) -> int | None:
    """The channel axis of what ``op`` made of ``source``, None where it is not known."""
    if any(known in op for known in _CHANNEL_SECOND):
        return 1
    axis = source.axis
    if op in _CHANNEL_LAST:
        if op == "linear" and axis is not None and 0 < axis < len(shape) - 1 == len(source.shape) - 1:
            return axis  # mixes positions, as an MLP-Mixer does
        return len(shape) - 1
    if axis is None:
        return None
    if op in ("permute", "transpose", "swapaxes", "swapdims"):
        given = args[1:] or tuple(kwargs.values())
        order = [int(d) % len(shape) for d in (given[0] if isinstance(given[0], tuple | list) else given)]
        if op != "permute":
            first, second = order
            order = list(range(len(shape)))
            order[first], order[second] = second, first
        return order.index(axis)
    if len(shape) == len(source.shape) and shape[axis] == source.shape[axis]:
        return axis
    if shape[: axis + 1] == source.shape[: axis + 1]:
        return axis
    if axis == len(source.shape) - 1 and shape and shape[-1] == source.shape[-1]:
        return len(shape) - 1
    return (
        axis
        if len(shape) == len(source.shape) and op in ("cat", "concat", "pad", "__getitem__", "chunk", "split")
        else None
    )


def _joined(op: str, args: tuple[Any, ...], kwargs: dict[str, Any], known: set[int]) -> tuple[int, int] | None:
    """Of a concatenation of tokens, on the axis before the last: the length before its longest activation (one of
    ``known``), and that one's."""
    if op not in ("cat", "concat", "concatenate"):
        return None
    parts = list(nested_tensors(args[0] if args else kwargs.get("tensors")))
    axis = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
    rank = parts[0].dim() if parts else 0
    if rank < 3 or not isinstance(axis, int) or axis % rank != rank - 2:
        return None
    longest = max((i for i, part in enumerate(parts) if id(part) in known), key=lambda i: parts[i].shape[axis])
    return sum(part.shape[axis] for part in parts[:longest]), parts[longest].shape[axis]


class Watch(TorchFunctionMode):
    """Records every operation on an activation. Weights are no activations: they are never recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = Trace()
        self.stack: list[int] = []
        self._where = WeakTensorKeyDictionary()

    def find(self, tensor: torch.Tensor) -> int | None:
        found: int | None = self._where.get(tensor)
        return found

    def note(self, tensor: torch.Tensor, op: str, parents: tuple[int, ...] = (), axis: int | None = None,
             operands: tuple[int | None, ...] = (), joined: tuple[int, int] | None = None) -> int:  # fmt: skip
        trace, index = self.trace, len(self.trace.nodes)
        past = 0
        for parent in parents:
            past |= trace.lineage(parent)
        trace.nodes.append(Node(index, op, parents, tuple(tensor.shape), tuple(self.stack), axis, operands, joined))
        trace.ancestors.append(past)
        self._where[tensor] = index
        return index

    def source(self, tensor: torch.Tensor) -> int:
        """The node of a tensor; a new one if no recorded operation made it, as for the example itself."""
        found = self.find(tensor)
        return self.note(tensor, "input") if found is None else found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        known = [(t, node) for t in nested_tensors((args, kwargs)) if (node := self.find(t)) is not None]
        if not known:
            return func(*args, **kwargs)
        before = {id(t): None if t.is_inference() else t._version for t, _ in known}
        result = func(*args, **kwargs)
        op = getattr(func, "__name__", type(func).__name__)
        parents = tuple(dict.fromkeys(node for _, node in known))
        operands = tuple(self.find(a) if isinstance(a, torch.Tensor) else None for a in args)
        joined = _joined(op, args, kwargs, set(before))
        changed = [args[0]] if op == "__setitem__" and isinstance(args[0], torch.Tensor) else nested_tensors(result)
        for tensor in changed:
            version = None if tensor.is_inference() else tensor._version
            if id(tensor) in before and version is not None and before[id(tensor)] == version:
                continue  # returned unchanged, as by dropout in eval mode
            shape = tuple(tensor.shape)
            sources = [self.trace.nodes[p] for p in parents]
            axes = (_channel_axis(op, args, kwargs, s, shape) for s in sorted(sources, key=lambda s: s.shape != shape))
            self.note(tensor, op, parents, next((a for a in axes if a is not None), None), operands, joined)
        return result

    def enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with torch._C.DisableTorchFunction():
            inputs = tuple(self.source(t) for t in nested_tensors((args, kwargs)))
        trace = self.trace
        parent = self.stack[-1] if self.stack else None
        call = Call(len(trace.calls), name, module, parent, inputs)
        trace.calls.append(call)
        trace.times[name] = trace.times.get(name, 0) + 1
        if parent is not None:
            trace.calls[parent].children.append(call.index)
        self.stack.append(call.index)

    def leave(self, output: object) -> None:
        with torch._C.DisableTorchFunction():
            call = self.trace.calls[self.stack.pop()]
            call.ended = len(self.trace.nodes)
            self.trace.kinds[call.name] = type(output).__name__
            for tensor in nested_tensors(output):
                if self.find(tensor) is None:  # made by a compiled or C++ function, which is not recorded
                    source = self.trace.nodes[call.inputs[0]] if call.inputs else None
                    axis = _channel_axis("", (), {}, source, tuple(tensor.shape)) if source else None
                    self.note(tensor, "opaque", call.inputs, axis)
            if call.parent is None:
                self.trace.outputs |= {self.source(tensor) for tensor in nested_tensors(output)}
            for number, (key, leaf) in enumerate(leaves_by_key(output)):
                if isinstance(leaf, torch.Tensor):
                    call.device, call.dtype = leaf.device, leaf.dtype
                    call.entries[number] = key, self.source(leaf)
            if isinstance(output, torch.Tensor):
                call.output, call.entries = self.find(output), {}


def probe(model: nn.Module, example: object, watch: Watch | None = None) -> Trace:
    """Run ``model`` once on ``example`` and record its operations and module calls.

    Args:
        model: any module. Its state does not change.
        example: a tensor, a tuple of arguments, or a dictionary of keyword arguments.
        watch: what records, a new one; None: a plain one.

    Returns:
        The record of this forward pass.

    Raises:
        TypeError: the example has no tensor.
        ValueError: the model has uninitialised (lazy) parameters.
    """
    if next(nested_tensors(example), None) is None:
        raise TypeError(
            "wanted example= a tensor, or a tuple of arguments or dictionary of keyword arguments with one, got "
            f"{type(example).__name__}"
        )
    if any(torch.nn.parameter.is_lazy(p) for p in model.parameters()):
        raise ValueError("the model has lazy modules without weights yet; run it once on a batch first")
    watch = Watch() if watch is None else watch
    handles = []
    with preserve_state(model):
        try:
            for name, module in model.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue  # takes no hooks

                def enter(m: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                    watch.enter(name, m, args, kwargs)

                def leave(m: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                    watch.leave(output)

                handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(module.register_forward_hook(leave, with_kwargs=True))
            for tensor in nested_tensors(example):
                watch.source(tensor)
            with watch:
                run_example(model, example)
        finally:
            for handle in handles:
                handle.remove()
    return watch.trace


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients while this is open.

    Modes, buffers, attributes, random state and the autocast cache are restored, also after an error; forward hooks
    that a run registers, as the first of some networks does, are removed, as are the attributes by which it knows.
    """
    modules = list(model.modules())
    attributes = [(m, dict(vars(m))) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    training = [(m, m.training) for m in modules]
    hooks = [(held, set(held)) for m, _ in attributes for held in (m._forward_hooks, m._forward_pre_hooks)]
    buffers = [
        (m._buffers, name, b, None if b is None else (b._version, b.clone()))
        for m, _ in attributes
        for name, b in m._buffers.items()
    ]
    everything = [*model.parameters(), *model.buffers()]
    elsewhere = {t.device for t in everything if t.device.type not in ("cpu", "meta")}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for kind in {d.type for d in elsewhere}:
            indices = [d.index or 0 for d in elsewhere if d.type == kind]
            stack.enter_context(torch.random.fork_rng(devices=indices, device_type=kind))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo" in sys.modules:
            stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
            stack.enter_context(stance)
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, mode in training:
                module.training = mode
            for held_hooks, known in hooks:
                for number in [n for n in held_hooks if n not in known]:
                    del held_hooks[number]
            for module, kept in attributes:
                now = vars(module)
                for key in [k for k in now if k not in kept]:
                    del now[key]
                now.update((k, v) for k, v in kept.items() if now.get(k) is not v)
            for held, name, buffer, saved in buffers:
                held[name] = buffer
                if buffer is not None and saved is not None and buffer._version != saved[0]:
                    buffer.copy_(saved[1])
            torch.clear_autocast_cache()


def run_example(model: nn.Module, example: object) -> object:
    """The output of ``model`` on ``example``: a tuple holds its arguments, a dictionary its keyword arguments.

    Anything else is the one argument; a dictionary as the one argument is ``({…},)``.
    """
    given: Any = dict(example) if isinstance(example, Mapping) else example
    try:
        return counting.call(model, given)
    except Exception as error:
        error.add_note(
            "foveate ran the model once on `example` to see where its feature maps are, and this run failed."
            + (
                " A dictionary holds keyword arguments; as one argument it is ({…},)."
                if isinstance(example, Mapping)
                else ""
            )
        )
        raise
