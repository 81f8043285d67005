"""Blocks of query-key pairs, for maps of pairs that are too large to store whole."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

QUERIES, KEYS = 256, 512  # of one block; the fastest of the sizes tried on a CPU
AT_ONCE = 2**20  # pairs in memory at a time, over all samples and heads


def parts(total: int, most: int) -> list[slice]:
    """Indices 0 … total − 1 as slices of at most `most`."""
    return [slice(start, min(start + most, total)) for start in range(0, total, most)]


def samples(count: int, queries: int, keys: int) -> list[slice]:
    """Slices of the samples (times heads) that are computed together."""
    return parts(count, max(AT_ONCE // (min(queries, QUERIES) * min(keys, KEYS)), 1))


def empty_like(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def pairs_in_memory(count: int, queries: int, keys: int) -> int:
    """The number of pairs that a blocked form has in memory at a time."""
    together = samples(count, queries, keys)[0].stop if count else 0
    return together * min(queries, QUERIES) * min(keys, KEYS)


def why_not(*given: Tensor) -> str | None:
    """Why a blocked form cannot run on these tensors; None if it can."""
    if torch.compiler.is_compiling():
        return None
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return "it has no rule for torch.func transforms and forward-mode derivatives"
    if min(t.numel() for t in given) == 0:
        return "it needs tensors with elements"
    return None


def autocasts(t: Tensor) -> bool:
    """Is autocast on for the tensor's device?"""
    kind = t.device.type
    # The compiler of torch 2.11 cannot trace is_autocast_available.
    known = torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)
    return known and torch.is_autocast_enabled(kind)


def autocasted(*given: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where it is on, as for a matrix product."""
    dtype = torch.get_autocast_dtype(given[0].device.type) if autocasts(given[0]) else None
    return given if dtype is None else tuple(t.to(dtype) for t in given)


def uncast(t: Tensor) -> Any:
    """A context with autocast off."""
    return torch.autocast(t.device.type, enabled=False) if autocasts(t) else nullcontext()


def exponential_(pairs: Tensor) -> Tensor:
    """e^pairs in place. Subnormal results become 0: processors take ten times as long for them."""
    tiny = torch.finfo(pairs.dtype).tiny
    return torch.threshold_(pairs.clamp_(min=math.log(tiny)).exp_(), 2 * tiny, 0.0)


def wide(t: Tensor) -> torch.dtype:
    """The dtype of the computation: float64 for float64, else float32."""
    return torch.promote_types(t.dtype, torch.float32)


def is_batched(t: Tensor) -> bool:
    """Is this a batch of gradients (`is_grads_batched`, or vmap over a backward pass)?"""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(t) or functorch.is_legacy_batchedtensor(t)


def folded(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The vmap rule of an operator over samples: the vmapped axis becomes part of the sample axis."""

    def rule(info: Any, in_dims: Sequence[int | None], *given: Any) -> tuple[Any, Any]:
        flat = []
        for value, dim in zip(given, in_dims, strict=True):
            if isinstance(value, Tensor):
                value = value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
                value = value.flatten(0, 1)
            flat.append(value)
        found = operator(*flat)
        if isinstance(found, Tensor):
            return found.unflatten(0, (info.batch_size, -1)), 0
        return tuple(t.unflatten(0, (info.batch_size, -1)) for t in found), (0,) * len(found)

    return rule


def reference_twice(
    reference: Callable[..., Tensor], along: Sequence[Tensor], dout: Tensor, *given: Tensor
) -> tuple[Tensor, ...]:
    """Second derivatives by the reference, differentiable again, with all pairs in memory.

    along: gradients of the first derivatives of `given`. Returns: gradients of dout and of `given`.
    """
    with torch.enable_grad(), uncast(dout):
        # Views, since dout itself depends on the inputs.
        known = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in (dout, *given)]
        first = torch.autograd.grad(reference(*known[1:]), known[1:], known[0], create_graph=True)
        found = torch.autograd.grad(first, known, along, create_graph=True, allow_unused=True)
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, known, strict=True))
