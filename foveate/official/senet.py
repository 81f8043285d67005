"""Squeeze-and-Excitation: the official Caffe models as Cadene converted them, and moskomule's senet.pytorch."""

import math
from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.networks.residual import BasicBlock, Bottleneck
from foveate.official._recipes import official

CADENE = "Cadene/pretrained-models.pytorch"
MOSKOMULE = "moskomule/senet.pytorch"
CADENE_KEYS = {"fc1": "reduce", "fc2": "expand"}
MOSKOMULE_KEYS = {"fc.0": "reduce", "fc.2": "expand"}


@official(CADENE, "SEModule")
def cadene_module(channels: int, reduction: int) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("se", channels, reduction=reduction), CADENE_KEYS


@official(CADENE, "SEResNetBottleneck")
def cadene_bottleneck(
    inplanes: int, planes: int, groups: int, reduction: int, stride: int = 1, downsample: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    block = Bottleneck(
        inplanes,
        planes,
        stride=stride,
        groups=groups,
        stride_on_first=True,
        shortcut="projection" if downsample else None,
        attention=partial(create_attention, "se", reduction=reduction),
    )
    return block, _cadene_keys()


def _cadene_keys() -> dict[str, str]:
    return {f"se_module.{theirs}": f"attention.{ours}" for theirs, ours in CADENE_KEYS.items()}


@official(CADENE, "SEResNeXtBottleneck")
def cadene_resnext_bottleneck(
    inplanes: int,
    planes: int,
    groups: int,
    reduction: int,
    stride: int = 1,
    downsample: bool = False,
    base_width: int = 4,
) -> tuple[nn.Module, dict[str, str]]:
    block = Bottleneck(
        inplanes,
        math.floor(planes * (base_width / 64)) * groups,
        out_channels=4 * planes,
        stride=stride,
        groups=groups,
        shortcut="projection" if downsample else None,
        attention=partial(create_attention, "se", reduction=reduction),
    )
    return block, _cadene_keys()


@official(CADENE, "SEBottleneck")
def cadene_senet154_bottleneck(
    inplanes: int,
    planes: int,
    groups: int,
    reduction: int,
    stride: int = 1,
    downsample: bool = False,
    downsample_kernel_size: int = 1,
) -> tuple[nn.Module, dict[str, str]]:
    """The official block is given its `downsample`; SENet-154 makes it with a 3×3 in layers 2 to 4."""
    if downsample_kernel_size not in (1, 3):
        raise ValueError(f"SEBottleneck: downsample_kernel_size must be 1 or 3; got {downsample_kernel_size!r}")
    block = Bottleneck(
        inplanes,
        4 * planes,
        first_width=2 * planes,
        out_channels=4 * planes,
        stride=stride,
        groups=groups,
        shortcut=("wide" if downsample_kernel_size == 3 else "projection") if downsample else None,
        attention=partial(create_attention, "se", reduction=reduction),
    )
    return block, _cadene_keys()


@official(MOSKOMULE, "SELayer")
def moskomule_layer(channel: int, reduction: int = 16) -> tuple[nn.Module, dict[str, str]]:
    module = create_attention("se", channel, reduction=reduction, variant="paper")
    return module, MOSKOMULE_KEYS


def _moskomule_block(
    cls: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, stride: int, downsample: bool, reduction: int
) -> tuple[nn.Module, dict[str, str]]:
    attention = partial(create_attention, "se", reduction=reduction, variant="paper")
    shortcut = "projection" if downsample else None
    block = cls(inplanes, planes, stride=stride, shortcut=shortcut, attention=attention)
    return block, {f"se.{theirs}": f"attention.{ours}" for theirs, ours in MOSKOMULE_KEYS.items()}


@official(MOSKOMULE, "SEBasicBlock")
def moskomule_basic_block(
    inplanes: int,
    planes: int,
    stride: int = 1,
    downsample: bool = False,
    groups: int = 1,  # this and the next three have no effect there either
    base_width: int = 64,
    dilation: int = 1,
    norm_layer: None = None,
    reduction: int = 16,
) -> tuple[nn.Module, dict[str, str]]:
    return _moskomule_block(BasicBlock, inplanes, planes, stride, downsample, reduction)


@official(MOSKOMULE, "SEBottleneck")
def moskomule_bottleneck(
    inplanes: int,
    planes: int,
    stride: int = 1,
    downsample: bool = False,
    groups: int = 1,  # this and the next three have no effect there either
    base_width: int = 64,
    dilation: int = 1,
    norm_layer: None = None,
    reduction: int = 16,
) -> tuple[nn.Module, dict[str, str]]:
    return _moskomule_block(Bottleneck, inplanes, planes, stride, downsample, reduction)


@official(MOSKOMULE, "CifarSEBasicBlock")
def moskomule_cifar_block(
    inplanes: int, planes: int, stride: int = 1, reduction: int = 16
) -> tuple[nn.Module, dict[str, str]]:
    """Projects where the width changes and only there: the official block with a stride alone fails at the add."""
    return _moskomule_block(BasicBlock, inplanes, planes, stride, inplanes != planes, reduction)
