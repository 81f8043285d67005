"""Mechanisms that stand instead of a convolution or an activation."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from foveate.attention import attention_class
from foveate.insertion._probe import Call, Trace
from foveate.insertion._sites import Places, Site

ACTIVATIONS = frozenset(
    (
        *("celu", "elu", "gelu", "hard_swish", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu"),
        *("relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh", "threshold"),
    )
)


def instead(
    places: Places, site: Site, attention: str | Callable[..., nn.Module], options: dict[str, Any]
) -> tuple[Site, dict[str, Any]]:
    """The site as one of a replacement, and the mechanism's options with what the replaced module fixes.

    A mechanism says with the class attribute ``replaces`` what it can stand for: ``"convolution"``, then it takes those
    of ``kernel_size``, ``stride`` and ``groups`` that it has from the convolution; or ``"activation"``.

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
            taken = {key: value for key, value in given.items() if key in takes} | options
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
