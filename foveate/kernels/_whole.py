"""When a mechanism may run as a whole, in one call of C, instead of primitive by primitive."""

import torch
from torch import Tensor
from torch.nn import Parameter

from foveate.kernels._dispatch import choose


def runs_whole(name: str, impl: str | None, x: Tensor, *weights: Tensor) -> bool:
    """Whether the C form takes the map and the weights: all of one dtype, on CPU, and no mode that counts operators.

    Raises: what `choose` raises.
    """
    return (
        choose(name, impl, x) == "cpu"
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch.is_autocast_enabled("cpu")
        and all(type(t) in (Tensor, Parameter) and t.dtype == x.dtype and t.is_cpu for t in weights)
    )
