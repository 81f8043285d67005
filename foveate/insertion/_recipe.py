"""Insertions as plain values, and put back from them without running the network."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import nn

from foveate.insertion._attach import SITE, Blend, attach, hosts, refusal, watch_loading
from foveate.insertion._build import create, fitted
from foveate.insertion._made import MADE, Made
from foveate.insertion._probe import CHILD
from foveate.insertion._sites import Site


def insertions(model: nn.Module) -> list[dict[str, Any]]:
    """What is inserted where: for each module ``{"site": {...}, "attention", "options", "start"}``.

    Raises:
        ValueError: a module that was made by a class or function without a registered name.
    """
    found = []
    for name, host in hosts(model):
        module = getattr(host, CHILD)
        site, made = getattr(module, SITE), getattr(module, MADE, None)
        if not isinstance(made, Made) or made.attention is None:
            what = type(module.attention if isinstance(module, Blend) else module).__name__
            raise ValueError(
                f"{site.name}: {what} has no name that a recipe could give; put @foveate.register_attention('...') on "
                "the class and insert it by that name"
            )
        place = {f.name: getattr(site, f.name) for f in fields(Site)} | {"attached_to": name}
        found.append({"site": place, "attention": made.attention, "options": made.options, "start": made.start})
    return found


def insert_again(model: nn.Module, insertions: list[dict[str, Any]]) -> None:
    """Put modules, with fresh weights, where :func:`insertions` of another copy of this network says.

    Raises:
        LookupError: the network has no such module, or no attention has such a name. TypeError, ValueError: wrong
            options, a place taken twice.
    """
    for entry in insertions:
        given: dict[str, Any] = entry["site"] | {"shape": tuple(entry["site"]["shape"])}
        site = Site(**given)
        try:
            host = model.get_submodule(site.attached_to)
        except AttributeError:
            raise LookupError(f"the network has no module {site.attached_to!r}") from None
        if (reason := refusal(host, site)) is not None:
            raise ValueError(reason)
        new = fitted(create(entry["attention"], site, entry["options"]), site, entry["start"])
        vars(new)[MADE] = Made(entry["attention"], entry["start"], dict(entry["options"]))
        attach(host, new.train(host.training), site)
    if insertions:
        watch_loading(model)
