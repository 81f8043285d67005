"""Attention must run: shown by one run at insertion, and watched from then on by the root.

Tools that put another module in a host's place would lose the attention in silence. So the root, the module that
:func:`foveate.insert` was given, has a :class:`Watch`: before its forward pass it compares the modules on the way to
each host with those of the last time. Where they changed, attention is moved to a replacement that computes what its
host did, or a ValueError says which attention no longer runs; and that pass must call every inserted module.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    detach,
    hosts,
    own_forward,
    swap_of,
    swapped,
    with_attention,
    without_swap,
)
from foveate.insertion.places import Places, Site
from foveate.insertion.probe import CHILD, nested_tensors, preserve_state, run_example

WATCH = "_foveate_watch"
"""Attribute of a root: its :class:`Watch`."""


@dataclass(eq=False)
class Hosted:
    """One inserted module and where it was last seen: in ``host``, which ``parent`` has under ``key``."""

    attention: nn.Module
    host: nn.Module
    parent: nn.Module
    key: str


@dataclass(eq=False)
class Watch:
    """What was inserted below one root, and the state of the network in which all of it ran.

    Attributes:
        hosted: the inserted modules.
        seen: for each module between the root and the attention: parent, key, module, class, and the functions that are
            its forward pass. Empty after copying, so that the copy is looked at once.
        paused: whether the attention is taken out for a moment.
    """

    hosted: list[Hosted] = field(default_factory=list)
    seen: list[tuple[Any, ...]] = field(default_factory=list)
    paused: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {"hosted": self.hosted, "seen": [], "paused": False}

    def is_unchanged(self) -> bool:
        """Whether every module between the root and the attention is the one of before, with its forward pass."""
        for parent, key, module, cls, forward, bound in self.seen:
            if (
                parent._modules.get(key) is not module
                or type(module) is not cls
                or cls.forward is not forward
                or module.__dict__.get("forward") is not bound
            ):
                return False
        return bool(self.seen) or not self.hosted

    def look(self, root: nn.Module) -> None:
        """Note the modules between the root and the attention as they are."""
        names = {id(module): name for name, module in root.named_modules()}
        found: dict[tuple[int, str], tuple[Any, ...]] = {}
        for entry in self.hosted:
            parent: Any = root
            for key in [*names[id(entry.host)].split("."), CHILD]:
                child = parent._modules[key]
                found[id(parent), key] = (
                    parent, key, child, type(child), type(child).forward, vars(child).get("forward"),
                )  # fmt: skip
                parent = child
        self.seen = list(found.values())


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, the forward pass of a root, after the check of its :class:`Watch`."""

    @functools.wraps(function)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            _refuse_counters(self)
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


@torch.compiler.assume_constant_result
def _is_settled_now(root: nn.Module) -> bool:
    """While a compiler traces: the attention is moved where it must be, but not watched running."""
    is_settled(root)
    return True


def is_settled(root: nn.Module) -> bool:
    """Whether nothing changed since all attention ran; if something did, move attention to replacements of its hosts.

    Raises:
        ValueError: if some attention would no longer run.
    """
    watch: Watch = vars(root)[WATCH]
    if watch.paused or getattr(root, "_is_replica", False) or watch.is_unchanged():
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
    parents = {id(child): (parent, key) for parent in root.modules() for key, child in parent._modules.items()}
    watch.hosted = [entry for entry in watch.hosted if SITE in vars(entry.attention)]
    for entry in watch.hosted:
        if id(entry.host) not in names or CHILD not in entry.host._modules or swap_of(entry.host) is None:
            _move(entry, names)
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


def _move(entry: Hosted, names: dict[int, str]) -> None:
    """Let what replaced a host carry its attention, if that computes what the host did."""
    site: Site = vars(entry.attention)[SITE]
    new = entry.parent._modules.get(entry.key) if id(entry.parent) in names else None
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


def watch(root: nn.Module, new: list[nn.Module]) -> None:
    """Let ``root`` see that what the hosts ``new`` carry goes on running, and load plain checkpoints.

    Of a compiled or data-parallel model the root is the module in it, whose forward pass both call.
    """
    while isinstance(root, nn.DataParallel) or "_orig_mod" in root._modules:
        root = root.get_submodule("_orig_mod" if "_orig_mod" in root._modules else "module")
    if WATCH not in vars(root):
        vars(root)[WATCH] = Watch()
        cls: Any = type(root)
        root.__class__ = swapped(cls, "root")
        root.register_load_state_dict_pre_hook(keep_attention)
    kept: Watch = vars(root)[WATCH]
    parents = {id(child): (parent, key) for parent in root.modules() for key, child in parent._modules.items()}
    for host in new:
        attention = host._modules[CHILD]
        assert attention is not None
        kept.hosted.append(Hosted(attention, host, *parents[id(host)]))
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
        child = module._modules.get(CHILD)
        if child is not None and SITE in vars(child) and swap_of(module) is None:
            raise lost(vars(child)[SITE].name, f"it is in a {type(module).__name__} that does not call it")


def keep_attention(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: a checkpoint without any attention key is the plain network's and leaves the attention unchanged."""
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
    watch(model, done)
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
