"""Pairs of queries and keys in blocks, where the whole map of them would be too much to hold."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

QUERIES, KEYS = 256, 512  # pairs of one block; of the sizes tried on a CPU these were the quickest
AT_ONCE = 2**20  # pairs that are held at a time, over all samples and heads


def parts(total: int, most: int) -> list[slice]:
    """The range of `total` indices in slices of at most `most`."""
    return [slice(start, min(start + most, total)) for start in range(0, total, most)]


def samples(count: int, queries: int, keys: int) -> list[slice]:
    """The samples (with heads) in slices that go through the blocks together."""
    return parts(count, max(AT_ONCE // (min(queries, QUERIES) * min(keys, KEYS)), 1))


def empty_like(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def held(count: int, queries: int, keys: int) -> int:
    """How many pairs a form in blocks holds at a time."""
    together = samples(count, queries, keys)[0].stop if count else 0
    return together * min(queries, QUERIES) * min(keys, KEYS)


def why_not(*given: Tensor) -> str | None:
    """The reason why a form in blocks cannot run on these tensors, or None if it can."""
    if torch.compiler.is_compiling():
        return None
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return "it has no rule for torch.func transforms and forward-mode derivatives"
    if min(t.numel() for t in given) == 0:
        return "it needs tensors with elements"
    return None


def autocasts(t: Tensor) -> bool:
    """Whether autocast is on for the tensor's device."""
    kind = t.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def autocasted(*given: Tensor) -> tuple[Tensor, ...]:
    """As autocast hands them to a matrix product: in its dtype where it is on."""
    dtype = torch.get_autocast_dtype(given[0].device.type) if autocasts(given[0]) else None
    return given if dtype is None else tuple(t.to(dtype) for t in given)


def uncast(t: Tensor) -> Any:
    """A context in which autocast leaves the operators alone."""
    return torch.autocast(t.device.type, enabled=False) if autocasts(t) else nullcontext()


def wide(t: Tensor) -> torch.dtype:
    """What is computed in: float32, or float64 for float64."""
    return torch.promote_types(t.dtype, torch.float32)
