"""Where a network came from: noted on it when it is built by name, so that it can be built again."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

ORIGIN = "_foveate_network"


@dataclass(frozen=True)
class Origin:
    """The arguments of `build_network`, and how the network was made larger.

    Attributes:
        width: factor of every width.
        layers: number of a layer in the order of construction, channels more that it takes, and that it gives.
        block: name of the `nn.Sequential` that has one block more; "": none has.
    """

    name: str
    num_classes: int
    in_channels: int = 3
    options: dict[str, Any] = field(default_factory=dict)
    width: float = 1.0
    layers: tuple[tuple[int, int, int], ...] = ()
    block: str = ""


def note_origin(model: nn.Module, origin: Origin) -> nn.Module:
    """Write it down on the network; returns the network."""
    vars(model)[ORIGIN] = origin
    return model


def origin_of(model: nn.Module) -> Origin | None:
    """What was written down; None for a network that was built otherwise."""
    found = vars(model).get(ORIGIN)
    return found if isinstance(found, Origin) else None
