"""Makes the module for a site: added, or instead of a convolution or activation; again from plain values."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import nn

from foveate.attention import attention_class, create_attention, list_attention
from foveate.insertion.attach import attach, carried, refusal
from foveate.insertion.blend import Blend, Crossfade
from foveate.insertion.layouts import FRAMES_IN_BATCH, Layout, OnMap, frames_in_batch
from foveate.insertion.places import Places
from foveate.insertion.probe import ACTIVATIONS, Call, Trace, preserve_state
from foveate.insertion.site import Site
from foveate.insertion.watch import settle_all, watch

Attention = str | Callable[..., nn.Module]

RECORD = "_foveate_record"
"""Attribute of an inserted module: its :class:`InsertionRecord`."""


@dataclass(frozen=True)
class InsertionRecord:
    """How one inserted module was made, kept on it so that it can be made again from plain values.

    Attributes:
        attention: registered name; None for a class or function that is not registered.
        options: the mechanism's own.
        start: ``"paper"``, ``"identity"`` or ``"blend"``, as in :class:`~foveate.insertion.Placement`.
    """

    attention: str | None
    start: str
    options: dict[str, Any] = field(default_factory=dict)


def build(
    model: nn.Module, attention: Attention, site: Site, places: Places, init: str, options: dict[str, Any]
) -> tuple[nn.Module, str]:
    """The module for one site and its start, on the site's device and in the host's dtype and mode."""
    host = model.get_submodule(site.attached_to)
    device, dtype = _device_and_dtype(model, site, places.trace)
    with torch.device("meta" if device.type == "meta" else "cpu"):
        try:
            new = create(attention, site, options)
        except LookupError:
            raise
        except Exception as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{site.name}: {error}") from error
        start = "paper"
        if init == "identity":
            start = "identity" if _is_identity(new, site) else "blend"
        new = wrap_for_layout(new, site, start)
    new = new.to(device=device, dtype=dtype)
    name = attention if isinstance(attention, str) else _registered_name(attention)
    vars(new)[RECORD] = InsertionRecord(name, start, dict(options))
    return new.train(host.training), start


def create(attention: Attention, site: Site, options: dict[str, Any]) -> nn.Module:
    """The mechanism itself, for maps of the site's width and rank."""
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


def over_frames(attention: Attention, site: Site, trace: Trace) -> Site:
    """The site with its frames before height and width, for a mechanism of clips in a network that has put them into
    the batch, as networks of segments do; else the site as it is."""
    if not isinstance(attention, str) or site.layout != "NCHW":
        return site
    dims = inspect.signature(attention_class(attention)).parameters.get("spatial_dims")
    sizes = frames_in_batch(trace, site.takes(trace))
    if dims is None or dims.default != 3 or not sizes:
        return site
    return dataclasses.replace(site, layout=FRAMES_IN_BATCH, shape=(sizes[0], *site.shape), input_shape=sizes)


def wrap_for_layout(new: nn.Module, site: Site, start: str) -> nn.Module:
    """Wrap a mechanism for its site: a view as a map where the layout is another, a blend if it starts as one."""
    if not site.layout.startswith("NC") or "(" in site.layout:
        new = OnMap(new, Layout(site.layout, site.channels, site.shape, site.prefix, site.input_shape))
    if start != "blend":
        return new
    return Crossfade(new) if site.side == "instead" else Blend(new)


def _device_and_dtype(model: nn.Module, site: Site, trace: Trace) -> tuple[torch.device, torch.dtype]:
    """Device of the site's tensor; dtype of the nearest weights, which autocast does not change."""
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
    """Whether a mechanism with ``starts_as_identity`` is the identity to 1e-6; not checked on the meta device."""
    if site.side == "instead" or not getattr(new, "starts_as_identity", False):
        return False
    x = torch.empty(2, site.channels, *(min(size, 32) for size in site.shape))
    if x.is_meta:
        return True
    x.normal_(generator=torch.Generator().manual_seed(0))
    with preserve_state(new):
        y = new(x)
    return y.shape == x.shape and bool((y - x).abs().max() <= 1e-6 * x.abs().max())


def _registered_name(attention: Callable[..., nn.Module]) -> str | None:
    return next((name for name in list_attention() if attention_class(name) is attention), None)


def as_replacement(
    places: Places, site: Site, attention: str | Callable[..., nn.Module], options: dict[str, Any]
) -> tuple[Site, dict[str, Any]]:
    """The site with side ``"instead"``, and the mechanism's options completed from the replaced module.

    The class attribute ``replaces`` of a mechanism is ``"convolution"`` or ``"activation"``. For a convolution it takes
    those of ``kernel_size``, ``stride`` and ``groups`` that its constructor has and that no option stands in place of
    (its class attribute ``instead_of``: option → those that it makes superfluous).

    Raises:
        ValueError: the mechanism replaces nothing, or the module at the site is none that it can replace.
    """
    cls = attention_class(attention) if isinstance(attention, str) else attention
    title = attention if isinstance(attention, str) else getattr(attention, "__name__", type(attention).__name__)
    what = getattr(cls, "replaces", None)
    if what not in ("convolution", "activation"):
        raise ValueError(
            f"{title} replaces nothing: its class has no attribute replaces = 'convolution' or 'activation'; without "
            "replace=True it is added"
        )
    call = places.trace.call_of(site.attached_to)
    taken = dict(options)
    if site.side == "input" or site.attached_to != site.name:
        reason: str | None = f"is no {what}"
    elif what == "activation":
        reason = _no_activation(places.trace, call)
    else:
        takes = inspect.signature(cls).parameters
        reason = _no_convolution(call.module)
        if reason is None:
            given = {key: getattr(call.module, key) for key in ("kernel_size", "stride", "groups")}
            given = {key: value[0] if isinstance(value, tuple) else value for key, value in given.items()}
            if "stride" not in takes and given["stride"] != 1:
                reason = f"has stride {given['stride']}, which {title} has not"
            elif options.get("stride", given["stride"]) != given["stride"]:
                reason = f"has stride {given['stride']}, not {options['stride']}"
            superfluous = {key for option in options for key in getattr(cls, "instead_of", {}).get(option, ())}
            taken = {key: value for key, value in given.items() if key in takes and key not in superfluous} | options
    if reason is not None:
        wanted = "an odd k×k convolution of as many channels out as in" if what == "convolution" else "an activation"
        raise ValueError(f"{site.name}: {title} replaces {wanted}; this {site.module} {reason}")
    return dataclasses.replace(site, side="instead"), taken


def _no_convolution(module: nn.Module) -> str | None:
    """Why a module is no convolution that can be replaced."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return "is no convolution"
    if module.in_channels != module.out_channels:
        return f"makes {module.out_channels} channels of {module.in_channels}"
    size = module.kernel_size[0]
    if set(module.kernel_size) != {size} or size % 2 == 0:
        return f"has a kernel of {'×'.join(map(str, module.kernel_size))}"
    if len(set(module.stride)) > 1 or set(module.dilation) != {1}:
        return f"has strides {module.stride} and dilations {module.dilation}"
    same = module.padding == "same" or set(module.padding) == {size // 2}
    if not same or module.padding_mode != "zeros":
        return f"pads by {module.padding} ({module.padding_mode}), wanted {size // 2} zeros"
    return None


def _no_activation(trace: Trace, call: Call) -> str | None:
    assert call.output is not None
    node = trace.nodes[call.output]
    if any(True for _ in call.module.children()) or node.op.removesuffix("_") not in ACTIVATIONS:
        return "is no activation"
    if len(call.inputs) != 1 or trace.nodes[call.inputs[0]].shape != node.shape:
        return "changes the shape"
    return None


def insertions(model: nn.Module) -> list[dict[str, Any]]:
    """What is inserted where, for each module ``{"site": {...}, "attention", "options", "start"}``.

    Raises:
        ValueError: if a module was made by a class or function without a registered name, or no longer runs.
    """
    settle_all(model)
    found = []
    for name, module, site in carried(model):
        made = getattr(module, RECORD, None)
        if not isinstance(made, InsertionRecord) or made.attention is None:
            what = type(module.attention if isinstance(module, Blend) else module).__name__
            raise ValueError(
                f"{site.name}: {what} has no name that a recipe could give; put @foveate.register_attention('...') on "
                "the class and insert it by that name"
            )
        place = {f.name: getattr(site, f.name) for f in fields(Site)} | {"attached_to": name}
        found.append({"site": place, "attention": made.attention, "options": made.options, "start": made.start})
    return found


def reinsert(model: nn.Module, insertions: list[dict[str, Any]]) -> None:
    """Insert modules with fresh weights from what :func:`insertions` of another copy of this network returned.

    Raises:
        LookupError: if the network has no such module, or no attention has such a name. TypeError, ValueError: if
            options are wrong, or a place is taken twice.
    """
    new: list[nn.Module] = []
    for entry in insertions:
        given: dict[str, Any] = dict(entry["site"])
        given |= {key: tuple(given.get(key, ())) for key in ("shape", "input_shape")}
        site = Site(**given)
        try:
            host = model.get_submodule(site.attached_to)
        except AttributeError:
            raise LookupError(f"the network has no module {site.attached_to!r}") from None
        if (reason := refusal(host, site)) is not None:
            raise ValueError(reason)
        module = wrap_for_layout(create(entry["attention"], site, entry["options"]), site, entry["start"])
        vars(module)[RECORD] = InsertionRecord(entry["attention"], entry["start"], dict(entry["options"]))
        attach(host, module.train(host.training), site)
        new.append(host)
    if new:
        watch(model, new)
