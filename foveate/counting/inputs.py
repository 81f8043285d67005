"""What a network is run on: a tensor, a tuple of arguments, a list of images, or a dict of keyword arguments."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Batch = Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]


def call(model: Callable[..., Any], x: Batch) -> Any:
    """What the network gives: a tuple holds its arguments, a dict its keyword arguments, all else is the one argument.

    A network that takes a dict as its one argument is given ({…},).
    """
    if isinstance(x, tuple):
        return model(*x)
    return model(**x) if isinstance(x, dict) else model(x)


def first_tensor(x: Batch) -> Tensor:
    """The first tensor of a batch, a floating one if there is any: its device and dtype are those of the batch.

    Raises: TypeError: there is none.
    """
    tensors = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
    if not tensors:
        raise TypeError(
            "wanted a batch: a tensor, a tuple of arguments, a list of images, or a dict of keyword arguments; "
            f"got {type(x).__name__} without a tensor"
        )
    return next((t for t in tensors if t.is_floating_point()), tensors[0])


def batch_size(x: Batch) -> int:
    """Samples in a batch: those of its first argument, a tensor (N, …) or a list of N. Raises: TypeError: no tensor."""
    first_tensor(x)
    while isinstance(x, tuple | dict):
        x = next(iter(x.values() if isinstance(x, dict) else x))
    if isinstance(x, list):
        return len(x)
    return x.shape[0] if isinstance(x, Tensor) and x.dim() else 1


def first_samples(x: Batch, count: int) -> Batch:
    """The first `count` samples; what has none of its own stays, such as a scale that is the same for all."""
    return _each_sample(x, batch_size(x), lambda t: t[:count], lambda items: items[:count])


def repeated(x: Batch, count: int) -> Batch:
    """The first sample `count` times; tensors are views."""
    one = first_samples(x, 1)
    return _each_sample(one, 1, lambda t: t.expand(count, *t.shape[1:]), lambda items: items * count)


def _each_sample(
    x: Any, count: int, tensor: Callable[[Tensor], Tensor], items: Callable[[list[Any]], list[Any]]
) -> Any:
    if isinstance(x, Tensor):
        return tensor(x) if x.dim() and x.shape[0] == count else x
    if isinstance(x, list) and len(x) == count:
        return items(x)
    if isinstance(x, tuple):
        return tuple(_each_sample(part, count, tensor, items) for part in x)
    return {key: _each_sample(v, count, tensor, items) for key, v in x.items()} if isinstance(x, dict) else x


def placed(
    x: Batch, device: str | torch.device | None, dtype: torch.dtype | None = None, *, channels_last: bool = False
) -> Batch:
    """The batch on a device; its floating tensors in a dtype, its maps of images with channels last. None: as it is."""

    def place(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        layout = torch.channels_last if channels_last and leaf.dim() == 4 else torch.preserve_format
        return leaf.to(device=device, dtype=dtype if leaf.is_floating_point() else None, memory_format=layout)

    return tree_map(place, x)
