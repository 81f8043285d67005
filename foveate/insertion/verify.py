"""Attaches everything that was built or nothing: one run shows that each module runs once and keeps the shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from foveate.insertion.attach import attach, detach
from foveate.insertion.places import Places
from foveate.insertion.probe import nested_tensors, preserve_state, run_example
from foveate.insertion.site import Site
from foveate.insertion.watch import watch


def attach_all(
    model: nn.Module, example: object, places: Places, new: list[tuple[nn.Module, nn.Module, Site]]
) -> tuple[set[str], set[str]]:
    """Attach all modules, run the model once, and detach them unless each ran once and kept the shape of its site.

    Returns the names of sites that do not influence the outputs, see :func:`_unread`, and of those that the network
    runs under ``torch.no_grad``.
    """
    done: list[tuple[nn.Module, Site]] = []
    times = [0] * len(new)
    untrained: set[str] = set()
    try:
        for index, (host, module, site) in enumerate(new):
            attach(host, module, site)
            done.append((host, site))
            vars(module)["forward"] = _watched(module.forward, times, index, site, site.gives(places.trace), untrained)
        with preserve_state(model), torch.enable_grad(), _without_graph(model):
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
        for host, site in done:
            detach(host, site)
        raise
    finally:
        for _, module, _ in new:
            vars(module).pop("forward", None)
    watch(model, [host for host, _ in done])
    return _unread(model, example, new), untrained


@contextmanager
def _without_graph(model: nn.Module) -> Iterator[None]:
    """No parameter requires gradients while this is open, so that a pass with gradients enabled keeps nothing."""
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _unread(model: nn.Module, example: object, new: list[tuple[nn.Module, nn.Module, Site]]) -> set[str]:
    """Sites on tokens after which only the tokens before the grid are read, as in the last block of many a ViT.

    Each attention's tokens are multiplied by a scalar of value one, and the outputs are differentiated by it; so are
    the tokens before the grid. Where no gradient reaches those either, as behind a classifier of zeros, nothing is
    known.
    """
    behind_tokens = [(module, site) for _, module, site in new if site.prefix and not _on_meta(module)]
    if not behind_tokens:
        return set()
    scales = [torch.ones(2, requires_grad=True) for _ in behind_tokens]
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
    reached = [(False, False) if g is None else (bool(g[0] != 0), bool(g[1] != 0)) for g in found]
    return {site.name for (_, site), by in zip(behind_tokens, reached, strict=True) if by == (True, False)}


def _on_meta(module: nn.Module) -> bool:
    return any(t.is_meta for t in (*module.parameters(), *module.buffers()))


def _scaled(forward: Callable[..., torch.Tensor], prefix: int, scale: torch.Tensor) -> Callable[..., torch.Tensor]:
    def scaled(*args: Any) -> torch.Tensor:
        y = forward(*args)
        return torch.cat([y[:, :prefix] * scale[0].to(y), y[:, prefix:] * scale[1].to(y)], 1)

    return scaled


def _watched(
    forward: Callable[..., Any],
    times: list[int],
    index: int,
    site: Site,
    expected: tuple[int, ...],
    untrained: set[str],
) -> Callable[..., Any]:
    """``forward`` that counts its calls and notes those without gradients.

    It is no hook, as torch's fused paths are not taken while there are hooks.
    """

    def watched(*args: Any) -> Any:
        times[index] += 1
        if not torch.is_grad_enabled():
            untrained.add(site.name)
        output = forward(*args)
        if not isinstance(output, torch.Tensor) or output.shape != expected:
            got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(f"{site.name}: attention must keep the shape {expected}, it gave {got}")
        return output

    return watched
