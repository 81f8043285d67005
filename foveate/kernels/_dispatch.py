"""Which form of a primitive runs: asked for by name, it runs or says why not; unasked, the quickest one that can."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from foveate.kernels import _native
from foveate.kernels._triton import INTERPRETED, on_its_device, why_not_start

IMPLS = ("reference", "cpu", "triton")
PREFERRED = {"cuda": "triton", "cpu": "cpu"}  # device type → impl; other devices take the reference
STORED = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float64: "f64"}  # dtypes that the C passes know


def is_plain(x: Tensor) -> bool:
    """Whether x is memory that a kernel can be pointed at: no subclass, no fake, nothing that functorch wraps."""
    functorch = torch._C._functorch
    wrapped = functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x)
    return type(x) in (Tensor, torch.nn.Parameter) and not wrapped


def why_not(impl: str, x: Tensor) -> str | None:
    """The reason why this form cannot run on x (a map or tokens), or None if it can."""
    if impl == "reference":
        return None
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "a compiler or exporter is at work, which is given the reference"
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return "it has no rule for torch.func transforms and forward-mode derivatives"
    if not is_plain(x) or x.layout != torch.strided:
        return f"it needs a plain dense tensor, got {type(x).__name__} ({x.layout})"
    if x.numel() == 0:
        return f"it needs a tensor with elements, got shape {tuple(x.shape)}"
    if impl == "triton":
        if not (x.is_cuda or INTERPRETED):
            return f"triton needs a CUDA tensor, got one on {x.device}"
        if reason := why_not_start():
            return reason
        if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            return f"triton computes in float32, which {x.dtype} would not expect"
        return None
    if x.device.type != "cpu":
        return f"cpu needs a CPU tensor, got one on {x.device}"
    if x.dtype not in STORED:
        return f"cpu works on float32, bfloat16 and float64, got {x.dtype}"
    return _native.why_not(STORED[x.dtype])


def choose(primitive: str, impl: str | None, x: Tensor, why_not: Callable[[str, Tensor], str | None] = why_not) -> str:
    """The form to run: the one asked for, or for None the device's preferred one, or the reference where that cannot.

    Raises: ValueError: no such form. RuntimeError: the one asked for cannot run, and why.
    """
    if impl is None:
        impl = PREFERRED.get(x.device.type, "reference")
        return "reference" if why_not(impl, x) else impl
    if impl not in IMPLS:
        raise ValueError(f"{primitive}: impl must be one of {', '.join(map(repr, IMPLS))} or None; got {impl!r}")
    if reason := why_not(impl, x):
        raise RuntimeError(f"{primitive}(impl={impl!r}): {reason}")
    return impl


_LIBRARY = torch.library.Library("foveate", "FRAGMENT")
_KEYS = {"cpu": "CPU", "triton": "CUDA"}


class Pass:
    """One pass over memory as an operator, torch.ops.foveate.NAME, so that counters, profilers and fake tensors see it.

    It has no derivative of its own: the primitives say how passes make each other's.
    """

    def __init__(self, schema: str, fake: Callable[..., Any]) -> None:
        name = schema.split("(")[0]
        _LIBRARY.define(schema)
        torch.library.register_fake(f"foveate::{name}", fake, lib=_LIBRARY)
        self._operator = getattr(torch.ops.foveate, name).default
        self._forms: dict[str, Callable[..., Any]] = {}

    def form(self, impl: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: what runs for "cpu" or "triton"."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            function = on_its_device(function) if impl == "triton" else function
            self._forms[impl] = function
            _LIBRARY.impl(self._operator, function, _KEYS[impl])
            return function

        return register

    def has(self, impl: str) -> bool:
        return impl in self._forms

    def __call__(self, impl: str, *given: Any) -> Any:
        if (impl == "triton" and INTERPRETED) or not observed():
            return self._forms[impl](*given)
        return self._operator(*given)


def observed() -> bool:
    """Whether a counter, a profiler or another mode looks at the operators; if none does, theirs need not be called."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._autograd._profiler_enabled()
