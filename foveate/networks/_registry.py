"""Our own networks by name."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from foveate.networks._origin import Origin, note_origin
from foveate.registry import Registry, check_options

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])
NETWORKS: Registry[Callable[..., nn.Module]] = Registry("network", "foveate.networks")
_SHAPES: dict[str, tuple[int, ...]] = {}
PHOTO = (3, 224, 224)


def register_network(name: str, *, shape: tuple[int, ...] = PHOTO) -> Callable[[Builder], Builder]:
    """Decorator: make a constructor available by name; it takes `num_classes` and keyword options.

    A network that its task's usual loss does not train has a method `loss(outputs, targets) -> Tensor`: outputs as its
    forward pass gives them, targets as the task has them, and the mean over the batch. Several outputs of one kind, the
    answer first, need none: each is supervised.

    shape: of one sample as in its paper, (C, *S); only for what is shown and measured, and as the size to evaluate at.

    Raises: ValueError: the name is taken.
    """

    def decorate(builder: Builder) -> Builder:
        NETWORKS.add(name, builder)
        _SHAPES[name] = shape
        return builder

    return decorate


def list_networks(pattern: str = "*") -> list[str]:
    """The names of our own networks that match the glob pattern, in natural order."""
    return sorted(NETWORKS.names(pattern), key=lambda name: (name.rstrip("0123456789"), len(name), name))


def usual_shape(name: str) -> tuple[int, ...]:
    """(C, *S) of one sample as the paper of one of our networks has it. Raises: LookupError: no such name."""
    name = name.removeprefix("foveate:")
    NETWORKS.get(name)
    return _SHAPES[name]


def usual_classes(name: str) -> int:
    """Outputs of the classifier as the paper of one of our networks has it. Raises: LookupError: no such name."""
    own = inspect.signature(NETWORKS.get(name)).parameters.get("num_classes")
    return own.default if own is not None and isinstance(own.default, int) else 1000


def create_network(name: str, *, num_classes: int | None = None, **options: Any) -> nn.Module:
    """Build one of our own networks by name, with fresh weights from torch's global generator.

    Args:
        name: one of `list_networks()`.
        num_classes: outputs of the classifier; None: those of the paper (1000 for ImageNet, 10 for CIFAR-10, …).
        options: of its constructor.

    Raises: LookupError: no such name. TypeError: no such option. ValueError: an option that cannot be.
    """
    name = name.removeprefix("foveate:")
    builder = NETWORKS.get(name)
    if num_classes is None:
        num_classes = usual_classes(name)
    check_options(name, builder, ("num_classes", *options))
    network = builder(num_classes=num_classes, **options)
    of_its_own = inspect.signature(builder).parameters.get("in_channels")
    in_channels = options.pop("in_channels", 3 if of_its_own is None else of_its_own.default)
    return note_origin(network, Origin(f"foveate:{name}", num_classes, in_channels, options))
