"""A variant's network made its control: other modules at the sites of its attention, or the attention left random."""

import math
from typing import Any

from torch import nn

from foveate.attention import attention_class
from foveate.controls import Control
from foveate.insertion import Blend, freeze, insertions, reinsert, remove
from foveate.insertion import inserted as inserted_in
from foveate.spec import Run

Entry = dict[str, Any]  # as `insertions` gives it


class NoControl(ValueError):
    """Why there is no control of this form for a variant."""


def as_control(model: nn.Module, run: Run, example: Any) -> None:
    """Change the network of the run's variant, in place; new weights are drawn from torch's global generator.

    Raises: ValueError: the control has not one layer a site. NoControl: the attention cannot be shuffled.
    """
    control = run.control
    if control is None or run.variant.is_plain:
        return
    if control.form == "frozen":
        _leave_random(model)
        return
    entries = insertions(model)
    new = _layers(entries, control) if control.form == "conv" else [_shuffled(entry) for entry in entries]
    remove(model)
    reinsert(model, new)
    if run.variant.freeze:
        freeze(model, example)


def _layers(entries: list[Entry], control: Control) -> list[Entry]:
    if len(entries) != len(control.layers):
        raise ValueError(f"the control has {len(control.layers)} layers for {len(entries)} sites")
    pairs = zip(entries, control.layers, strict=True)
    return [
        {
            "site": entry["site"] | ({"side": "output"} if entry["site"]["side"] == "instead" else {}),
            "attention": "_positionwise",
            "options": {name: width for name, width in vars(layer).items() if width},
            "start": "identity",
        }
        for entry, layer in pairs
        if layer.hidden or layer.scaled or layer.shifted
    ]


def _shuffled(entry: Entry) -> Entry:
    name = entry["attention"]
    if entry["site"]["side"] == "instead" and getattr(attention_class(name), "replaces", None) == "convolution":
        raise NoControl(f"{name} replaces a convolution, whose positions cannot be shuffled")
    options = [[key, value] for key, value in entry["options"].items()]
    return entry | {"attention": "_shuffled", "options": {"attention": name, "options": options}}


def _leave_random(model: nn.Module) -> None:
    """No gradients for the attention, and random weights where it starts at zero, as which it would be no attention.

    The strength of a blend is trained: it starts at zero, and is what the network can still decide.
    """
    for _, module in inserted_in(model):
        for name, parameter in module.named_parameters():
            if isinstance(module, Blend) and name == "strength":
                continue
            parameter.requires_grad_(False)
            if parameter.is_meta or name.endswith("bias") or bool(parameter.any()):
                continue
            if parameter.dim() > 1:
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
            else:
                nn.init.ones_(parameter)  # scales of norms and of residual sums
