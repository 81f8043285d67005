"""Whole networks by name: ours, and whatever timm, torchvision or a person's own file can build."""

from foveate.networks._build import build_network, build_variant, input_channels
from foveate.networks._registry import create_network, list_networks, register_network
from foveate.networks._widen import widen_until, widened

__all__ = [
    "build_network",
    "build_variant",
    "create_network",
    "input_channels",
    "list_networks",
    "register_network",
    "widen_until",
    "widened",
]
