"""Hangs a module on a host by swapping the host's class, and takes it off again.

The host keeps its identity, its name in the state dict, its ``isinstance`` and its hooks; only ``forward`` gains one
call. The swapped class is made once per base class and pickles by way of the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

from foveate.insertion.places import CONTAINERS, Places, Site
from foveate.insertion.probe import CHILD, nested_tensors, preserve_state, run_example

SITE = "_foveate_site"
"""Attribute of an inserted module: its :class:`Site`."""


class Blend(nn.Module):
    r"""Starts any attention as the identity: :math:`x + s\,(A(x) - x)` with a learnable scalar :math:`s = 0`.

    Gradients reach ``s`` in the first step and the attention's weights from the second on. A mechanism that is the
    identity at its own initialisation sets the class attribute ``starts_as_identity = True`` and is not wrapped.

    Args:
        attention: module ``(N, C, *S) -> (N, C, *S)``.
        device: of ``strength``.
        dtype: of ``strength``.

    Shape:
        (N, C, \*S) -> (N, C, \*S), in the dtype of the input, also under autocast.
    """

    def __init__(
        self, attention: nn.Module, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.attention = attention
        self.strength = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.lerp(x, self.attention(x).to(x.dtype), self.strength.to(x.dtype))


class Crossfade(Blend):
    r"""A :class:`Blend` from what a replaced module ``f`` gives: :math:`f(x) + s\,(A(x) - f(x))` with :math:`s = 0`."""

    def forward(self, x: torch.Tensor, replaced: torch.Tensor | None = None) -> torch.Tensor:
        assert replaced is not None
        return torch.lerp(replaced, self.attention(x).to(replaced.dtype), self.strength.to(replaced.dtype))


@cache
def swapped(base: Any, side: str) -> Any:
    """The subclass of ``base`` whose output (``side="input"``: input) goes through its child ``foveate``.

    With ``side="instead"`` the child takes the input, and ``base`` runs only to be blended with.
    """

    def after(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.foveate(base.forward(self, *args, **kwargs))

    def before(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return base.forward(self, self.foveate(x), *args, **kwargs)

    def instead(self: Any, x: Any) -> Any:
        if not isinstance(self.foveate, Crossfade):
            return self.foveate(x)
        kept = x.clone() if getattr(self, "inplace", False) else x
        return self.foveate(kept, base.forward(self, x))

    def reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
        function, args, *rest = base.__reduce_ex__(self, max(2, protocol))
        args = tuple(base if argument is type(self) else argument for argument in args)
        return (rebuild, (side, function, args), *rest)

    body = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__reduce_ex__": reduce,
        "_foveate_swap": (base, side),
        "forward": {"output": after, "input": before, "instead": instead}[side],
    }
    if issubclass(base, CONTAINERS):
        body |= _container_without_child(base)
    return type(base)(base.__name__, (base,), body)


def _container_without_child(base: type) -> dict[str, Any]:
    """Iteration over a container, as its own ``forward`` does it, leaves out the child."""

    def own(self: Any) -> dict[str, nn.Module]:
        return {name: module for name, module in self._modules.items() if name != CHILD}

    def length(self: Any) -> int:
        return len(self._modules) - 1

    if issubclass(base, nn.ModuleDict):
        return {
            "__len__": length,
            "__iter__": lambda self: iter(own(self)),
            "keys": lambda self: own(self).keys(),
            "items": lambda self: own(self).items(),
            "values": lambda self: own(self).values(),
        }
    return {"__len__": length, "__iter__": lambda self: iter(own(self).values())}


def rebuild(side: str, function: Callable[..., nn.Module], args: tuple[Any, ...]) -> nn.Module:
    """Unpickles a swapped module: the base as it rebuilds itself, then the swap."""
    module = function(*args)
    base: Any = type(module)
    module.__class__ = swapped(base, side)
    return module


def swap_of(module: nn.Module) -> tuple[type[nn.Module], str] | None:
    """Base class and side of a swapped module, None for all others."""
    return vars(type(module)).get("_foveate_swap")


def hosts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of all hosts in ``model``."""
    return ((name, module) for name, module in model.named_modules() if swap_of(module) is not None)


def refusal(host: nn.Module, site: Site) -> str | None:
    """Why ``host`` can carry no attention; None if it can."""
    if swap_of(host) is not None:
        taken: Site = getattr(getattr(host, CHILD), SITE)
        return (
            f"{site.name}: {site.attached_to} already carries attention (put in at {taken.name}); remove(model) first"
        )
    if hasattr(host, CHILD):
        return (
            f"{site.name}: {site.attached_to} has an attribute {CHILD!r} of its own, under which attention would hang"
        )
    return None


def attach(host: nn.Module, attention: nn.Module, site: Site) -> None:
    """Make ``attention`` a child of ``host`` that runs with it."""
    assert refusal(host, site) is None
    vars(attention)[SITE] = site
    host.add_module(CHILD, attention)
    base: Any = type(host)
    host.__class__ = swapped(base, site.side)


def detach(host: nn.Module) -> None:
    """Undo :func:`attach`."""
    swap = swap_of(host)
    assert swap is not None
    host.__class__ = swap[0]
    del host._modules[CHILD]


@contextmanager
def without_attention(model: nn.Module) -> Iterator[None]:
    """The model without its attention while this is open, so that the places found are the plain network's."""
    taken = [(host, type(host), dict(host._modules)) for _, host in hosts(model)]
    try:
        for host, _, _ in taken:
            detach(host)
        yield
    finally:
        for host, swapped_class, children in taken:
            host._modules.clear()
            host._modules.update(children)
            host.__class__ = swapped_class


def watch_loading(root: nn.Module) -> None:
    """Let ``root`` load plain checkpoints, which have no attention key, with ``strict=True``."""
    if not any(is_loading_hook(hook) for hook in root._load_state_dict_pre_hooks.values()):
        root.register_load_state_dict_pre_hook(keep_attention)


def unwatch_loading(root: nn.Module) -> None:
    """Undo :func:`watch_loading` in ``root`` and all below."""
    for module in root.modules():
        hooks = module._load_state_dict_pre_hooks
        for key in [key for key, hook in hooks.items() if is_loading_hook(hook)]:
            del hooks[key]


def is_loading_hook(hook: Any) -> bool:
    """Whether a registered hook is :func:`keep_attention`; torch wraps hooks that take their module."""
    return getattr(hook, "hook", hook) is keep_attention


def keep_attention(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: a checkpoint without any attention key is the plain network's and leaves the attention unchanged."""
    attention = {
        f"{prefix}{name}.{CHILD}.{key}".removeprefix("."): value
        for name, host in hosts(module)
        for key, value in getattr(host, CHILD).state_dict(keep_vars=True).items()
    }
    if not any(key in state_dict for key in attention):
        state_dict.update(attention)


def attach_all(
    model: nn.Module, example: object, places: Places, new: list[tuple[nn.Module, nn.Module, Site]]
) -> set[str]:
    """Attach all modules, run the model once, and detach them unless each ran once and kept the shape of its site.

    Returns the names of sites that do not influence the outputs; see :func:`_unread`.
    """
    done: list[nn.Module] = []
    times = [0] * len(new)
    try:
        for index, (host, module, site) in enumerate(new):
            attach(host, module, site)
            done.append(host)
            vars(module)["forward"] = _watched(module.forward, times, index, site, _expected(places, site))
        with preserve_state(model):
            run_example(model, example)
        wrong = [f"{s.name}: ran {t} times" for t, (_, _, s) in zip(times, new, strict=True) if t != 1]
        if wrong:
            raise ValueError(
                "each attention must run exactly once in a forward pass, but\n  "
                + "\n  ".join(wrong[:3])
                + "\n(the host's forward is bypassed, called directly, or its parent iterates over its children; "
                "nn.TransformerEncoder bypasses its modules in eval mode unless "
                "torch.backends.mha.set_fastpath_enabled(False))"
            )
    except BaseException:
        for host in done:
            detach(host)
        raise
    finally:
        for _, module, _ in new:
            vars(module).pop("forward", None)
    watch_loading(model)
    return _unread(model, example, new)


def _unread(model: nn.Module, example: object, new: list[tuple[nn.Module, nn.Module, Site]]) -> set[str]:
    """Sites on tokens after which only the tokens before the grid are read, as in the last block of many a ViT.

    Each attention's tokens are multiplied by a scalar of value one, and the outputs are differentiated by it.
    """
    behind_tokens = [(module, site) for _, module, site in new if site.prefix and not _on_meta(module)]
    if not behind_tokens:
        return set()
    scales = [torch.ones((), requires_grad=True) for _ in behind_tokens]
    try:
        for (module, site), scale in zip(behind_tokens, scales, strict=True):
            vars(module)["forward"] = _scaled(module.forward, site.prefix, scale)
        with preserve_state(model), torch.enable_grad():
            given = [y for y in nested_tensors(run_example(model, example)) if y.requires_grad]
            sums = [y.double().square().sum() for y in given]
            found = torch.autograd.grad(sums, scales, allow_unused=True) if given else [None] * len(scales)
    finally:
        for module, _ in behind_tokens:
            vars(module).pop("forward", None)
    return {site.name for (_, site), g in zip(behind_tokens, found, strict=True) if g is None or not g.abs() > 0}


def _on_meta(module: nn.Module) -> bool:
    return any(t.is_meta for t in (*module.parameters(), *module.buffers()))


def _scaled(forward: Callable[..., torch.Tensor], prefix: int, scale: torch.Tensor) -> Callable[..., torch.Tensor]:
    def scaled(*args: Any) -> torch.Tensor:
        y = forward(*args)
        return torch.cat([y[:, :prefix], y[:, prefix:] * scale.to(y)], 1)

    return scaled


def _expected(places: Places, site: Site) -> tuple[int, ...]:
    call = places.trace.call_of(site.attached_to)
    node = call.inputs[0] if site.side == "input" else call.output
    assert node is not None
    return places.trace.nodes[node].shape


def _watched(
    forward: Callable[..., Any], times: list[int], index: int, site: Site, expected: tuple[int, ...]
) -> Callable[..., Any]:
    """``forward`` that counts its calls. No hook: torch's fused paths are not taken while there are hooks."""

    def watched(*args: Any) -> Any:
        times[index] += 1
        output = forward(*args)
        if not isinstance(output, torch.Tensor) or output.shape != expected:
            got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(f"{site.name}: attention must keep the shape {expected}, it gave {got}")
        return output

    return watched
