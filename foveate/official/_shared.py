"""What the residual networks of several sources share: the names of a mechanism within every block."""

from collections.abc import Mapping
from typing import Any

from torch import nn

Built = tuple[nn.Module, dict[str, str]]


def in_blocks(keys: Mapping[str, str], theirs: str, ours: str = "attention") -> dict[str, str]:
    """The keys of a mechanism that is called `theirs` in every block of every stage there, and `ours` here."""
    return {f"*.*.{theirs}.{a}": f"*.*.{ours}.{b}" if b else f"*.*.{ours}" for a, b in keys.items()}


def only(cls: str, **given: tuple[Any, Any]) -> None:
    """Each option is (got, the only value known here). Raises: ValueError: another value."""
    for name, (got, known) in given.items():
        if got != known:
            raise ValueError(f"{cls}: {name} must be {known!r}, others are not known here; got {got!r}")
