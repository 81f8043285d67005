"""Names for mechanisms: register, list, create. What is known of a mechanism beside its code stands in its `Facts`."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from torch import nn

DOMAINS = ("channel", "spatial", "mixed", "kernel", "self", "transform", "temporal")


class UnknownNameError(LookupError, ValueError):
    """A name that nothing is registered under; the message gives the nearest ones."""


@dataclass(frozen=True)
class Deviation:
    """One point where the paper and the released code (or ours) part."""

    point: str
    paper: str
    official: str
    ours: str


@dataclass(frozen=True)
class Facts:
    """What `foveate show`, the docs and the docstring say of a mechanism, written once.

    `parameters` and `macs` are Python expressions in C (channels), P (positions of the map), S (its sides, a tuple),
    d (spatial_dims), the mechanism's option names and the names of `where`, whose expressions are evaluated first, in
    order. The tests evaluate them against the module. `macs` are the multiply-adds of convolutions, linear layers and
    matrix products.
    """

    title: str
    authors: str
    year: int
    source: str  # "CVPR 2018, arXiv:1709.01507"
    domain: str
    equation: str
    parameters: str
    macs: str
    where: dict[str, str] = field(default_factory=dict)
    deviations: tuple[Deviation, ...] = ()

    def __post_init__(self) -> None:
        assert self.domain in DOMAINS, f"domain must be one of {DOMAINS}, got {self.domain!r}"


_CLASSES: dict[str, type[nn.Module]] = {}
_FACTS: dict[str, Facts] = {}
Class = TypeVar("Class", bound=type[nn.Module])


def register_attention(name: str, facts: Facts | None = None) -> Callable[[Class], Class]:
    """Class decorator: make a mechanism available by name, wherever a name is accepted.

    The class takes `channels` first and only keyword options after it; if it works on other than 2-D maps it takes
    `spatial_dims` too. An instance maps (N, C, *S) to (N, C, *S).

    Raises: ValueError: the name is taken by another class. TypeError: the constructor takes no `channels` first, or
        swallows unknown options.
    """

    def decorate(cls: Class) -> Class:
        if _CLASSES.setdefault(name, cls) is not cls and _CLASSES[name].__qualname__ != cls.__qualname__:
            raise ValueError(
                f"attention name {name!r} is taken by {_CLASSES[name].__module__}.{_CLASSES[name].__name__}"
            )
        parameters = list(inspect.signature(cls).parameters.values())
        if not parameters or parameters[0].name != "channels":
            raise TypeError(f"{cls.__name__}: the first constructor argument must be called 'channels'")
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise TypeError(f"{cls.__name__}: **options would swallow a typing mistake; name every option")
        _CLASSES[name] = cls
        if facts is not None:
            _FACTS[name] = facts
            cls.__doc__ = (inspect.getdoc(cls) or "") + "\n\n" + _deviations_text(facts)
        return cls

    return decorate


def _deviations_text(facts: Facts) -> str:
    lines = [f'Source: {facts.authors}, "{facts.title}", {facts.source} ({facts.year}).', ""]
    if not facts.deviations:
        return "\n".join([*lines, "Deviations: none known between paper, released code and this class."])
    lines.append("Deviations (point: paper | released code | here):")
    lines += [f"    {d.point}: {d.paper} | {d.official} | {d.ours}" for d in facts.deviations]
    return "\n".join(lines)


def _discover() -> None:
    """Import every mechanism file once; each registers itself."""
    package = importlib.import_module("foveate.attention")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"foveate.attention.{module.name}")


def list_attention(pattern: str = "*") -> list[str]:
    """The registered names that match the glob pattern, sorted."""
    _discover()
    return sorted(name for name in _CLASSES if fnmatchcase(name, pattern))


def attention_class(name: str) -> type[nn.Module]:
    """The class registered under this name. Raises: UnknownNameError (a LookupError): with the nearest names."""
    if name not in _CLASSES:
        _discover()
    if name not in _CLASSES:
        known = sorted(_CLASSES)
        near = get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
        raise UnknownNameError(f"no attention is called {name!r}; {hint}")
    return _CLASSES[name]


def attention_facts(name: str) -> Facts | None:
    """What is known of the mechanism beside its code; None for a class registered without it."""
    attention_class(name)
    return _FACTS.get(name)


def attention_options(name: str) -> dict[str, Any]:
    """Option names of a mechanism with their defaults (`inspect.Parameter.empty` where one must be given)."""
    parameters = list(inspect.signature(attention_class(name)).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.name != "spatial_dims"}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError, naming the nearest, for an option that the mechanism does not have."""
    known = attention_options(name)
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
            raise TypeError(f"{name} has no option {option!r}; {hint}")


def create_attention(name: str, channels: int, *, spatial_dims: int | None = None, **options: Any) -> nn.Module:
    """Build a mechanism by name.

    Args:
        name: a registered name, see `list_attention`.
        channels: C of the map (N, C, *S).
        spatial_dims: number of axes in S: 1 (signals), 2 (images) or 3 (volumes, clips). None: 2, or 3 for the
            mechanisms that are made for clips.
        options: the mechanism's own, see `foveate show NAME`.

    Raises: UnknownNameError (a LookupError): no such name. TypeError: no such option; the nearest is named.
        ValueError: an option or size that the mechanism cannot have.
    """
    cls = attention_class(name)
    check_options(name, options)
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"{name}: channels must be a positive whole number; got {channels!r}")
    if "spatial_dims" in inspect.signature(cls).parameters:
        if spatial_dims is not None:
            options["spatial_dims"] = spatial_dims
    elif spatial_dims not in (None, 2):
        raise ValueError(f"{name} works on 2-D maps only (it takes no spatial_dims); got spatial_dims={spatial_dims}")
    return cls(channels, **options)
