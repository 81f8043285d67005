"""Attaches all that was built or nothing: one run must show that each module did its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from foveate.insertion._attach import attach, detach, watch_loading
from foveate.insertion._sites import Places, Site
from foveate.insertion._undisturbed import run, undisturbed


def attach_all(model: nn.Module, example: object, places: Places, new: list[tuple[nn.Module, nn.Module, Site]]) -> None:
    """Attach, run once, and take everything off again unless each module ran once and gave the shape of its site."""
    done: list[nn.Module] = []
    times = [0] * len(new)
    try:
        for index, (host, module, site) in enumerate(new):
            attach(host, module, site)
            done.append(host)
            vars(module)["forward"] = _watched(module.forward, times, index, site, _expected(places, site))
        with undisturbed(model):
            run(model, example)
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


def _expected(places: Places, site: Site) -> tuple[int, ...]:
    call = places.trace.call_of(site.attached_to)
    node = call.inputs[0] if site.side == "input" else call.output
    assert node is not None
    return places.trace.nodes[node].shape


def _watched(
    forward: Callable[..., Any], times: list[int], index: int, site: Site, expected: tuple[int, ...]
) -> Callable[..., Any]:
    """``forward`` that counts its calls. No hook: torch's fused paths look for hooks and behave while there are any."""

    def watched(*args: Any) -> Any:
        times[index] += 1
        output = forward(*args)
        if not isinstance(output, torch.Tensor) or output.shape != expected:
            got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(f"{site.name}: attention must keep the shape {expected}, it gave {got}")
        return output

    return watched
