"""The state of the inserted attention: which weights get gradients, and at the end its strength and its gates.

Parameters and gradients are read and never changed, and no random number is drawn.
"""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import capture
from foveate.files import write_json
from foveate.insertion import Blend, inserted
from foveate.insertion.attach import SITE
from foveate.summary import NEGLIGIBLE, AttentionState, GateState, SiteState, to_json

STATE = "attention.json"  # in the folder of a run
WATCHED = 20  # batches, the first of training
DESCRIBED = 64  # held-out ones, over which gates are described
SATURATED = 0.01  # from 0 or 1


class AttentionWatch:
    """Watches the modules that are inserted in a network, from before its training to its end."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = inserted(model)
        self.parameters = {
            (site, name): parameter
            for site, module in self.modules
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.start = {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}
        self.batches, self.reached = 0, set[tuple[str, str]]()

    def after_backward(self) -> None:
        """Note which parameters have a gradient other than 0; to be called after each backward pass."""
        if self.batches == WATCHED:
            return
        self.batches += 1
        for name, parameter in self.parameters.items():
            if name not in self.reached and parameter.grad is not None and parameter.grad.any():
                self.reached.add(name)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain values."""
        return {"batches": self.batches, "reached": sorted(map(list, self.reached))}

    def resume(self, facts: dict[str, Any]) -> None:
        """Go on from `facts`."""
        self.batches, self.reached = facts["batches"], {(site, name) for site, name in facts["reached"]}

    def write(self, folder: Path, model: nn.Module, run: Callable[[], object], items: int) -> None:
        """Write attention.json: `foveate.summary.AttentionState` as plain values; the model is left in eval mode.

        Args:
            run: runs the model once on a batch of held-out items.
            items: in that batch.

        Raises: OSError.
        """
        model.eval()
        changes: dict[str, float | None] = {}
        with contextlib.ExitStack() as stack, torch.inference_mode():
            for site, module in self.modules:
                note = module.register_forward_hook(
                    lambda module, given, y, site=site: changes.update({site: relative_change(module, given, y)})
                )
                stack.callback(note.remove)
            with capture(model) as seen:
                run()
        sites = [self._site(site, module, changes.get(site), seen.maps.get(site, {})) for site, module in self.modules]
        content = to_json(AttentionState("", 0, self.batches, items, tuple(sites)))
        write_json(folder / STATE, {key: content[key] for key in ("batches", "items", "sites")})

    def _site(self, site: str, module: nn.Module, change: float | None, maps: dict[str, Any]) -> SiteState:
        weights = {
            name: (parameter.detach().cpu().double(), self.start[at, name].double())
            for (at, name), parameter in self.parameters.items()
            if at == site and parameter is not getattr(module, "strength", None)
        }
        silent = [name for name in weights if (site, name) not in self.reached] if self.batches else []
        before = math.sqrt(sum(start.square().sum().item() for _, start in weights.values()))
        moved = math.sqrt(sum((now - start).square().sum().item() for now, start in weights.values()))
        blend = module if isinstance(module, Blend) else None
        return SiteState(
            site,
            attention=type(module if blend is None else blend.attention).__name__,
            strength=None if blend is None else _finite(blend.strength.item()),
            change=change,
            moved=_finite(moved / before) if before else None,
            without_gradient=tuple(silent),
            blind=any(weights[name][0].dim() > 1 for name in silent) or 0 < len(silent) == len(weights),
            gates={
                name: gate_state(value)
                for name, value in maps.items()
                if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1
            },
        )


def relative_change(module: nn.Module, given: tuple[Any, ...], y: Any) -> float | None:
    """‖y − x‖ / ‖x‖, mean over items; x is what an identity start blends with, else the input of what is added."""
    replaces = vars(module)[SITE].side == "instead"
    x = given[1] if len(given) > 1 else None if replaces or not given else given[0]
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.shape != y.shape:
        return None
    x, y = x.flatten(1).float(), y.flatten(1).float()
    return _finite(((y - x).norm(dim=1) / x.norm(dim=1).clamp_min(1e-12)).mean().item())


def gate_state(gate: Tensor) -> GateState:
    """Of a map (N, …) over its N items."""
    gate = gate.float()
    size = gate.square().mean().sqrt().item()
    deviation = gate.std(0, correction=0).square().mean().sqrt().item()
    within = bool(((gate >= 0) & (gate <= 1)).all())
    totals = gate.flatten(1).sum(1)
    softmax = bool(((totals - 1).abs() < 1e-2).all())
    outside = ((gate < SATURATED) | (gate > 1 - SATURATED)).float().mean().item()
    return GateState(
        mean=_finite(gate.mean().item()),
        deviation=_finite(deviation),
        saturated=outside if within and not softmax else None,
        constant=gate.shape[0] > 1 and deviation <= NEGLIGIBLE * size,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
