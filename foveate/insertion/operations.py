"""``sites``, ``insert``, ``remove``, ``inserted``: what users call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from foveate.insertion.attach import carried, carriers, detach, refusal
from foveate.insertion.build import Attention, as_replacement, build, over_frames
from foveate.insertion.places import Places, find_places
from foveate.insertion.probe import probe
from foveate.insertion.report import Placement, Report, added_macs, drawing
from foveate.insertion.select import Where, distinct, of_kind, select
from foveate.insertion.site import Site
from foveate.insertion.tuning import freeze_network, unfreeze_all
from foveate.insertion.verify import attach_all
from foveate.insertion.watch import check_classes, settle_all, unwatch, without_attention

Mechanisms = Attention | Mapping[str, str | tuple[str, Mapping[str, Any]]]


def sites(model: nn.Module, example: object, at: Where | None = None) -> list[Site]:
    """Places where attention can stand, found by running the model once on ``example``.

    Args:
        model: any module whose features are maps ``(N, C, *S)`` or ``(N, *S, C)``, or tokens ``(N, L, C)`` of a grid.
            It is run in eval mode without gradients; its state does not change.
        example: a batch ``(N, C, *S)``, a tuple of arguments, or a dictionary of keyword arguments.
        at: as in :func:`insert`; by default all block and stage sites. ``"module"``: every module that gives a map.

    Returns:
        The sites, in the order in which the network reaches them.

    Raises:
        LookupError: if there is none; the message says what was found instead.
        TypeError, ValueError: if ``at`` or ``example`` is wrong.
    """
    return _choose(model, _find_places(model, example), at)


def draw(model: nn.Module, example: object, at: Where | None = None) -> str:
    """A plain-text drawing of the network's stages and blocks with the sites marked; arguments as of :func:`sites`."""
    places = _find_places(model, example)
    return drawing(places, distinct(_choose(model, places, at)))


def insert(
    model: nn.Module,
    attention: Mechanisms,
    *,
    at: Where | None = None,
    example: object,
    init: str = "paper",
    replace: bool = False,
    freeze: str | None = None,
    dry_run: bool = False,
    seed: int | None = None,
    **options: Any,
) -> Report:
    """Put an attention module at each chosen site of ``model``, in place.

    Every module of the network keeps its name, class (by ``isinstance``), hooks, mode and weights; the new weights
    are in the state dict under ``<site>.foveate.``. ``model.load_state_dict`` still takes the plain network's
    checkpoint with ``strict=True``. If anything fails, the model is unchanged.

    Args:
        model: any module.
        attention: a registered name, or a class or function ``(channels, spatial_dims=2, **options) -> module``; or
            different ones at different places, ``{"layer1.?": "se", "block/2": ("nl", {"sub_sample": True})}``, whose
            keys are single strings of ``at=``.
        at: where. ``"block"``, the default: the end of each residual branch, before its add (without residual
            branches: the output of each repeated unit); ``"block/2"``: those of every second block; ``"stage"``: the
            last map before resolution or width changes; ``"head"``: each map that is given to prediction heads, as in a
            detector, or one of them by its key, ``"backbone:p6"``; ``"module"``: everywhere; ``"nonlocal-1"``,
            ``"nonlocal-5"``, ``"nonlocal-10"``: after that many blocks, as in the non-local paper; a glob over dotted
            module names (``"layer3.*.conv2"``); a list of such strings; a function ``(name, module) -> bool``; or
            ``[{"stages": (False, True, True, True), "position": "after_conv2"}]`` (after that convolution of each
            residual branch, its norm and activation).
        example: a batch on the model's device, a tuple of arguments, or a dictionary of keyword arguments; the model is
            run on it twice.
        init: ``"paper"``, the mechanism's own; ``"identity"``, the outputs of the network do not change at insertion.
        replace: put mechanisms that replace a convolution (``sk``) or an activation (``drsn_cw``) instead of the module
            at each site, which keeps its weights and is bypassed; with ``init="identity"`` it is blended out.
        freeze: ``"base"``: only the attention requires gradients, and norms with running statistics stay in eval mode;
            :func:`unfreeze` and :func:`remove` undo it. A classifier marked by
            :func:`~foveate.insertion.mark_fresh`, as ``load_weights`` does with one for other classes, stays
            trainable. None: freeze nothing.
        dry_run: only report what would be inserted where; the report then has a drawing and the multiply-adds too.
        seed: of the new weights; torch's global random state is then left unchanged. None: they are drawn from it.
        **options: the mechanism's own.

    Returns:
        What was inserted where; ``str(report)`` is a table.

    Raises:
        LookupError: if the attention is unknown, or ``at`` matches nothing; the message gives the nearest names.
        TypeError, ValueError: if options are wrong, or a place cannot carry attention or already carries some.
    """
    if init not in ("paper", "identity"):
        raise ValueError(f"wanted init='paper' or 'identity', got {init!r}")
    if freeze not in (None, "base"):
        raise ValueError(f"wanted freeze=None or 'base', got {freeze!r}")
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "weights made under torch.inference_mode cannot be trained; insert outside of it, or under torch.no_grad"
        )
    places = _find_places(model, example)
    settle_all(model)
    if any(isinstance(m, DistributedDataParallel) for m in model.modules()):
        raise ValueError("DistributedDataParallel would not see the new weights; insert first, then wrap the model")
    chosen: list[tuple[Site, Attention, dict[str, Any]]] = []
    for place, mechanism, own in _requests(attention, at, options):
        for site in distinct(select(model, places, place)):
            placed = as_replacement(places, site, mechanism, own) if replace else (site, own)
            chosen.append((over_frames(mechanism, placed[0], places.trace), mechanism, placed[1]))
    chosen.sort(key=lambda request: request[0].call(places.trace).ended)
    modules = dict(model.named_modules())
    _refuse(modules, [site for site, _, _ in chosen])
    with _seeded(seed, dry_run):
        built = [build(model, mechanism, site, places, init, own) for site, mechanism, own in chosen]
    unread, untrained = set[str](), set[str]()
    if not dry_run:
        new = [(modules[s.attached_to], module, s) for (s, _, _), (module, _) in zip(chosen, built, strict=True)]
        unread, untrained = attach_all(model, example, places, new)
        if freeze:
            freeze_network(model, places)
    placements = [
        Placement(
            site,
            mechanism if isinstance(mechanism, str) else getattr(mechanism, "__name__", type(mechanism).__name__),
            sum(p.numel() for p in module.parameters()),
            start,
            added_macs(places, site, module) if dry_run else None,
            site.name in unread,
            site.name in untrained,
        )
        for (site, mechanism, _), (module, start) in zip(chosen, built, strict=True)
    ]
    return Report(tuple(placements), dry_run, drawing(places, [site for site, _, _ in chosen]))


def freeze(model: nn.Module, example: object) -> None:
    """Freeze the network around the attention that is in it, as :func:`insert` with ``freeze="base"`` does."""
    freeze_network(model, _find_places(model, example))


def remove(model: nn.Module) -> nn.Module:
    """Take out every inserted module.

    Args:
        model: the module that :func:`insert` was given, a copy of it, or a part (then only what is in that part goes).

    Returns:
        The same object, with the state dict, outputs, classes and hooks of before the insertion.

    Raises:
        ValueError: if another tool derived a class from that of a module with attention; the model is unchanged.
    """
    _refuse_script(model)
    with suppress(ValueError):  # what no longer runs is taken out all the same
        settle_all(model)
    check_classes(model)
    unfreeze_all(model)
    for module in carriers(model):
        detach(module)
    unwatch(model)
    return model


def inserted(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every inserted module with the name of its site, in the order of ``model.named_modules()``.

    With ``init="identity"`` some are a :class:`Blend` around the attention.

    Raises:
        ValueError: if some attention no longer runs, because another tool replaced the module that carried it by one
            that computes something else; names the place.
    """
    _refuse_script(model)
    settle_all(model)
    found = []
    for name, module, site in carried(model):
        around = name.removesuffix(site.attached_to)  # the model may stand in a wrapper by now, or be a part
        key = around + site.name if name.endswith(site.attached_to) else name
        found.append((key, module))
    return found


def _find_places(model: nn.Module, example: object) -> Places:
    if not isinstance(model, nn.Module):
        raise TypeError(f"wanted a torch.nn.Module, got {type(model).__name__}")
    _refuse_script(model)
    tensors = chain(model.parameters(), model.buffers())
    if any(not is_lazy(tensor) and tensor.is_inference() for tensor in tensors):
        raise ValueError(
            "the model was made under torch.inference_mode, so it cannot be trained; build it outside of that, or "
            "under torch.no_grad"
        )
    with torch.inference_mode(False), without_attention(model):
        return find_places(probe(model, example))


def _refuse_script(model: nn.Module) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            "the forward pass of a TorchScript module is fixed; insert first, then torch.jit.trace, and ask the "
            "network that it was made from"
        )


def _choose(model: nn.Module, places: Places, at: Where | None) -> list[Site]:
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
    return sorted(found, key=lambda site: site.call(places.trace).ended)


def _requests(
    attention: Mechanisms, at: Where | None, options: dict[str, Any]
) -> list[tuple[Where, Attention, dict[str, Any]]]:
    """The arguments of :func:`insert` as a list of places, each with a mechanism and its options."""
    if not isinstance(attention, Mapping):
        return [("block" if at is None else at, attention, options)]
    if at is not None or options:
        given = ", ".join([*(["at"] if at is not None else []), *options])
        raise TypeError(f"a mapping gives the place and the options of each mechanism; got {given} beside it")
    requests: list[tuple[Where, Attention, dict[str, Any]]] = []
    for place, mechanism in attention.items():
        name, own = mechanism if isinstance(mechanism, tuple) and len(mechanism) == 2 else (mechanism, {})
        if not isinstance(place, str) or isinstance(name, tuple) or not isinstance(own, Mapping):
            raise TypeError(f"wanted {{place: 'name' or ('name', {{options}})}}, got {place!r}: {mechanism!r}")
        requests.append((place, name, dict(own)))
    if not requests:
        raise TypeError("wanted at least one place with a mechanism, got an empty mapping")
    return requests


def _refuse(modules: dict[str, nn.Module], chosen: list[Site]) -> None:
    """Raise a ValueError with all reasons if some place cannot carry what was chosen for it."""
    refused = [reason for site in chosen if (reason := refusal(modules[site.attached_to], site))]
    for i, site in enumerate(chosen):
        same = [one for one in chosen[:i] if (one.attached_to, one.entry) == (site.attached_to, site.entry)]
        sides = {other.side for other in same}
        if site.side in sides:
            refused.append(f"{site.name}: chosen for two mechanisms; one place carries one")
        elif sides:
            refused.append(f"{site.name}: both the input and the output of {site.attached_to} were chosen")
    if refused:
        raise ValueError("\n".join(refused))


@contextmanager
def _seeded(seed: int | None, dry_run: bool) -> Iterator[None]:
    """Random weights are drawn on the CPU, so that they do not depend on the device."""
    with torch.random.fork_rng(devices=[], enabled=dry_run or seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
