"""Counted costs: parameters, multiply-adds, bytes moved, bytes kept for the backward pass."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry


def parameters(model: nn.Module) -> int:
    """Number of parameters, each counted once."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds of one forward pass: convolutions, linear layers, matrix products and attention; half the FLOPs."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_MISSING) as counter:
        model(x)
    return counter.get_total_flops() // 2


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Of softmax(q kᵀ) v, with q (…, n, d), k (…, m, d), v (…, m, e)."""
    *batch, n, d = query
    m, e = key[-2], value[-1]
    return int(2 * math.prod(batch) * n * m * (d + e))


_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_MISSING = {} if _ON_CPU in flop_registry else {_ON_CPU: _attention_flops}  # torch < 2.12 counts nothing for it


class _Traffic(TorchDispatchMode):
    """Adds up the sizes of what every operator reads and writes; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        written = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        aliases = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not aliases:
            self.bytes += sum(t.numel() * t.element_size() for t in (*read, *written))
        return result


def bytes_moved(model: nn.Module, x: Tensor) -> int:
    """Bytes that the operators of one forward pass read and write, had each of them to go to memory."""
    with torch.no_grad(), _Traffic() as traffic:
        model(x)
    return traffic.bytes


def activation_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes that one forward pass keeps for its backward pass, parameters and buffers not counted."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    held = []  # storages must stay alive, or their addresses are given out again
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        held.append(model(x))
    return sum(kept.values())
