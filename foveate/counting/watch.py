"""Counting: a dispatch mode that makes a row of every operator, and knows which module is running."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.counting.inputs import Batch, call, first_tensor
from foveate.counting.rows import Count, Kept, Row
from foveate.counting.traffic import moved, storage_of, tensors_in
from foveate.counting.work import work_of


def count(model: nn.Module, x: Batch, *, stages: Sequence[str] = (), kept: bool = True) -> Count:
    """What one forward pass over x computes and moves, and what a training pass keeps for its backward pass.

    Runs the model twice (evaluation mode without gradients; training mode with them) on the device it is on, also on
    the meta device, and leaves it as found. The fused path of nn.MultiheadAttention is off while counting, so that
    its parts are seen. Only operators are counted that pass the dispatcher: what a compiled model fuses is not.

    Args:
        model: any network.
        x: a batch as a tensor, a tuple of arguments, a list of images, or a dict of keyword arguments. A detector
            that is trained on targets takes (images, targets).
        stages: modules that end a stage, for the stage of each row.
        kept: count the activations of training too; False saves the second pass.

    Raises: ValueError: the network refuses x; says where, and both shapes. TypeError: x holds no tensor.
    """
    first_tensor(x)
    watch = Watch(model)
    with as_found(model), fused_attention_off():
        model.eval()
        with torch.no_grad():
            watch.run(x)
        untrained, saved = _kept(model, x) if kept else ("", ())
    return Count(
        rows=tuple(watch.rows),
        kept=saved,
        parameters=_own_parameters(model),
        inputs=tuple(tuple(t.shape) for t in tensors_in(x)),
        data_dependent=tuple(watch.data_dependent),
        untrained=untrained,
    ).staged(stages)


def module_paths(model: nn.Module) -> dict[nn.Module, str]:
    """The dotted path of every module; one that hangs at several places has the first."""
    return {module: name for name, module in model.named_modules()}


class Watch(TorchDispatchMode):
    """Makes rows; `maker` says of each storage which operator in which module made it last."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.data_dependent: dict[str, None] = {}
        self.maker: dict[int, tuple[str, str]] = {}
        self._model = model
        self._names = module_paths(model)
        self._running: list[nn.Module] = []
        self._failed: tuple[nn.Module, Any] | None = None

    def run(self, x: Batch) -> Any:
        """One forward pass, watched."""
        for t in tensors_in(x):
            self.maker[storage_of(t)] = ("input", "")
        with self._following(), self:
            try:
                return call(self._model, x)
            except Exception as error:
                if not isinstance(error, _REFUSALS) or isinstance(error, RecursionError) or out_of_memory(error):
                    raise
                raise ValueError(self._refusal(error, x)) from error

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """Keeps the stack of running modules."""

        def enter(module: nn.Module, args: Any) -> None:
            if module in self._names:
                self._running.append(module)
                self._arguments = args

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            if self._running and self._running[-1] is module:
                self._running.pop()

        before = register_module_forward_pre_hook(enter)
        after = register_module_forward_hook(leave)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    @property
    def module(self) -> str:
        return self._names[self._running[-1]] if self._running else ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = getattr(func, "_schema", None)
        operator = schema.name.replace("::", ".") if schema is not None else str(func.name())
        if schema is not None and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
            with self:  # seen whole only in inference mode
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if _depends_on_data(operator, func, args):
            self.data_dependent[operator] = None
        traffic = moved(operator, func, args, kwargs, result)
        if traffic is not None:
            work = work_of(operator, func, args, kwargs, result)
            made = list(tensors_in(result))
            given = list(tensors_in(args, kwargs))
            self.rows.append(
                Row(
                    operator=operator,
                    module=self.module,
                    kind=work.kind,
                    macs=work.macs,
                    elementwise=work.elementwise,
                    reductions=work.reductions,
                    bytes_read=traffic[0],
                    bytes_written=traffic[1],
                    inputs=tuple(tuple(t.shape) for t in given),
                    outputs=tuple(tuple(t.shape) for t in made),
                    dtype=str((made or given)[0].dtype).removeprefix("torch."),
                )
            )
            known = {storage_of(t) for t in given}
            for t in made:
                if storage_of(t) not in known:
                    self.maker[storage_of(t)] = (operator, self.module)
        return result

    def _refusal(self, error: Exception, x: Batch) -> str:
        shapes = ", ".join(_described(t) for t in tensors_in(x))
        what = " ".join(str(error).split()) or type(error).__name__
        where = ""
        if self._running:
            module = self._running[-1]
            got = ", ".join(str(list(t.shape)) for t in tensors_in(self._arguments))
            weight = getattr(module, "weight", None)
            of = f" with a weight of {list(weight.shape)}" if isinstance(weight, Tensor) else ""
            where = f"{self.module or 'the network'} ({type(module).__name__}{of}) was given {got}: "
        return f"the network refuses a batch of shape {shapes}: {where}{what}"


def _depends_on_data(operator: str, func: Any, args: Any) -> bool:
    """Whether values, not shapes alone, decide what the operator gives; indexing does with a mask only."""
    if operator == "aten.index":
        return any(t.dtype in (torch.bool, torch.uint8) for t in tensors_in(args[1:]))
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return not tags.isdisjoint(getattr(func, "tags", ()))


def _described(t: Tensor) -> str:
    return f"{list(t.shape)}" + ("" if t.dtype == torch.float32 else f" in {str(t.dtype).removeprefix('torch.')}")


_COMPOSITE = "CompositeImplicitAutograd"
_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory."""
    text = str(error)
    signs = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "could not create a memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(sign in text for sign in signs)


def _kept(model: nn.Module, x: Batch) -> tuple[str, tuple[Kept, ...]]:
    """Why it refused to run in training mode ("": it did not), and what it kept, then in evaluation mode."""
    model.train()
    try:
        return "", _kept_now(model, x)
    except ValueError as error:
        small = "more than 1 value per channel" in str(error)
        why = "this batch is too small for batch norm to train on" if small else f"in training mode {error}"
    model.eval()
    return why, _kept_now(model, x)


def _kept_now(model: nn.Module, x: Batch) -> tuple[Kept, ...]:
    own = {storage_of(t) for t in (*model.parameters(), *model.buffers())}
    watch = Watch(model)
    found: dict[int, Kept] = {}
    alive: list[Any] = []  # storages must stay alive, or their addresses are given out again

    def keep(t: Tensor) -> Tensor:
        key = storage_of(t)
        if key not in own and key not in found:
            operator, module = watch.maker.get(key, ("input", watch.module))
            size = t.untyped_storage().nbytes() if t.layout is torch.strided else t.numel() * t.element_size()
            found[key] = Kept(operator, module, size)
            alive.append(t)
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        alive.append(watch.run(x))
    return tuple(found.values())


def _own_parameters(model: nn.Module) -> dict[str, int]:
    seen: set[nn.Parameter] = set()
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        own = {p for p in module.parameters(recurse=False) if p not in seen}
        seen |= own
        if own:
            found[name] = sum(p.numel() for p in own)
    return found


@contextlib.contextmanager
def as_found(model: nn.Module) -> Iterator[None]:
    """Modes, buffers and the random state are put back, also on error."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(b, b.clone()) for b in model.buffers() if not b.is_meta]
    try:
        with torch.random.fork_rng(devices=sorted({b.device.index or 0 for b, _ in buffers if b.is_cuda})):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
        torch.clear_autocast_cache()


@contextlib.contextmanager
def fused_attention_off() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
