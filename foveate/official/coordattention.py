"""Coordinate Attention as released: houqb/CoordAttention."""

from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._inverted_residual import InvertedResidual
from foveate.official._conversions import official
from foveate.official.vision import mobilenet_keys

SOURCE = "houqb/CoordAttention"
SHARED_KEYS = {"conv1": "reduce", "bn1": "norm"}
COORDATT_KEYS = {**SHARED_KEYS, "conv_h": "gates.0", "conv_w": "gates.1"}
MBV2_KEYS = {**SHARED_KEYS, "conv2": "gates.0", "conv3": "gates.1"}


def _module(inp: int, oup: int, reduction: int) -> nn.Module:
    if inp != oup:
        raise ValueError(f"CoordAtt: oup must equal inp, whose map it multiplies; got inp={inp}, oup={oup}")
    return create_attention("ca", inp, reduction=reduction)


@official(SOURCE, "coordatt.CoordAtt")
def coordatt(inp: int, oup: int, reduction: int = 32) -> tuple[nn.Module, dict[str, str]]:
    return _module(inp, oup, reduction), COORDATT_KEYS


@official(SOURCE, "mbv2_ca.CoordAtt")
def mbv2_coordatt(inp: int, oup: int, groups: int = 32) -> tuple[nn.Module, dict[str, str]]:
    return _module(inp, oup, groups), MBV2_KEYS


@official(SOURCE, "mbv2_ca.InvertedResidual")
def inverted_residual(inp: int, oup: int, stride: int, expand_ratio: float) -> tuple[nn.Module, dict[str, str]]:
    if stride not in (1, 2):
        raise ValueError(f"InvertedResidual: stride must be 1 or 2; got {stride!r}")
    plain = expand_ratio == 1
    attention = None if plain else partial(create_attention, "ca")
    block = InvertedResidual(inp, oup, stride=stride, expansion=expand_ratio, attention=attention)
    return block, _block_keys(expand_ratio)


def _block_keys(expand_ratio: float) -> dict[str, str]:
    plain = expand_ratio == 1
    parts = ["depthwise.0", "depthwise.1", "", "project.0", "project.1"]
    if not plain:
        parts = ["expand.0", "expand.1", "", "depthwise.0", "depthwise.1", "", "attention", "project.0", "project.1"]
    keys = {f"conv.{i}": ours for i, ours in enumerate(parts) if ours}
    return keys if plain else {**keys, **{f"conv.6.{a}": f"attention.{b}" for a, b in MBV2_KEYS.items()}}


@official(SOURCE, "mbv2_ca.MBV2_CA", "mbv2_ca.mbv2_ca")
def mbv2_ca(num_classes: int = 1000, width_mult: float = 1.0) -> tuple[nn.Module, dict[str, str]]:
    divisor = 4 if width_mult == 0.1 else 8
    network = create_network("ca_mobilenet_v2", num_classes=num_classes, width=width_mult, divisor=divisor)
    return network, mobilenet_keys(_block_keys, last="conv")
