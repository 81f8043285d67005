"""How a network is run while it is measured: where, in which numbers and layout, compiled or not."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate.costs._machine import device_there
from foveate.costs._onnx import runtime_there

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
            device_there(self.device)

    def place(self, model: nn.Module) -> nn.Module:
        """The network as the setting has it: itself where that is how it came, else a copy."""
        dtype = None if self.amp or self.dtype is None else DTYPES[self.dtype]
        if not (self.device or dtype or self.channels_last):
            return model
        placed = copy.deepcopy(model).to(device=self.device, dtype=dtype)
        return placed.to(memory_format=torch.channels_last) if self.channels_last else placed

    def batch(self, x: Tensor) -> Tensor:
        """The batch as the setting has it."""
        dtype = None if self.amp or self.dtype is None or not x.is_floating_point() else DTYPES[self.dtype]
        layout = torch.channels_last if self.channels_last and x.dim() == 4 else torch.preserve_format
        return x.to(device=self.device, dtype=dtype, memory_format=layout)

    @contextlib.contextmanager
    def numbers(self, device: torch.device) -> Iterator[None]:
        """Automatic mixed precision, if it is asked for."""
        dtype = DTYPES[self.dtype or "bf16"]
        with torch.autocast(device.type, dtype, enabled=self.amp):
            yield
