"""CBAM and BAM as Jongchan Park released them: Jongchan/attention-module."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.attention.bam import ChannelBranch, SpatialBranch
from foveate.networks import create_network
from foveate.networks._residual import BasicBlock, Bottleneck
from foveate.official._conversions import official
from foveate.official._shared import Built, in_blocks

SOURCE = "Jongchan/attention-module"
CBAM_KEYS = {
    "ChannelGate.mlp.1": "channel_gate.reduce",
    "ChannelGate.mlp.3": "channel_gate.expand",
    "SpatialGate.spatial.conv": "spatial_gate.conv",
    "SpatialGate.spatial.bn": "spatial_gate.norm",
}


@official(SOURCE, "CBAM")
def cbam(
    gate_channels: int,
    reduction_ratio: int = 16,
    pool_types: Sequence[str] = ("avg", "max"),
    no_spatial: bool = False,
) -> tuple[nn.Module, dict[str, str]]:
    module = create_attention(
        "cbam", gate_channels, reduction=reduction_ratio, pools=pool_types, spatial=not no_spatial
    )
    return module, CBAM_KEYS


@official(SOURCE, "cbam.ChannelGate")
def cbam_channel_gate(
    gate_channels: int, reduction_ratio: int = 16, pool_types: Sequence[str] = ("avg", "max")
) -> tuple[nn.Module, dict[str, str]]:
    module, _ = cbam(gate_channels, reduction_ratio, pool_types, no_spatial=True)
    return module, {"mlp.1": "channel_gate.reduce", "mlp.3": "channel_gate.expand"}


@official(SOURCE, "cbam.SpatialGate")
def cbam_spatial_gate(channels: int) -> tuple[nn.Module, dict[str, str]]:
    """The official class takes maps of any width and has no arguments; ours needs `channels`."""
    module = create_attention("cbam", channels, reduction=1, channel=False)
    return module, {"spatial.conv": "spatial_gate.conv", "spatial.bn": "spatial_gate.norm"}


def _bam_channel_keys(layers: int, theirs: str, ours: str) -> dict[str, str]:
    keys = {f"{theirs}gate_c.gate_c_fc_final": f"{ours}last"}
    for i in range(layers):
        keys[f"{theirs}gate_c.gate_c_fc_{i}"] = f"{ours}hidden.{3 * i}"
        keys[f"{theirs}gate_c.gate_c_bn_{i + 1}"] = f"{ours}hidden.{3 * i + 1}"
    return keys


def _bam_spatial_keys(dilated: int, theirs: str, ours: str) -> dict[str, str]:
    names = ["reduce0", *(f"di_{i}" for i in range(dilated))]
    keys = {f"{theirs}gate_s.gate_s_conv_final": f"{ours}last"}
    for i, name in enumerate(names):
        keys[f"{theirs}gate_s.gate_s_conv_{name}"] = f"{ours}hidden.{3 * i}"
        keys[f"{theirs}gate_s.gate_s_bn_{name}"] = f"{ours}hidden.{3 * i + 1}"
    return keys


BAM_KEYS = _bam_channel_keys(1, "channel_att.", "channel_branch.")
BAM_KEYS |= _bam_spatial_keys(2, "spatial_att.", "spatial_branch.")


@official(SOURCE, "BAM")
def bam(gate_channel: int) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("bam", gate_channel), BAM_KEYS


@official(SOURCE, "bam.ChannelGate")
def bam_channel_gate(
    gate_channel: int, reduction_ratio: int = 16, num_layers: int = 1
) -> tuple[nn.Module, dict[str, str]]:
    """Gives logits in the shape of the map, not a gated map, as the official class does."""
    return ChannelBranch(gate_channel, reduction_ratio, num_layers, False), _bam_channel_keys(num_layers, "", "")


@official(SOURCE, "bam.SpatialGate")
def bam_spatial_gate(
    gate_channel: int, reduction_ratio: int = 16, dilation_conv_num: int = 2, dilation_val: int = 4
) -> tuple[nn.Module, dict[str, str]]:
    """Gives logits in the shape of the map, not a gated map, as the official class does."""
    module = SpatialBranch(gate_channel, 2, reduction_ratio, dilation_conv_num, dilation_val, False)
    return module, _bam_spatial_keys(dilation_conv_num, "", "")


@official(SOURCE, "ChannelGate")
def channel_gate(
    gate_channel: int | None = None,
    reduction_ratio: int = 16,
    num_layers: int = 1,
    gate_channels: int | None = None,
    pool_types: Sequence[str] = ("avg", "max"),
) -> tuple[nn.Module, dict[str, str]]:
    """Both files have a class of this name: `gate_channel` is bam.py's argument, `gate_channels` cbam.py's."""
    if gate_channel is not None:
        return bam_channel_gate(gate_channel, reduction_ratio, num_layers)
    if gate_channels is None:
        raise ValueError("ChannelGate: wanted gate_channel (that of bam.py) or gate_channels (that of cbam.py)")
    return cbam_channel_gate(gate_channels, reduction_ratio, pool_types)


@official(SOURCE, "SpatialGate")
def spatial_gate(
    gate_channel: int | None = None,
    reduction_ratio: int = 16,
    dilation_conv_num: int = 2,
    dilation_val: int = 4,
    channels: int | None = None,
) -> tuple[nn.Module, dict[str, str]]:
    """Both files have a class of this name: `gate_channel` is bam.py's argument; for cbam.py's give `channels`."""
    if gate_channel is not None:
        return bam_spatial_gate(gate_channel, reduction_ratio, dilation_conv_num, dilation_val)
    if channels is None:
        raise ValueError("SpatialGate: wanted gate_channel (that of bam.py) or channels (for that of cbam.py)")
    return cbam_spatial_gate(channels)


def _block(
    cls: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, stride: int, downsample: bool, with_cbam: bool
) -> tuple[nn.Module, dict[str, str]]:
    attention = partial(create_attention, "cbam") if with_cbam else None
    shortcut = "projection" if downsample else None
    block = cls(inplanes, planes, stride=stride, shortcut=shortcut, attention=attention)
    return block, {f"cbam.{theirs}": f"attention.{ours}" for theirs, ours in CBAM_KEYS.items()}


@official(SOURCE, "Bottleneck")
def bottleneck(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, use_cbam: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    return _block(Bottleneck, inplanes, planes, stride, downsample, use_cbam)


@official(SOURCE, "BasicBlock")
def basic_block(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, use_cbam: bool = False
) -> tuple[nn.Module, dict[str, str]]:
    return _block(BasicBlock, inplanes, planes, stride, downsample, use_cbam)


@official(SOURCE, "ResidualNet")
def residual_net(network_type: str, depth: int, num_classes: int, att_type: str | None = None) -> Built:
    """The released function has no default for `att_type` either; left out, it is None, the plain network."""
    names = {None: "resnet", "BAM": "bam_resnet", "CBAM": "cbam_resnet"}
    if network_type not in ("ImageNet", "CIFAR10", "CIFAR100"):
        raise ValueError(f"ResidualNet: network_type must be 'ImageNet', 'CIFAR10' or 'CIFAR100'; got {network_type!r}")
    if depth not in (18, 34, 50, 101):
        raise ValueError(f"ResidualNet: depth must be 18, 34, 50 or 101; got {depth!r}")
    if att_type not in names:
        raise ValueError(f"ResidualNet: att_type must be None, 'BAM' or 'CBAM'; got {att_type!r}")
    stem = "imagenet" if network_type == "ImageNet" else "cifar"
    keys = in_blocks(CBAM_KEYS, "cbam")
    keys |= {f"bam{n}.{a}": f"between.layer{n}.{b}" for n in (1, 2, 3) for a, b in BAM_KEYS.items()}
    return create_network(f"{names[att_type]}{depth}", num_classes=num_classes, stem=stem), keys
