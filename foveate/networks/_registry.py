"""Our own networks by name."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from torch import nn

from foveate.networks._origin import Origin, note_origin

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}
_SHAPES: dict[str, tuple[int, ...]] = {}
PHOTO = (3, 224, 224)
Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


def register_network(name: str, *, shape: tuple[int, ...] = PHOTO) -> Callable[[Builder], Builder]:
    """Decorator: make a constructor available by name; it takes `num_classes` and keyword options.

    shape: of one sample as in its paper, (C, *S); only for what is shown and measured, and as the size to evaluate at.

    Raises: ValueError: the name is taken.
    """

    def decorate(builder: Builder) -> Builder:
        if _BUILDERS.setdefault(name, builder) is not builder:
            raise ValueError(f"network name {name!r} is taken")
        _SHAPES[name] = shape
        return builder

    return decorate


def _discover() -> None:
    package = importlib.import_module("foveate.networks")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"foveate.networks.{module.name}")


def list_networks(pattern: str = "*") -> list[str]:
    """The names of our own networks that match the glob pattern, in natural order."""
    _discover()
    names = [name for name in _BUILDERS if fnmatchcase(name, pattern)]
    return sorted(names, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def usual_shape(name: str) -> tuple[int, ...]:
    """(C, *S) of one sample as the paper of one of our networks has it. Raises: LookupError: no such name."""
    name = name.removeprefix("foveate:")
    known = list_networks()
    if name not in _SHAPES:
        raise LookupError(f"no network is called {name!r}; {nearest(name, known)}")
    return _SHAPES[name]


def nearest(name: str, known: list[str]) -> str:
    """The hint of an error: the nearest of the known names, or where to find them."""
    near = get_close_matches(name, known, 3)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(known)}" if len(known) <= 20 else f"there are {len(known)} others"


def check_options(name: str, builder: Callable[..., nn.Module], options: dict[str, Any]) -> None:
    """Raise TypeError, naming the nearest, for an option that the builder's signature does not have."""
    parameters = inspect.signature(builder).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            raise TypeError(f"{name} has no option {option!r}; {nearest(option, list(parameters))}")


def create_network(name: str, *, num_classes: int | None = None, **options: Any) -> nn.Module:
    """Build one of our own networks by name, with fresh weights from torch's global generator.

    Args:
        name: one of `list_networks()`.
        num_classes: outputs of the classifier; None: those of the paper (1000 for ImageNet, 10 for CIFAR-10, …).
        options: of its constructor.

    Raises: LookupError: no such name. TypeError: no such option. ValueError: an option that cannot be.
    """
    name = name.removeprefix("foveate:")
    known = list_networks()
    if name not in _BUILDERS:
        raise LookupError(f"no network is called {name!r}; {nearest(name, known)}")
    builder = _BUILDERS[name]
    if num_classes is None:
        own = inspect.signature(builder).parameters.get("num_classes")
        num_classes = own.default if own is not None and isinstance(own.default, int) else 1000
    check_options(name, builder, {"num_classes": num_classes, **options})
    network = builder(num_classes=num_classes, **options)
    of_its_own = inspect.signature(builder).parameters.get("in_channels")
    in_channels = options.pop("in_channels", 3 if of_its_own is None else of_its_own.default)
    return note_origin(network, Origin(f"foveate:{name}", num_classes, in_channels, options))
