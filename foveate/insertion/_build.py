"""Makes the module that is put at a site."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from foveate.attention import create_attention
from foveate.insertion._attach import Blend, Crossfade
from foveate.insertion._layouts import Layout, OnMap
from foveate.insertion._made import note_making
from foveate.insertion._probe import Trace
from foveate.insertion._sites import Places, Site
from foveate.insertion._undisturbed import undisturbed

Attention = str | Callable[..., nn.Module]


def build(
    model: nn.Module, attention: Attention, site: Site, places: Places, init: str, options: dict[str, Any]
) -> tuple[nn.Module, str]:
    """The module for one site, with its kind of start, on the site's device and in the host's dtype and mode."""
    host = model.get_submodule(site.attached_to)
    device, dtype = _device_and_dtype(model, site, places.trace)
    with torch.device("meta" if device.type == "meta" else "cpu"):
        new = create(attention, site, options)
        start = "paper"
        if init == "identity":
            start = "identity" if _is_identity(new, site) else "blend"
        new = fitted(new, site, start)
    new = new.to(device=device, dtype=dtype)
    return note_making(new.train(host.training), attention, start, options), start


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


def fitted(new: nn.Module, site: Site, start: str) -> nn.Module:
    """A mechanism in what its site needs: a view as a map, and a blend if that is how it starts."""
    if not site.layout.startswith("NC") or "(" in site.layout:
        new = OnMap(new, Layout(site.layout, site.channels, site.shape, site.prefix))
    if start != "blend":
        return new
    return Crossfade(new) if site.side == "instead" else Blend(new)


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
    if site.side == "instead" or not getattr(new, "starts_as_identity", False):
        return False
    x = torch.empty(2, site.channels, *(min(size, 32) for size in site.shape))
    if x.is_meta:
        return True
    x.normal_(generator=torch.Generator().manual_seed(0))
    with undisturbed(new):
        y = new(x)
    return y.shape == x.shape and bool((y - x).abs().max() <= 1e-6 * x.abs().max())
