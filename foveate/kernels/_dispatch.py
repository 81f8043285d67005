"""Which form of a primitive runs: a form requested by name runs or raises; `impl=None` takes the fastest that can."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from foveate.kernels import _native
from foveate.kernels._triton import INTERPRETED, on_its_device, why_not_start

IMPLS = ("reference", "cpu", "triton")
PREFERRED = {"cuda": "triton", "cpu": "cpu"}  # device type → impl; other devices take the reference
STORED = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float64: "f64"}  # dtypes that the C passes know


def is_plain(x: Tensor) -> bool:
    """Is x a tensor whose memory a kernel can read: no subclass, no fake tensor, none that functorch wraps?"""
    functorch = torch._C._functorch
    wrapped = functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x)
    return type(x) in (Tensor, Parameter) and not wrapped


def why_not(impl: str, x: Tensor) -> str | None:
    """Why this form cannot run on x (a map or tokens); None if it can."""
    if impl == "reference":
        return None
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "under a compiler or exporter only the reference runs"
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
    """The form to run: `impl`, or for None the preferred form of the device, else the reference.

    Raises: ValueError: no such form. RuntimeError: the requested form cannot run on x; gives the reason.
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
    """One pass over memory, registered as the operator torch.ops.foveate.NAME for counters, profilers and fake tensors.

    A pass has no derivative; the primitives' autograd functions combine passes.

    Args:
        schema: name, arguments and results in torch's schema language.
        fake: shapes and dtypes of the results, from the arguments.
    """

    def __init__(self, schema: str, fake: Callable[..., Any]) -> None:
        name = schema.split("(")[0]
        _LIBRARY.define(schema)
        torch.library.register_fake(f"foveate::{name}", fake, lib=_LIBRARY)
        self._operator = getattr(torch.ops.foveate, name).default
        self._forms: dict[str, Callable[..., Any]] = {}

    def form(self, impl: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: the function is the implementation for "cpu" or "triton"."""

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
    """Does a dispatch mode or a profiler watch the operators? If none does, the passes are called without them."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._autograd._profiler_enabled()


def can_fuse(name: str, impl: str | None, x: Tensor, *weights: Tensor) -> bool:
    """Can one C call take the map and the weights: one dtype, on the CPU, no dispatch mode and no autocast active?

    Raises: as `choose`.
    """
    return (
        choose(name, impl, x) == "cpu"
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch.is_autocast_enabled("cpu")
        and all(type(t) in (Tensor, Parameter) and t.dtype == x.dtype and t.is_cpu for t in weights)
    )
