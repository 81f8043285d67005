"""Bounds on the memory of attention over pairs, computed from sizes before the forward pass."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foveate.kernels.pairs._blocks import pairs_in_memory

_MIB = 2**20


def check_budget(name: str, budget_mib: float | None) -> None:
    """Raise ValueError unless the option is None or a positive number."""
    if budget_mib is None:
        return
    if isinstance(budget_mib, bool) or not isinstance(budget_mib, int | float) or not budget_mib > 0:
        raise ValueError(f"{name}: attention_budget_mib must be a positive number or None; got {budget_mib!r}")


def trains(module: nn.Module, x: Tensor) -> bool:
    """Can a backward pass through the module follow?"""
    return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in module.parameters()))


def tokens_mib(n: int, tokens: int, x: Tensor, training: bool) -> float:
    """MiB of `tokens` values a sample in x's dtype (queries, keys, values, response), in training with gradients."""
    return n * tokens * x.element_size() * (1 + training) / _MIB


def blocks_mib(n: int, queries: int, keys: int, x: Tensor, training: bool) -> float:
    """MiB of the pairs that a blocked form has in memory: their weights, in training with gradients."""
    return pairs_in_memory(n, queries, keys) * max(x.element_size(), 4) * (1 + training) / _MIB


def pairs_mib(n: int, queries: int, keys: int, x: Tensor, maps: int) -> float:
    """MiB of this many maps of all pairs."""
    return n * queries * keys * max(x.element_size(), 4) * maps / _MIB


def keep_within(
    name: str,
    budget_mib: float | None,
    sides: Sequence[int],
    need: Callable[..., float],
    changes: Mapping[str, Mapping[str, Any]],
    smaller: str = "a map of",
) -> None:
    """Raise ValueError if need(sides) MiB exceed the budget; the message lists what fits.

    Args:
        sides: of the map that attends.
        need: MiB for a map of given sides; further options as keywords.
        changes: options that need less, such as {"sub_sample=True": {"sub_sample": True}}.
        smaller: words before smaller sides in the message.
    """
    if budget_mib is None or torch.compiler.is_exporting():
        return
    needed = need(sides)
    if needed <= budget_mib:
        return
    fits = [
        f"{words} ({mib:.1f} MiB)" for words, change in changes.items() if (mib := need(sides, **change)) <= budget_mib
    ]
    half = list(sides)
    while need(half) > budget_mib and max(half) > 1:
        half = [math.ceil(side / 2) for side in half]
    if (mib := need(half)) <= budget_mib:
        fits.append(f"{smaller} {_by(half)} ({mib:.1f} MiB)")
    fits.append(f"attention_budget_mib={math.ceil(needed)}")
    raise ValueError(
        f"{name}: attending on {_by(sides)} positions needs {needed:.1f} MiB, attention_budget_mib is {budget_mib:g};"
        f" what fits: {', '.join(fits)}"
    )


def _by(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))
