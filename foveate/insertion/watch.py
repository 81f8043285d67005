"""Attention must go on running: watched by the root.

Tools that put another module in a host's place would lose the attention in silence. So the root, the module that
:func:`foveate.insert` was given, has a :class:`Watch`: before its forward pass it compares the modules on the way to
each host with those of the last time. Where they changed, attention is moved to a replacement that computes what its
host did, or a ValueError says which attention no longer runs; and that pass must call every inserted module.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType, MethodType
from typing import Any

import torch
from torch import nn

from foveate.insertion.attach import (
    FORWARDS,
    PLAIN,
    SITE,
    SWAP,
    attach,
    hosts,
    own_forward,
    swap_of,
    swapped,
    with_attention,
    without_swap,
)
from foveate.insertion.layouts import InputShape, OnMap, map_sizes
from foveate.insertion.probe import CHILD
from foveate.insertion.site import Site

WATCH = "_foveate_watch"
"""Attribute of a root: its :class:`Watch`."""


@dataclass(eq=False)
class Hosted:
    """One inserted module and where it was last seen: in ``host``, which ``parent`` (None: the root) has as ``key``."""

    attention: nn.Module
    host: nn.Module
    parent: nn.Module | None
    key: str


@dataclass(frozen=True)
class Seen:
    """A module between the root and the attention: child ``key`` of one seen before, by number, or (-1) the root."""

    parent: int
    key: str
    module: nn.Module
    cls: type
    forward: Any
    bound: Any


@dataclass(eq=False)
class Watch:
    """What was inserted below one root, and the state of the network in which all of it ran.

    It refers to modules below the root only, never to the root, so that a model is freed as soon as nobody uses it.

    Attributes:
        hosted: the inserted modules.
        seen: the modules between the root and the attention. Empty after copying, so that the copy is looked at once.
        paused: whether the attention is taken out for a moment.
        now: the sizes of the input of the pass that runs, which attention at tokens reads; None where there is none.
    """

    hosted: list[Hosted] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    paused: bool = False
    now: InputShape | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"hosted": self.hosted, "seen": [], "paused": False, "now": self.now}

    def is_unchanged(self, root: nn.Module) -> bool:
        """Whether every module between the root and the attention is the one of before, with its forward pass."""
        if not self.seen:
            return not self.hosted
        for one in self.seen:
            above = root if one.parent < 0 else self.seen[one.parent].module
            module = one.module
            if (
                above._modules.get(one.key) is not module
                or type(module) is not one.cls
                or one.cls.forward is not one.forward
                or module.__dict__.get("forward") is not one.bound
            ):
                return False
        return True

    def link(self) -> None:
        """Let attention at tokens, or at frames in the batch, read the sizes of the input."""
        inside = (module for entry in self.hosted for module in entry.attention.modules())
        of_tokens = [m for m in inside if isinstance(m, OnMap) and (m.tokens or m.flat or m.frames)]
        self.now = (self.now or InputShape()) if of_tokens else None
        for module in of_tokens:
            module.now = self.now

    def look(self, root: nn.Module) -> None:
        """Note the modules between the root and the attention as they are."""
        names = {id(module): name for name, module in root.named_modules()}
        numbers: dict[tuple[int, str], int] = {}
        self.seen = []
        for entry in self.hosted:
            above, number = root, -1
            for key in [*names[id(entry.host)].split("."), CHILD]:
                module: Any = above._modules[key]
                place = (number, key)
                if place not in numbers:
                    numbers[place] = len(self.seen)
                    cls = type(module)
                    self.seen.append(Seen(number, key, module, cls, cls.forward, vars(module).get("forward")))
                above, number = module, numbers[place]


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, the forward pass of a root, after the check of its :class:`Watch`."""

    @functools.wraps(function)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            _refuse_counters(self)
        now = vars(self)[WATCH].now
        if now is not None:
            now.sizes = map_sizes((*args, *kwargs.values()))
        if _is_settled_now(self) if torch.compiler.is_compiling() else is_settled(self):
            return function(self, *args, **kwargs)
        if any(isinstance(argument, torch.fx.Proxy) for argument in (*args, *kwargs.values())):
            return function(self, *args, **kwargs)  # symbolic tracing runs no module
        with _all_run(self):
            return function(self, *args, **kwargs)

    return forward


FORWARDS["root"] = watched

COUNTERS = {"thop.profile", "ptflops.pytorch_engine", "torchinfo.torchinfo"}
"""Modules of tools that count the operations of modules by their exact class, or of those without children only."""


def _refuse_counters(root: nn.Module) -> None:
    """Raise a ValueError if this forward pass is one that a counter makes which would leave out the hosts."""
    if not COUNTERS.intersection(sys.modules):
        return
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if (name := frame.f_globals.get("__name__")) in COUNTERS:
            first = next(hosts(root), None)
            if first is not None:
                raise ValueError(
                    f"{name.split('.')[0]} counts modules by their class and leaves out those that carry attention, as "
                    f"{first[0]}; foveate.cost and torch.utils.flop_counter.FlopCounterMode count every operation"
                )
        frame = frame.f_back


def _is_settled_now(root: nn.Module) -> bool:
    """While a compiler traces: the attention is moved where it must be, but not watched running."""
    is_settled(root)
    return True


# As torch.compiler.assume_constant_result does, which would import the compiler: two seconds that few need.
vars(_is_settled_now)["_dynamo_marked_constant"] = True


def is_settled(root: nn.Module) -> bool:
    """Whether nothing changed since all attention ran; if something did, move attention to replacements of its hosts.

    Raises:
        ValueError: if some attention would no longer run.
    """
    watch: Watch = vars(root)[WATCH]
    if watch.paused or getattr(root, "_is_replica", False) or watch.is_unchanged(root):
        return True
    settle(root)
    return not watch.hosted


def settle(root: nn.Module) -> None:
    """Find each inserted module of a root again, or move it to what replaced its host.

    Raises:
        ValueError: if neither is possible; names the first such place.
    """
    watch: Watch = vars(root)[WATCH]
    names = {id(module): name for name, module in root.named_modules()}
    parents = _parents(root)
    watch.hosted = [entry for entry in watch.hosted if SITE in vars(entry.attention)]
    for entry in watch.hosted:
        if id(entry.host) not in names or CHILD not in entry.host._modules or swap_of(entry.host) is None:
            _move(entry, root, names)
        else:
            entry.parent, entry.key = parents[id(entry.host)]
        child = entry.host._modules[CHILD]
        assert child is not None
        if all(module is not entry.attention for module in child.modules()):
            _inherit(child, entry.attention)
            entry.attention = child
        swap, bound = swap_of(entry.host), own_forward(entry.host)
        if swap is not None and bound is not None and PLAIN not in vars(bound.__func__):
            vars(entry.host)["forward"] = MethodType(with_attention(bound.__func__, swap[1]), entry.host)
    watch.link()


def _parents(root: nn.Module) -> dict[int, tuple[nn.Module | None, str]]:
    """For each module below a root its parent, None for the root, and its name there."""
    return {
        id(child): (None if parent is root else parent, key)
        for parent in root.modules()
        for key, child in parent._modules.items()
    }


def _move(entry: Hosted, root: nn.Module, names: dict[int, str]) -> None:
    """Let what replaced a host carry its attention, if that computes what the host did."""
    site: Site = vars(entry.attention)[SITE]
    above = root if entry.parent is None else entry.parent
    new = above._modules.get(entry.key) if id(above) in names else None
    was = type(entry.host).__name__
    if new is None:
        raise lost(site.name, f"its {was} is no longer in the network")
    if new is entry.host:
        raise lost(site.name, f"it was taken out of its {was}")
    if torch.compiler.is_exporting():  # with tensors that have no values to compare
        raise ValueError(
            f"{site.name}: its {was} was replaced by another {type(new).__name__}; run the model once before exporting "
            "it, so that its attention is moved there"
        )
    if not _computes_the_same(entry.host, new, site.side):
        raise lost(site.name, f"its {was} was replaced by another {type(new).__name__}")
    carried = new._modules.pop(CHILD, None)  # where the tool took the children over
    if carried is not None:
        _inherit(carried, entry.attention)
        entry.attention = carried
    attach(new, entry.attention, site)
    entry.host = new


def _inherit(new: nn.Module, old: nn.Module) -> None:
    """What is noted on an inserted module, on what a tool made of it."""
    vars(new).update({key: value for key, value in vars(old).items() if key.startswith("_foveate_")})


def _computes_the_same(old: nn.Module, new: nn.Module, side: str) -> bool:
    """Whether ``new`` has the tensors of ``old``, or is the identity left by a norm folded into what is before it."""

    def tensors(module: nn.Module) -> dict[str, torch.Tensor]:
        every = (*module.named_parameters(), *module.named_buffers())
        return {name: tensor for name, tensor in every if CHILD not in name.split(".")}

    before, now = tensors(old), tensors(new)
    if not now and before:
        return isinstance(new, nn.Identity) and "running_mean" in before and side == "output"
    if now.keys() - before.keys() or before.keys() - now.keys() - {"num_batches_tracked"}:
        return False
    same_shape = all(tensor.shape == before[name].shape for name, tensor in now.items())
    return same_shape and all(
        t is before[name] or torch.equal(t.to(before[name]), before[name]) for name, t in now.items()
    )


def lost(site: str, reason: str) -> ValueError:
    """The error of attention that no longer runs."""
    return ValueError(
        f"{site}: its attention no longer runs: {reason}; apply such tools to the plain network and insert afterwards "
        "(foveate.remove(model) takes the attention out)"
    )


@contextmanager
def _all_run(root: nn.Module) -> Iterator[None]:
    """A forward pass in which every inserted module must run; then the state of the network is the one to compare with.

    Raises:
        ValueError: if one does not run.
    """
    watch: Watch = vars(root)[WATCH]
    ran: set[int] = set()
    before = [(entry.attention, vars(entry.attention).get("forward")) for entry in watch.hosted]
    try:
        for attention, _ in before:
            vars(attention)["forward"] = _counted(attention.forward, ran, id(attention))
        yield
    finally:
        for attention, bound in before:
            del vars(attention)["forward"]
            if bound is not None:
                vars(attention)["forward"] = bound
    for entry in watch.hosted:
        if id(entry.attention) not in ran:
            raise lost(
                vars(entry.attention)[SITE].name, f"this forward pass does not call its {type(entry.host).__name__}"
            )
    watch.look(root)


def _counted(forward: Callable[..., Any], ran: set[int], number: int) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        ran.add(number)
        return forward(*args, **kwargs)

    return counted


def unwrapped(model: nn.Module) -> nn.Module:
    """The network in what torch.compile, DataParallel and DistributedDataParallel make of it."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or "_orig_mod" in model._modules:
        model = model.get_submodule("_orig_mod" if "_orig_mod" in model._modules else "module")
    return model


def watch(root: nn.Module, new: list[nn.Module]) -> None:
    """Let ``root`` see that what the hosts ``new`` carry goes on running, and load plain checkpoints.

    Of a compiled or data-parallel model the root is the module in it, whose forward pass both call.
    """
    root = unwrapped(root)
    if WATCH not in vars(root):
        vars(root)[WATCH] = Watch()
        cls: Any = type(root)
        root.__class__ = swapped(cls, "root")
        root.register_load_state_dict_pre_hook(keep_attention)
    kept: Watch = vars(root)[WATCH]
    parents = _parents(root)
    known = {id(entry.host) for entry in kept.hosted}
    for host in {id(host): host for host in new if id(host) not in known}.values():
        attention = host._modules[CHILD]
        assert attention is not None
        kept.hosted.append(Hosted(attention, host, *parents[id(host)]))
    kept.link()
    kept.look(root)


def unwatch(root: nn.Module) -> None:
    """Undo :func:`watch` in ``root`` and all below."""
    for module in root.modules():
        if vars(module).pop(WATCH, None) is not None:
            module.__class__ = without_swap(type(module), root=True)
        hooks = module._load_state_dict_pre_hooks
        for key in [key for key, hook in hooks.items() if getattr(hook, "hook", hook) is keep_attention]:
            del hooks[key]


def check_classes(model: nn.Module) -> None:
    """Raise a ValueError if another tool derived a class from that of a host or root in ``model``."""
    for module in model.modules():
        if CHILD in module._modules and swap_of(module) is not None:
            without_swap(type(module), root=False)
        if WATCH in vars(module):
            without_swap(type(module), root=True)


def settle_all(model: nn.Module) -> None:
    """:func:`settle` of every root in ``model``, and a look for attention whose host was replaced elsewhere.

    Raises:
        ValueError: if some attention would no longer run.
    """
    for module in list(model.modules()):
        if WATCH in vars(module):
            is_settled(module)
    for module in model.modules():
        child = dict(module._modules.items()).get(CHILD)  # a TorchScript module's own have no get
        if child is not None and SITE in vars(child) and swap_of(module) is None:
            raise lost(vars(child)[SITE].name, f"it is in a {type(module).__name__} that does not call it")


def keep_attention(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: a checkpoint without any attention key is the plain network's and leaves the attention unchanged.

    Attention whose host another tool has just replaced is moved first; the next forward pass names what cannot be.
    """
    with suppress(ValueError):
        settle_all(module)
    attention = {
        f"{prefix}{name}.{CHILD}.{key}".removeprefix("."): value
        for name, host in hosts(module)
        for key, value in getattr(host, CHILD).state_dict(keep_vars=True).items()
    }
    if not any(key in state_dict for key in attention):
        state_dict.update(attention)


@contextmanager
def without_attention(model: nn.Module) -> Iterator[None]:
    """The model without its attention while this is open, so that the places found are the plain network's."""
    changed = [(m, type(m), dict(m._modules)) for m in model.modules() if swap_of(m) or WATCH in vars(m)]
    watches = [vars(m)[WATCH] for m, _, _ in changed if WATCH in vars(m)]
    try:
        for watch in watches:
            watch.paused = True
        for module, cls, _ in changed:
            module._modules.pop(CHILD, None)
            while SWAP in vars(cls):
                cls = vars(cls)[SWAP][0]
            module.__class__ = cls
        yield
    finally:
        for module, cls, children in changed:
            module._modules.clear()
            module._modules.update(children)
            module.__class__ = cls
        for watch in watches:
            watch.paused = False
