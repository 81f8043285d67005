"""How a network is run while it is measured: where, in which numbers and layout, compiled, or exported to ONNX."""

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foveate.counting import Batch, call, first_tensor, placed, tensors_in
from foveate.devices import require_device

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TARGETS = ("torch", "onnxruntime")


@dataclass(frozen=True)
class Setting:
    """What is measured. Whatever is None or False stays as the network and the batch come.

    device: "cpu", "cuda", "cuda:1", …. dtype: "fp32", "bf16" or "fp16": the network and the batch are cast to it. amp:
    automatic mixed precision instead, in bf16 unless dtype says fp16. channels_last: the layout of maps. compile: by
    torch.compile. target: "onnxruntime" times the exported network instead.
    """

    device: str | None = None
    dtype: str | None = None
    amp: bool = False
    channels_last: bool = False
    compile: bool = False
    target: str = "torch"

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"dtype: wanted one of {', '.join(DTYPES)}; got {self.dtype!r}")
        if self.amp and self.dtype == "fp32":
            raise ValueError("amp computes in bf16 or fp16; got dtype='fp32'")
        if self.target not in TARGETS:
            raise ValueError(f"target: wanted one of {', '.join(TARGETS)}; got {self.target!r}")
        if self.target == "onnxruntime":
            runtime_there()
            if self.compile or self.amp or self.channels_last:
                raise ValueError("target onnxruntime compiles and lays out by itself; no compile, amp, channels_last")
        if self.device is not None:
            require_device(self.device)

    def place(self, model: nn.Module) -> nn.Module:
        """The network as the setting has it: itself where that is how it came, else a copy."""
        dtype = None if self.amp or self.dtype is None else DTYPES[self.dtype]
        if not (self.device or dtype or self.channels_last):
            return model
        placed = copy.deepcopy(model).to(device=self.device, dtype=dtype)
        return placed.to(memory_format=torch.channels_last) if self.channels_last else placed

    def batch(self, x: Batch) -> Batch:
        """The batch as the setting has it."""
        dtype = None if self.amp or self.dtype is None else DTYPES[self.dtype]
        return placed(x, self.device, dtype, channels_last=self.channels_last)

    @contextlib.contextmanager
    def numbers(self, device: torch.device) -> Iterator[None]:
        """Automatic mixed precision, if set."""
        dtype = DTYPES[self.dtype or "bf16"]
        with torch.autocast(device.type, dtype, enabled=self.amp):
            yield


WANTED = ("onnx", "onnxscript", "onnxruntime")
CLOSE = 1e-3  # of the largest output; what is checked is the graph, not its rounding


def runtime_there() -> None:
    """Raises: ValueError: what exporting and running needs is not installed."""
    if missing := [name for name in WANTED if importlib.util.find_spec(name) is None]:
        raise ValueError(f"target onnxruntime needs {' and '.join(missing)}: pip install 'foveate[export]'")


def exported_step(name: str, model: nn.Module, x: Batch, folder: Path) -> tuple[Callable[[], object], str]:
    """One pass of the exported network over the batch, and what was found while checking it.

    Raises: ValueError: it cannot be exported, does not run there, or gives other numbers.
    """
    import onnxruntime

    file = folder / f"{len(list(folder.iterdir()))}.onnx"
    try:
        _export(model, x, file)
    except Exception as error:
        raise ValueError(f"{name}: cannot be exported to ONNX: {_first_line(error)}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    device = first_tensor(x).device
    here = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if here not in onnxruntime.get_available_providers():
        raise ValueError(f"target onnxruntime: the installed one has no {here}, which {device} needs")
    try:
        session = onnxruntime.InferenceSession(file, options, providers=[here])
        given = {one.name: t.cpu().numpy() for one, t in zip(session.get_inputs(), tensors_in(x), strict=True)}
        found = session.run(None, given)
    except Exception as error:
        raise ValueError(f"{name}: does not run on onnxruntime: {_first_line(error)}") from error
    with torch.inference_mode():
        wanted = [t.float().cpu() for t in tree_leaves(call(model, x)) if isinstance(t, Tensor)]
    off = _off(wanted, found)
    if not off <= CLOSE:
        raise ValueError(f"{name}: onnxruntime gives other numbers than torch, off by {off:.1e} of the largest")
    return lambda: session.run(None, given), f"exported and checked: onnxruntime is off by {off:.1e} of the largest"


def _off(wanted: list[Tensor], found: list[Any]) -> float:
    """The largest difference, in units of the largest output."""
    pairs = zip(wanted, found, strict=True)
    return max(float((a - torch.as_tensor(b).float()).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in pairs)


def _export(model: nn.Module, x: Batch, file: Path) -> None:
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            arguments = x if isinstance(x, tuple) else () if isinstance(x, dict) else (x,)
            named = x if isinstance(x, dict) else None
            torch.onnx.export(model, arguments, file, kwargs=named, dynamo=True, verbose=False)
    finally:
        quiet.setLevel(level)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
