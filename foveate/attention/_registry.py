"""Mechanisms by name: register, list, create. `Facts` has what is known of a mechanism beside its code."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from foveate.registry import Registry, check_options

LEAST_UNITS = 2  # one hidden unit whose ReLU is off for every item leaves a gate without gradients
DOMAINS = ("channel", "spatial", "mixed", "kernel", "self", "transform", "temporal")


@dataclass(frozen=True)
class Deviation:
    """A point in which the paper, the released code and this library differ."""

    point: str
    paper: str
    official: str
    ours: str


@dataclass(frozen=True)
class Facts:
    """A mechanism's paper and costs, as `foveate show`, the docs and the docstring give them.

    `parameters` and `macs` are Python expressions in C (channels), P (positions of the map), S (its sides, a tuple),
    d (spatial_dims), the mechanism's option names and the names in `where`, whose expressions are evaluated first, in
    order. The tests evaluate them against the module. `macs` are the multiply-adds of convolutions, linear layers and
    matrix products. `replaces` is what the mechanism stands in place of in its paper, such as "convolution 3×3"; ""
    where it is added to a network. `relu_units` gives, of the channels and all options, the hidden units of the ReLU
    network that a gate hangs on, of which it takes `LEAST_UNITS`; None: there is no such network.
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
    replaces: str = ""
    relu_units: Callable[[int, Mapping[str, Any]], int] | None = None

    def __post_init__(self) -> None:
        assert self.domain in DOMAINS, f"domain must be one of {DOMAINS}, got {self.domain!r}"


@dataclass(frozen=True)
class Made:
    """How `create_attention` made a module: its arguments."""

    name: str
    channels: int
    spatial_dims: int | None
    options: dict[str, Any]


_MADE = "_foveate_made"
ATTENTION: Registry[type[nn.Module]] = Registry("attention", "foveate.attention")
_FACTS: dict[str, Facts] = {}
Class = TypeVar("Class", bound=type[nn.Module])


def register_attention(name: str, facts: Facts | None = None) -> Callable[[Class], Class]:
    """Class decorator: make a mechanism available by name, wherever a name is accepted.

    The class takes `channels` first and only keyword options after it; for other than 2-D maps it takes `spatial_dims`
    too. An instance maps (N, C, *S) to (N, C, *S).

    Raises: ValueError: the name is taken by another class. TypeError: the constructor's first argument is not
        `channels`, or it takes arbitrary keyword options.
    """

    def decorate(cls: Class) -> Class:
        parameters = list(inspect.signature(cls).parameters.values())
        if not parameters or parameters[0].name != "channels":
            raise TypeError(f"{cls.__name__}: the first constructor argument must be called 'channels'")
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise TypeError(f"{cls.__name__}: **options would swallow a typing mistake; name every option")
        ATTENTION.add(name, cls)
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


def list_attention(pattern: str = "*") -> list[str]:
    """The registered names that match the glob pattern, sorted."""
    return ATTENTION.names(pattern)


def attention_class(name: str) -> type[nn.Module]:
    """The class registered under this name.

    Raises: UnknownNameError (a LookupError and a ValueError): no such name; gives the nearest.
    """
    return ATTENTION.get(name)


def attention_facts(name: str) -> Facts | None:
    """The facts of a mechanism; None for a class registered without them."""
    attention_class(name)
    return _FACTS.get(name)


def too_narrow(name: str, channels: int, options: Mapping[str, Any]) -> bool:
    """Does the mechanism degenerate at this width: has its gate fewer than `LEAST_UNITS` hidden units?"""
    facts = attention_facts(name)
    if facts is None or facts.relu_units is None:
        return False
    return facts.relu_units(channels, {**attention_options(name), **options}) < LEAST_UNITS


def attention_options(name: str) -> dict[str, Any]:
    """Option names of a mechanism with their defaults (`inspect.Parameter.empty` where there is none)."""
    parameters = list(inspect.signature(attention_class(name)).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.name != "spatial_dims"}


def check_attention_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError, with the nearest name, for an option that the mechanism does not have."""
    check_options(name, attention_class(name), options, skip=("channels", "spatial_dims"))


def create_attention(name: str, channels: int, *, spatial_dims: int | None = None, **options: Any) -> nn.Module:
    """Build a mechanism by name.

    Args:
        name: a registered name, see `list_attention`.
        channels: C of the map (N, C, *S).
        spatial_dims: number of axes in S: 1 (signals), 2 (images) or 3 (volumes, clips). None: 2, or 3 for
            mechanisms for clips.
        options: of the mechanism, see `foveate show NAME`.

    Raises: UnknownNameError (a LookupError): no such name. TypeError: no such option; gives the nearest.
        ValueError: an option or size that the mechanism does not allow.
    """
    cls = attention_class(name)
    check_attention_options(name, options)
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"{name}: channels must be a positive whole number; got {channels!r}")
    made = Made(name, channels, spatial_dims, dict(options))
    if "spatial_dims" in inspect.signature(cls).parameters:
        if spatial_dims is not None:
            options["spatial_dims"] = spatial_dims
    elif spatial_dims not in (None, 2):
        raise ValueError(f"{name} works on 2-D maps only (it takes no spatial_dims); got spatial_dims={spatial_dims}")
    module = cls(channels, **options)
    vars(module)[_MADE] = made
    return module


def made_by(module: nn.Module) -> Made | None:
    """The arguments of `create_attention` that made this module; None for any other module."""
    found = vars(module).get(_MADE)
    return found if isinstance(found, Made) else None
