"""Efficient Channel Attention as released: BangguWu/ECANet."""

from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.networks.residual import BasicBlock, Bottleneck
from foveate.official._recipes import official

SOURCE = "BangguWu/ECANet"


@official(SOURCE, "eca_module.eca_layer")
def layer(channel: int, k_size: int = 3) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("eca", channel, kernel_size=k_size), {"conv": ""}


def _block(
    cls: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, stride: int, downsample: bool, k_size: int
) -> tuple[nn.Module, dict[str, str]]:
    attention = partial(create_attention, "eca", kernel_size=k_size)
    shortcut = "projection" if downsample else None
    return cls(inplanes, planes, stride=stride, shortcut=shortcut, attention=attention), {"eca.conv": "attention"}


@official(SOURCE, "ECABottleneck")
def bottleneck(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, k_size: int = 3
) -> tuple[nn.Module, dict[str, str]]:
    return _block(Bottleneck, inplanes, planes, stride, downsample, k_size)


@official(SOURCE, "ECABasicBlock")
def basic_block(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, k_size: int = 3
) -> tuple[nn.Module, dict[str, str]]:
    return _block(BasicBlock, inplanes, planes, stride, downsample, k_size)
