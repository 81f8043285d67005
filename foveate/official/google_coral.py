"""MobileNetV2 as Google quantised it for its accelerators: google-coral/test_data.

The file is int8 weights with a scale an output channel; its batch norms were folded, so ours keep a bias alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from foveate.networks import create_network
from foveate.networks.mobilenet_v2 import MobileNetV2
from foveate.official._conversions import official

SOURCE = "google-coral/test_data"
FILE = "tf2_mobilenet_v2_1.0_224_ptq.tflite"
PARTS = ("q", "scale", "bias")


def _layers(state: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """{"layers": [{"q": …, "scale": …, "bias": …}, …]}, or the same as "layers.0.q", …"""
    if "layers" in state:
        state = {
            f"layers.{i}.{part}": value for i, entry in enumerate(state["layers"]) for part, value in entry.items()
        }
    layers: list[dict[str, Tensor]] = []
    while any(f"layers.{len(layers)}.{part}" in state for part in PARTS):
        layer = {}
        for part in PARTS:
            key = f"layers.{len(layers)}.{part}"
            if key not in state:
                raise ValueError(f"{FILE}: missing key {key!r}")
            layer[part] = state[key]
        layers.append(layer)
    if not layers:
        raise ValueError(f"{FILE}: missing key 'layers.0.q'; wanted int8 weights as layers of {', '.join(PARTS)}")
    return layers


def _places(network: nn.Module) -> Iterator[tuple[str, str | None]]:
    """Names of each convolution and of its batch norm, in order, then of the linear layer."""
    conv = ""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            conv = name
        elif isinstance(module, nn.BatchNorm2d):
            yield conv, name
        elif isinstance(module, nn.Linear):
            yield name, None


def decode(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Float weights under our names: w = q · scale, batch norms the identity plus the folded bias."""
    with torch.device("meta"):
        network = MobileNetV2()
    layers, places = _layers(state), list(_places(network))
    if len(layers) != len(places):
        raise ValueError(f"{FILE}: wanted {len(places)} layers, got {len(layers)}")
    made = {}
    for number, (layer, (name, norm)) in enumerate(zip(layers, places, strict=True)):
        q, scale, bias = (layer[part].float() for part in PARTS)
        for part, value in (("scale", scale), ("bias", bias)):
            if value.shape != q.shape[:1]:
                wanted = tuple(q.shape[:1])
                raise ValueError(f"{FILE}: misshapen key 'layers.{number}.{part}': wanted {wanted}, got {value.shape}")
        made[f"{name}.weight"] = q * scale.reshape(-1, *(1,) * (q.dim() - 1))
        if norm is None:
            made[f"{name}.bias"] = bias
            continue
        made |= {f"{norm}.weight": torch.ones_like(bias), f"{norm}.bias": bias}
        made |= {f"{norm}.running_mean": torch.zeros_like(bias), f"{norm}.running_var": torch.ones_like(bias) - 1e-5}
    return made


@official(SOURCE, FILE, "mobilenet_v2", decode=decode)
def quantised(num_classes: int = 1000) -> tuple[nn.Module, dict[str, str]]:
    """Takes RGB from −1 to 1, 224×224. Not for training as it is: the batch norms hold no statistics."""
    return create_network("mobilenet_v2", num_classes=num_classes, padding="same_tensorflow"), {}
