"""``sites``, ``insert``, ``remove``, ``inserted``: what users call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from foveate.attention import create_attention
from foveate.insertion._attach import SITE, Blend, attach, bare, detach, hosts, refusal, unwatch_loading, watch_loading
from foveate.insertion._probe import CHILD, Trace, probe
from foveate.insertion._report import Placement, Report
from foveate.insertion._select import Where, distinct, of_kind, select
from foveate.insertion._sites import Places, Site, find_places
from foveate.insertion._undisturbed import run, undisturbed

Attention = str | Callable[..., nn.Module]


def sites(model: nn.Module, example: object, at: Where | None = None) -> list[Site]:
    """Places where attention can stand, found by running the model once on ``example`` and looking.

    Args:
        model: any module whose feature maps are ``(N, C, *S)``. Run in eval mode without gradients, left as found.
        example: a batch ``(N, C, *S)``, or a tuple of arguments.
        at: as in :func:`insert`; by default all block and stage sites. ``"module"``: every module that gives a map.

    Returns:
        The sites in the order in which the network reaches them.

    Raises:
        LookupError: there is none; the message says what was found instead.
        TypeError, ValueError: a wrong ``at`` or ``example``.
    """
    places = _look(model, example)
    if at is not None:
        return select(model, places, at)
    found: list[Site] = []
    for kind in ("block", "stage"):
        try:
            found += of_kind(places, kind)
        except LookupError as error:
            reason = error
    if not found:
        raise reason
    return sorted(found, key=lambda site: places.trace.call_of(site.name).ended)


def insert(
    model: nn.Module,
    attention: Attention,
    *,
    at: Where = "block",
    example: object,
    init: str = "paper",
    dry_run: bool = False,
    seed: int | None = None,
    **options: Any,
) -> Report:
    """Put an attention module at each chosen site of ``model``, in place.

    Every module of the network keeps its name, class (by ``isinstance``), hooks, mode and weights; the new weights
    stand in the state dict under ``<site>.foveate.``. ``model.load_state_dict`` still takes the plain network's
    checkpoint with ``strict=True``. If anything fails, the model is as it was.

    Args:
        model: any module.
        attention: a registered name, or a class or function ``(channels, spatial_dims=2, **options) -> module``.
        at: where. ``"block"``: the end of each residual branch, before its add (without residual branches: the output
            of each repeated unit); ``"stage"``: the last map before resolution or width changes; ``"module"``:
            everywhere; a glob or list of globs over dotted module names (``"layer3.*.conv2"``); a function
            ``(name, module) -> bool``; or ``[{"stages": (False, True, True, True), "position": "after_conv2"}]``
            (after that convolution of each residual branch, its norm and activation).
        example: a batch on the model's device, or a tuple of arguments; the model is run on it twice.
        init: ``"paper"``, the mechanism's own; ``"identity"``, the outputs of the network do not change at insertion.
        dry_run: only report what would be put where.
        seed: draw the new weights from this seed and leave torch's global random state alone; without it they are drawn
            from the global state.
        **options: the mechanism's own.

    Returns:
        What was put where; ``str(report)`` is a table.

    Raises:
        LookupError: unknown attention, or ``at`` matches nothing; names the nearest.
        TypeError, ValueError: wrong options, a place that cannot carry attention or carries some already (and why).
    """
    if init not in ("paper", "identity"):
        raise ValueError(f"wanted init='paper' or 'identity', got {init!r}")
    places = _look(model, example)
    if any(isinstance(m, DistributedDataParallel) for m in model.modules()):
        raise ValueError("DistributedDataParallel would not see the new weights; insert first, then wrap the model")
    chosen = distinct(select(model, places, at))
    modules = dict(model.named_modules())
    refused = [reason for site in chosen if (reason := refusal(modules[site.attached_to], site))]
    shared = [s for i, s in enumerate(chosen) if s.attached_to in {t.attached_to for t in chosen[:i]}]
    refused += [f"{s.name}: both the input and the output of {s.attached_to} were chosen" for s in shared]
    if refused:
        raise ValueError("\n".join(refused))
    with _drawing(seed, dry_run):
        built = [_build(model, attention, site, places, init, options) for site in chosen]
    if not dry_run:
        _attach_all(
            model, example, [(modules[s.attached_to], new, s) for s, (new, _) in zip(chosen, built, strict=True)]
        )
    name = attention if isinstance(attention, str) else getattr(attention, "__name__", type(attention).__name__)
    placements = [
        Placement(site, name, sum(p.numel() for p in new.parameters()), start)
        for site, (new, start) in zip(chosen, built, strict=True)
    ]
    return Report(tuple(placements), dry_run)


def remove(model: nn.Module) -> nn.Module:
    """Take out every inserted module.

    Args:
        model: the module that :func:`insert` was given, a copy of it, or a part (then only what is in that part goes).

    Returns:
        The same object: state dict, outputs, classes and hooks as before the insertion.
    """
    for _, host in list(hosts(model)):
        detach(host)
    unwatch_loading(model)
    return model


def inserted(model: nn.Module) -> dict[str, nn.Module]:
    """The inserted modules by the name of their site; with ``init="identity"`` some are a :class:`Blend`."""
    found = {}
    for name, host in hosts(model):
        module = getattr(host, CHILD)
        site: Site = getattr(module, SITE)
        around = name.removesuffix(site.attached_to)  # the model may stand in a wrapper by now, or be a part
        key = around + site.name if name.endswith(site.attached_to) else name
        found[key] = module
    return found


def _look(model: nn.Module, example: object) -> Places:
    if not isinstance(model, nn.Module):
        raise TypeError(f"wanted a torch.nn.Module, got {type(model).__name__}")
    with bare(model):
        return find_places(probe(model, example))


@contextmanager
def _drawing(seed: int | None, dry_run: bool) -> Iterator[None]:
    """Weights are drawn on the CPU, so that they do not depend on the device."""
    with torch.random.fork_rng(devices=[], enabled=dry_run or seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield


def _build(
    model: nn.Module, attention: Attention, site: Site, places: Places, init: str, options: dict[str, Any]
) -> tuple[nn.Module, str]:
    """The module for one site, with its kind of start, on the site's device and in the host's dtype and mode."""
    host = model.get_submodule(site.attached_to)
    device, dtype = _device_and_dtype(model, site, places.trace)
    with torch.device("meta" if device.type == "meta" else "cpu"):
        new = _create(attention, site, options)
        start = "paper"
        if init == "identity":
            start = "identity" if _is_identity(new, site) else "blend"
            new = new if start == "identity" else Blend(new)
    new = new.to(device=device, dtype=dtype)
    return new.train(host.training), start


def _create(attention: Attention, site: Site, options: dict[str, Any]) -> nn.Module:
    dims = len(site.shape)
    if isinstance(attention, str):
        return create_attention(attention, site.channels, spatial_dims=dims, **options)
    if isinstance(attention, nn.Module) or not callable(attention):
        raise TypeError(
            "wanted attention= a registered name, or a class or function that makes a module for a number of channels "
            f"(each site needs its own); got {type(attention).__name__}"
            + (" instance" if isinstance(attention, nn.Module) else f" {attention!r}")
        )
    takes = inspect.signature(attention).parameters.values()
    knows_dims = any(p.name == "spatial_dims" or p.kind is p.VAR_KEYWORD for p in takes)
    if not knows_dims and dims != 2:
        raise ValueError(
            f"{attention} takes no spatial_dims, so it can stand at 2-D maps only; {site.name} has {dims} axes"
        )
    new = attention(site.channels, **({"spatial_dims": dims} if knows_dims else {}), **options)
    if not isinstance(new, nn.Module):
        raise TypeError(f"wanted {attention} to make a torch.nn.Module, got {type(new).__name__}")
    return new


def _device_and_dtype(model: nn.Module, site: Site, trace: Trace) -> tuple[torch.device, torch.dtype]:
    """Where the site's tensor lives; the dtype of the nearest weights, which autocast does not change."""
    call = trace.call_of(site.attached_to)
    assert call.device is not None
    assert call.dtype is not None
    name = site.attached_to
    while True:
        weights = [p for p in model.get_submodule(name).parameters() if p.is_floating_point()]
        if weights:
            return call.device, weights[0].dtype
        if not name:
            return call.device, call.dtype
        name = name.rpartition(".")[0]


def _is_identity(new: nn.Module, site: Site) -> bool:
    """Whether a mechanism that says so starts as the identity does, to 1e-6; on the meta device its word is taken."""
    if not getattr(new, "starts_as_identity", False):
        return False
    x = torch.empty(2, site.channels, *(min(size, 32) for size in site.shape))
    if x.is_meta:
        return True
    x.normal_(generator=torch.Generator().manual_seed(0))
    with undisturbed(new):
        y = new(x)
    return y.shape == x.shape and bool((y - x).abs().max() <= 1e-6 * x.abs().max())


def _attach_all(model: nn.Module, example: object, new: list[tuple[nn.Module, nn.Module, Site]]) -> None:
    """Attach, run once, and take everything off again unless each module ran once and kept its map's shape."""
    done: list[nn.Module] = []
    times = [0] * len(new)
    handles = []
    try:
        for index, (host, module, site) in enumerate(new):
            attach(host, module, site)
            done.append(host)

            def check(m: nn.Module, args: Any, output: Any, index: int = index, site: Site = site) -> None:
                times[index] += 1
                if not isinstance(output, torch.Tensor) or output.shape != args[0].shape:
                    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
                    raise ValueError(
                        f"{site.name}: attention must keep the shape {tuple(args[0].shape)}, it gave {got}"
                    )

            handles.append(module.register_forward_hook(check))
        with undisturbed(model):
            run(model, example)
        wrong = [f"{s.name}: ran {t} times" for t, (_, _, s) in zip(times, new, strict=True) if t != 1]
        if wrong:
            raise ValueError(
                "each attention must run exactly once in a forward pass, but\n  "
                + "\n  ".join(wrong[:3])
                + "\n(the host's forward is bypassed, called directly, or its parent iterates over its children)"
            )
    except BaseException:
        for host in done:
            detach(host)
        raise
    finally:
        for handle in handles:
            handle.remove()
    watch_loading(model)
