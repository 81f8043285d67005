"""The classification models of implus/PytorchInsight: the authors' SGE, and their SE, CBAM, BAM and SK-ResNet*."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._residual import BasicBlock, Bottleneck
from foveate.official import jongchan
from foveate.official._conversions import official
from foveate.official._shared import Built, in_blocks

SOURCE = "implus/PytorchInsight"
SE_KEYS = {"fc.0": "reduce", "fc.2": "expand"}
SK_KEYS = {
    "conv2": "middle.branches.0.0",
    "bn2": "middle.branches.0.1",
    "conv2g": "middle.branches.1.0",
    "bn2g": "middle.branches.1.1",
    "conv_fc1": "middle.reduce",
    "bn_fc1": "middle.norm",
    "conv_fc2": "middle.expand",
}

for _cls, _build in (
    ("resnet_bam.BAM", jongchan.bam),
    ("resnet_bam.ChannelGate", jongchan.bam_channel_gate),
    ("resnet_bam.SpatialGate", jongchan.bam_spatial_gate),
    ("resnet_cbam.CBAM", jongchan.cbam),
    ("resnet_cbam.ChannelGate", jongchan.cbam_channel_gate),
    ("resnet_cbam.SpatialGate", jongchan.cbam_spatial_gate),
    ("resnet_cbam.Bottleneck", jongchan.bottleneck),
    ("resnet_cbam.BasicBlock", jongchan.basic_block),
):
    official(SOURCE, _cls)(_build)


def _shortcut(downsample: bool) -> str | None:
    return "projection" if downsample else None


@official(SOURCE, "resnet_sge.SpatialGroupEnhance")
def spatial_group_enhance(channels: int, groups: int = 64) -> tuple[nn.Module, dict[str, str]]:
    """The official class takes maps of any width and has no `channels`; ours needs it."""
    return create_attention("sge", channels, groups=groups), {}


def _sge_block(
    cls: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, stride: int, downsample: bool, groups: int
) -> tuple[nn.Module, dict[str, str]]:
    attention = partial(create_attention, "sge", groups=groups)
    block = cls(inplanes, planes, stride=stride, shortcut=_shortcut(downsample), attention=attention)
    return block, {"sge": "attention"}


@official(SOURCE, "resnet_sge.Bottleneck")
def sge_bottleneck(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, sge_groups: int = 64
) -> tuple[nn.Module, dict[str, str]]:
    return _sge_block(Bottleneck, inplanes, planes, stride, downsample, sge_groups)


@official(SOURCE, "resnet_sge.BasicBlock")
def sge_basic_block(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, sge_groups: int = 64
) -> tuple[nn.Module, dict[str, str]]:
    return _sge_block(BasicBlock, inplanes, planes, stride, downsample, sge_groups)


@official(SOURCE, "resnet_se.SELayer")
def se_layer(channel: int, reduction: int = 16) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("se", channel, reduction=reduction), SE_KEYS


def _se_block(
    cls: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, stride: int, downsample: bool
) -> tuple[nn.Module, dict[str, str]]:
    attention = partial(create_attention, "se")
    block = cls(inplanes, planes, stride=stride, shortcut=_shortcut(downsample), attention=attention)
    return block, {f"se.{theirs}": f"attention.{ours}" for theirs, ours in SE_KEYS.items()}


@official(SOURCE, "resnet_se.Bottleneck")
def se_bottleneck(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    return _se_block(Bottleneck, inplanes, planes, stride, downsample)


@official(SOURCE, "resnet_se.BasicBlock")
def se_basic_block(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    return _se_block(BasicBlock, inplanes, planes, stride, downsample)


def _plain(use_cbam: bool) -> None:
    if use_cbam:
        raise ValueError("resnet_bam: use_cbam must be False, the file has no CBAM; resnet_cbam's block has one")


@official(SOURCE, "resnet_bam.Bottleneck")
def bam_bottleneck(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, use_cbam: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    _plain(use_cbam)
    return Bottleneck(inplanes, planes, stride=stride, shortcut=_shortcut(downsample)), {}


@official(SOURCE, "resnet_bam.BasicBlock")
def bam_basic_block(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, use_cbam: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    _plain(use_cbam)
    return BasicBlock(inplanes, planes, stride=stride, shortcut=_shortcut(downsample)), {}


@official(SOURCE, "resnet_sk.Bottleneck")
def sk_bottleneck(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    middle = partial(create_attention, "sk", form="light", stride=stride)
    return Bottleneck(inplanes, planes, stride=stride, middle=middle, shortcut=_shortcut(downsample)), SK_KEYS


@official(SOURCE, "resnet_sk.BasicBlock")
def sk_basic_block(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    return BasicBlock(inplanes, planes, stride=stride, shortcut=_shortcut(downsample)), {}


def _network(name: str, options: dict[str, Any], keys: dict[str, str]) -> Callable[..., Built]:
    def build(num_classes: int = 1000, pretrained: bool = False, zero_init_residual: bool = False) -> Built:
        """The last two have no effect on a network whose weights are given."""
        return create_network(name, num_classes=num_classes, **options), keys

    return build


def _released(attention: str, depth: int) -> Callable[..., Built]:
    def build(num_classes: int = 1000, pretrained: bool = False) -> Built:
        return jongchan.residual_net("ImageNet", depth, num_classes, attention)

    return build


_SK = {f"*.*.{a}": f"*.*.{b}" for a, b in SK_KEYS.items()}
for _depth in (18, 34, 50, 101, 152):
    _sk = (
        _network(f"sk_resnet{_depth}", {}, _SK) if _depth >= 50 else _network(f"resnet{_depth}", {}, {})
    )  # no SK there
    official(SOURCE, f"resnet_old.old_resnet{_depth}")(_network(f"resnet{_depth}", {}, {}))
    official(SOURCE, f"resnet_se.se_resnet{_depth}")(
        _network(f"se_resnet{_depth}", {"layout": "torch"}, in_blocks(SE_KEYS, "se"))
    )
    official(SOURCE, f"resnet_sge.sge_resnet{_depth}")(
        _network(f"sge_resnet{_depth}", {}, {"*.*.sge": "*.*.attention"})
    )
    official(SOURCE, f"resnet_sk.sk_resnet{_depth}")(_sk)
for _depth in (18, 34, 50, 101):
    official(SOURCE, f"resnet_bam.bam_resnet{_depth}")(_released("BAM", _depth))
    official(SOURCE, f"resnet_cbam.cbam_resnet{_depth}")(_released("CBAM", _depth))
