"""Multiply-adds of convolutions that read only zeros: what gates of exactly 0 would save a backend that skips."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.counting.inputs import Batch, call
from foveate.counting.watch import as_found
from foveate.counting.work import work_of


def macs_on_zeros(model: nn.Module, x: Batch) -> int:
    """Multiply-adds, of one pass in evaluation mode, of convolutions over channels or positions that are 0 throughout.

    A channel counts where it is 0 at every position of the sample, a position where it is 0 in every channel; its share
    of the convolution's multiply-adds is its share of the map. torch's dense convolutions compute them all the same.
    """
    seen = _Convolutions()
    with as_found(model), torch.no_grad(), seen:
        model.eval()
        call(model, x)
    return round(seen.macs)


class _Convolutions(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.macs = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.ops.aten.convolution.default:
            self.macs += work_of("aten.convolution", func, args, kwargs, result).macs * _share_of_zeros(args[0])
        return result


def _share_of_zeros(x: Tensor) -> float:
    """Of the entries of (N, C, *S) that lie in a channel or at a position that is 0 throughout."""
    zero = x.flatten(2) == 0
    return float((zero.all(2, keepdim=True) | zero.all(1, keepdim=True)).float().mean())
