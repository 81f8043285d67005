"""Hangs a module on a host by swapping the host's class, and takes it off again.

The host keeps its identity, its name in the state dict, its ``isinstance`` and its hooks; only ``forward`` gains one
call. The swapped class is made once per base class and pickles by way of the base. Other tools may derive classes from
it (parametrizations, ``fully_shard``): it is found along the method resolution order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from foveate.insertion.blend import Crossfade
from foveate.insertion.places import CONTAINERS
from foveate.insertion.probe import CHILD
from foveate.insertion.site import Site

SITE = "_foveate_site"
"""Attribute of an inserted module: its :class:`Site`."""

SWAP = "_foveate_swap"
"""Attribute of a swapped class: its base class and its side, ``"root"`` for a watched root."""

PLAIN = "_foveate_plain"
"""Attribute of a function that runs attention: the function without it."""


class Entries(nn.Module):
    """Attention for some of the tensors that a module returns together: child ``"2"`` takes the third of them.

    Shape: a list, tuple or dictionary of tensors, nested or not, and out the same.
    """

    def forward(self, given: Any) -> Any:
        leaves, form = tree_flatten(given)
        for number, attention in self._modules.items():
            assert attention is not None
            leaves[int(number)] = attention(leaves[int(number)])
        return tree_unflatten(leaves, form)


def with_attention(function: Callable[..., Any], side: str) -> Callable[..., Any]:
    """``function``, the forward pass of a host, with the attention at that side of it.

    With ``side="instead"`` the child takes the input, and ``function`` runs only to be blended with. Without the child
    it is ``function`` alone.
    """

    @functools.wraps(function)
    def after(self: Any, *args: Any, **kwargs: Any) -> Any:
        if CHILD not in self._modules:
            return function(self, *args, **kwargs)
        _refuse_quantized(self, args)
        return self.foveate(function(self, *args, **kwargs))

    @functools.wraps(function)
    def before(self: Any, *args: Any, **kwargs: Any) -> Any:
        if CHILD not in self._modules:
            return function(self, *args, **kwargs)
        _refuse_quantized(self, args)
        if args:
            return function(self, self.foveate(args[0]), *args[1:], **kwargs)
        first = next(iter(kwargs))
        return function(self, **{**kwargs, first: self.foveate(kwargs[first])})

    @functools.wraps(function)
    def instead(self: Any, *args: Any, **kwargs: Any) -> Any:
        if CHILD not in self._modules:
            return function(self, *args, **kwargs)
        _refuse_quantized(self, args)
        (x,) = (*args, *kwargs.values())
        if not isinstance(self.foveate, Crossfade):
            return self.foveate(x)
        kept = x.clone() if getattr(self, "inplace", False) else x
        return self.foveate(kept, function(self, x))

    chosen = {"output": after, "input": before, "instead": instead}[side]
    vars(chosen)[PLAIN] = function
    return chosen


FORWARDS: dict[str, Callable[[Any], Any]] = {
    side: functools.partial(with_attention, side=side) for side in ("output", "input", "instead")
}
"""The forward pass of a swapped class, made of that of its base, by the side; :mod:`.watch` adds ``"root"``."""


def _refuse_quantized(host: nn.Module, args: tuple[Any, ...]) -> None:
    if any(isinstance(argument, torch.Tensor) and argument.is_quantized for argument in args):
        raise ValueError(
            f"{site_of(host).name}: attention computes in floating point and got a quantized tensor; quantize the "
            "plain network, after foveate.remove(model), or keep this block out of it with qconfig = None"
        )


@cache
def swapped(base: Any, side: str) -> Any:
    """The subclass of ``base`` whose forward pass runs its child ``foveate`` at that side, or that of a watched root.

    It has the name and module of the base, and its instances pickle by way of the base.
    """

    def reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
        function, args, *rest = base.__reduce_ex__(self, max(2, protocol))
        args = tuple(base if argument is type(self) else argument for argument in args)
        return (_rebuild, (side, function, args), *rest)

    body = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__ if side == "root" else f"{base.__qualname__} with attention",
        "__doc__": base.__doc__,
        "__reduce_ex__": reduce,
        SWAP: (base, side),
        "forward": FORWARDS[side](base.forward),
    }
    if issubclass(base, CONTAINERS) and side != "root":
        body |= _container_without_child(base)
    return type(base)(base.__name__, (base,), body)


def _container_without_child(base: type) -> dict[str, Any]:
    """Iteration over a container, as its own ``forward`` does it, leaves out the child."""

    def own(self: Any) -> dict[str, nn.Module]:
        return {name: module for name, module in self._modules.items() if name != CHILD}

    def length(self: Any) -> int:
        return len(own(self))

    if issubclass(base, nn.ModuleDict):
        return {
            "__len__": length,
            "__iter__": lambda self: iter(own(self)),
            "keys": lambda self: own(self).keys(),
            "items": lambda self: own(self).items(),
            "values": lambda self: own(self).values(),
        }
    return {"__len__": length, "__iter__": lambda self: iter(own(self).values())}


def _rebuild(side: str, function: Callable[..., nn.Module], args: tuple[Any, ...]) -> nn.Module:
    """Unpickle a swapped module: the base as it rebuilds itself, then the swap."""
    module = function(*args)
    base: Any = type(module)
    module.__class__ = swapped(base, side)
    return module


def swap_of(module: nn.Module) -> tuple[type[nn.Module], str] | None:
    """Base class and side of a host, whatever other tools derived from its class; None for all other modules."""
    for cls in type(module).__mro__:
        swap: tuple[type[nn.Module], str] | None = vars(cls).get(SWAP)
        if swap is not None and swap[1] != "root":
            return swap
    return None


def hosts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of all hosts in ``model``."""
    return ((name, m) for name, m in model.named_modules() if CHILD in m._modules and swap_of(m) is not None)


def site_of(child: nn.Module) -> Site:
    """The site of an inserted module, also where another tool wrapped it."""
    return next(vars(module)[SITE] for module in child.modules() if SITE in vars(module))


def carried(model: nn.Module) -> Iterator[tuple[str, nn.Module, Site]]:
    """Every inserted module in ``model`` with the name of its host and its site."""
    for name, host in hosts(model):
        child = host._modules[CHILD]
        assert child is not None
        parts = child.children() if isinstance(child, Entries) else (child,)
        yield from ((name, part, site_of(part)) for part in parts)


def refusal(host: nn.Module, site: Site) -> str | None:
    """Why ``host`` can carry no attention; None if it can."""
    if swap_of(host) is not None and (child := host._modules.get(CHILD)) is not None:
        if isinstance(child, Entries) and site.entry is not None and str(site.entry) not in child._modules:
            return None
        return (
            f"{site.name}: {site.attached_to} already carries attention (put in at {site_of(child).name}); "
            "remove(model) first"
        )
    if hasattr(host, CHILD):
        return (
            f"{site.name}: {site.attached_to} has an attribute {CHILD!r} of its own, under which attention would hang"
        )
    return None


def attach(host: nn.Module, attention: nn.Module, site: Site) -> None:
    """Make ``attention`` a child of ``host`` that runs with it."""
    assert refusal(host, site) is None
    child = attention
    if not isinstance(attention, Entries):
        vars(attention)[SITE] = site
        if site.entry is not None:
            child = host._modules.get(CHILD) or Entries()
            child.train(host.training).add_module(str(site.entry), attention)
    if CHILD in host._modules:
        return
    if isinstance(child, Entries):
        vars(child)[SITE] = site  # of the first
    host.add_module(CHILD, child)
    base: Any = type(host)
    host.__class__ = swapped(base, site.side)


def detach(host: nn.Module, site: Site | None = None) -> None:
    """Undo :func:`attach`, also of a module that took a host's children over.

    Args:
        site: of the only module to take out, where the host carries several. None: all.

    Raises:
        ValueError: if another tool derived a class from the host's.
    """
    inside = host._modules[CHILD]
    if site is not None and isinstance(inside, Entries) and len(inside._modules) > 1:
        del inside._modules[str(site.entry)]
        return
    if swap_of(host) is not None:
        host.__class__ = without_swap(type(host), root=False)
    child = host._modules.pop(CHILD)
    assert child is not None
    for module in child.modules():
        vars(module).pop(SITE, None)  # a root above finds it taken out, not lost
    bound = own_forward(host)
    if bound is not None and PLAIN in vars(bound.__func__):
        vars(host)["forward"] = MethodType(vars(bound.__func__)[PLAIN], host)


def carriers(model: nn.Module) -> list[nn.Module]:
    """Hosts, and modules of other tools that took over a host's children."""

    def carries(child: nn.Module | None) -> bool:
        return child is not None and any(SITE in vars(module) for module in child.modules())

    return [m for m in model.modules() if CHILD in m._modules and carries(m._modules[CHILD])]


def without_swap(cls: Any, *, root: bool) -> Any:
    """``cls`` without its swap of a host, or of a root; raises a ValueError if another tool derived ``cls`` from it."""
    if SWAP not in vars(cls):
        raise ValueError(
            f"{cls.__name__} is a class that another tool derived after the insertion, as parametrizations and "
            "fully_shard do; undo that first (torch.nn.utils.parametrize.remove_parametrizations), then remove"
        )
    base, side = vars(cls)[SWAP]
    return base if (side == "root") == root else swapped(without_swap(base, root=root), side)


def own_forward(module: nn.Module) -> Any:
    """What a tool bound as ``forward`` of this module alone, if that is one of its methods; else None."""
    bound = vars(module).get("forward")
    return bound if isinstance(bound, MethodType) and bound.__self__ is module else None
