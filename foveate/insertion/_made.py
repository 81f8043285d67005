"""How an inserted module was made, noted on it, so that it can be made again from plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from foveate.attention import attention_class, list_attention

MADE = "_foveate_made"
"""Attribute of an inserted module that holds its :class:`Made`."""


@dataclass(frozen=True)
class Made:
    """What was asked for at one site.

    Attributes:
        attention: registered name; None for a class or function that is not registered.
        options: the mechanism's own.
        start: ``"paper"``, ``"identity"`` or ``"blend"``, as in :class:`~foveate.insertion.Placement`.
    """

    attention: str | None
    start: str
    options: dict[str, Any] = field(default_factory=dict)


def note_making(
    new: nn.Module, attention: str | Callable[..., nn.Module], start: str, options: dict[str, Any]
) -> nn.Module:
    """Write down on ``new`` how it was made; returns it."""
    name = attention if isinstance(attention, str) else _registered(attention)
    vars(new)[MADE] = Made(name, start, dict(options))
    return new


def _registered(attention: Callable[..., nn.Module]) -> str | None:
    return next((name for name in list_attention() if attention_class(name) is attention), None)
