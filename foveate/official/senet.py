"""Squeeze-and-Excitation: the official Caffe models as Cadene converted them, and moskomule's senet.pytorch."""

import math
from collections.abc import Callable
from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._residual import BasicBlock, Bottleneck
from foveate.official._conversions import official
from foveate.official._shared import Built, in_blocks

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


STEM = {"layer0.conv1": "conv1", "layer0.bn1": "bn1"}
DEEP_STEM = {f"layer0.conv{n}": f"conv1.{3 * n - 3}" for n in (1, 2, 3)}
DEEP_STEM |= {"layer0.bn1": "conv1.1", "layer0.bn2": "conv1.4", "layer0.bn3": "bn1"}


def _cadene_network(name: str) -> Callable[..., Built]:
    keys = {**(DEEP_STEM if name == "senet154" else STEM), "last_linear": "fc", **in_blocks(CADENE_KEYS, "se_module")}

    def build(num_classes: int = 1000, pretrained: str | None = "imagenet") -> Built:
        """`pretrained` has no effect on a network whose weights are given."""
        return create_network(name, num_classes=num_classes), keys

    return build


for _name in ("se_resnet50", "se_resnet101", "se_resnet152", "se_resnext50_32x4d", "se_resnext101_32x4d", "senet154"):
    official(CADENE, _name)(_cadene_network(_name))


def _moskomule_network(depth: int, num_classes: int = 1000, pretrained: bool = False) -> Built:
    network = create_network(f"se_resnet{depth}", num_classes=num_classes, layout="torch", bias=False)
    return network, in_blocks(MOSKOMULE_KEYS, "se")


def _moskomule_cifar(depth: int, num_classes: int = 10, reduction: int = 16) -> Built:
    options = {"reduction": reduction, "bias": False}
    network = create_network(
        f"resnet{depth}", num_classes=num_classes, shortcut="projection", attention="se", attention_options=options
    )
    return network, in_blocks(MOSKOMULE_KEYS, "se")


for _depth in (18, 34, 50, 101, 152):
    official(MOSKOMULE, f"se_resnet{_depth}")(partial(_moskomule_network, _depth))
for _depth in (20, 32, 56):
    official(MOSKOMULE, f"se_resnet{_depth}")(partial(_moskomule_cifar, _depth))
