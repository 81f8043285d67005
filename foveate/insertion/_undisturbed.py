"""Running a model and leaving it as found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients for as long as this is open.

    Modes, buffers, attributes, random state and the autocast cache are put back, also on error.
    """
    modules = list(model.modules())
    attributes = [(m, dict(vars(m))) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    training = [(m, m.training) for m in modules]
    buffers = [
        (m._buffers, name, b, None if b is None else (b._version, b.clone()))
        for m, _ in attributes
        for name, b in m._buffers.items()
    ]
    everything = [*model.parameters(), *model.buffers()]
    elsewhere = {t.device for t in everything if t.device.type not in ("cpu", "meta")}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for kind in {d.type for d in elsewhere}:
            indices = [d.index or 0 for d in elsewhere if d.type == kind]
            stack.enter_context(torch.random.fork_rng(devices=indices, device_type=kind))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo" in sys.modules:
            stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
            stack.enter_context(stance)
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, mode in training:
                module.training = mode
            for module, kept in attributes:
                now = vars(module)
                for key in [k for k in now if k not in kept]:
                    del now[key]
                now.update((k, v) for k, v in kept.items() if now.get(k) is not v)
            for held, name, buffer, saved in buffers:
                held[name] = buffer
                if buffer is not None and saved is not None and buffer._version != saved[0]:
                    buffer.copy_(saved[1])
            torch.clear_autocast_cache()


def run(model: nn.Module, example: object) -> object:
    """What ``model`` gives on ``example``: a tuple is a list of arguments, everything else is the one argument."""
    try:
        return model(*example) if isinstance(example, tuple) else model(example)
    except Exception as error:
        error.add_note(
            "foveate ran the model once on `example` to see where its feature maps are, and this run failed."
        )
        raise
