"""Bytes that an operator reads and writes, had each of its operands to go to memory once."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from foveate.counting.work import plain_name

_ALLOCATES = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "resize"}
_PICKS = {"index", "_unsafe_index", "index_select", "gather", "embedding", "take", "masked_select"}
_PUTS = {"index_put", "_index_put_impl", "scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy",
         "index_fill", "masked_scatter"}  # fmt: skip
_ONLY_WRITES = {"copy", "fill", "zero", "uniform", "normal", "bernoulli", "random", "exponential", "log_normal",
                "cauchy", "geometric", "index_put", "_index_put_impl", "scatter", "index_copy", "index_fill",
                "masked_scatter"}  # fmt: skip

_UPDATES_STATISTICS = {"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"}


def tensors_in(*values: Any) -> Iterator[Tensor]:
    return (t for t in tree_leaves(values) if isinstance(t, Tensor))


def storage_of(t: Tensor) -> int:
    """A number for the memory behind a tensor, while it lives; also on the meta device, where it has no address."""
    try:
        return int(t.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a subclass or layout without a storage of its own
        return id(t)


def bytes_of(t: Tensor) -> int:
    """Of the distinct elements behind a tensor: what is expanded counts once, windows that overlap at most once."""
    if t.layout is not torch.strided:
        return t.numel() * t.element_size()
    if t.numel() == 0:
        return 0
    own = [(size, stride) for size, stride in zip(t.shape, t.stride(), strict=True) if stride]
    span = 1 + sum((size - 1) * stride for size, stride in own)
    return min(math.prod(size for size, _ in own), span) * t.element_size()


def moved(operator: str, func: Any, args: Any, kwargs: Any, result: Any) -> tuple[int, int] | None:
    """Bytes read and written; None of an operator that only views, allocates or asks, and so starts no kernel."""
    name = plain_name(operator)
    schema = getattr(func, "_schema", None)
    given, made = list(tensors_in(args, kwargs)), list(tensors_in(result))
    changed = list(_changed(schema, args, kwargs)) if schema is not None else []
    if operator.startswith("prim.") or name in _ALLOCATES or torch.Tag.inplace_view in getattr(func, "tags", ()):
        return None
    if not made and not changed and name not in ("_local_scalar_dense", "equal"):
        return None
    known = {storage_of(t) for t in given}
    if not changed and made and all(storage_of(t) in known for t in made):
        return None
    changed_storages = {storage_of(t) for t in changed}
    if name in _UPDATES_STATISTICS and args[5]:
        changed += tensors_in(args[3:5])  # which the schema does not say
    written = _distinct([*changed, *(t for t in made if storage_of(t) not in changed_storages)])
    overwritten = changed_storages if name in _ONLY_WRITES or _is_out(schema, changed) else set()
    if name.endswith("_like") or name.startswith("new_"):
        given = []
    read = _distinct([t for t in given if storage_of(t) not in overwritten or all(t is not c for c in changed)])
    if name in _PICKS and given:
        source, picked = _distinct([given[0]]), _distinct(made)
        return read - source + min(source, picked), written
    if name in _PUTS and changed:
        put = min(_put(name, args) * changed[0].element_size(), _distinct(changed))
        return read - (0 if overwritten else _distinct(changed) - put), put
    return read, written


def _changed(schema: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Arguments that the operator writes to."""
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else (kwargs or {}).get(argument.name)
            yield from tensors_in(value)


def _put(name: str, args: Any) -> int:
    """Elements that an operator writes into its first argument, at the indices that it is given."""
    target = args[0]
    if name in ("index_fill", "index_copy", "index_add"):
        return int(target.numel() // max(1, target.shape[args[1]]) * args[2].numel()) if target.dim() else 1
    if name.startswith("scatter"):
        return int(args[2].numel())
    masks = any(t.dtype in (torch.bool, torch.uint8) for t in tensors_in(args[1]))
    if name == "masked_scatter" or masks:
        return int(args[2].numel())
    indices = tuple(slice(None) if t is None else t.to("meta") for t in args[1])
    return int(target.to("meta")[indices].numel())


def _is_out(schema: Any, changed: list[Tensor]) -> bool:
    return bool(changed) and schema is not None and any(argument.is_out for argument in schema.arguments)


def _distinct(tensors: list[Tensor]) -> int:
    """Bytes of tensors, the same view of the same memory once."""
    seen = {(storage_of(t), t.storage_offset(), t.shape, t.stride()) if t.layout is torch.strided else id(t): t
            for t in tensors}  # fmt: skip
    return sum(bytes_of(t) for t in seen.values())
