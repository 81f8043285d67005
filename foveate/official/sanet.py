"""Shuffle Attention as released: wofmanaf/SA-Net."""

from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._residual import Bottleneck
from foveate.official._conversions import official
from foveate.official._shared import Built, in_blocks

SOURCE = "wofmanaf/SA-Net"
KEYS = {
    "cweight": "channel_weight",
    "cbias": "channel_bias",
    "sweight": "spatial_weight",
    "sbias": "spatial_bias",
    "gn.weight": "norm_weight",
    "gn.bias": "norm_bias",
}


@official(SOURCE, "sa_layer")
def layer(channel: int, groups: int = 64) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("sa", channel, groups=groups), KEYS


@official(SOURCE, "SABottleneck")
def bottleneck(
    inplanes: int,
    planes: int,
    stride: int = 1,
    downsample: bool = False,
    groups: int = 1,
    base_width: int = 64,
    dilation: int = 1,
    norm_layer: type[nn.Module] | None = None,
    sa_groups: int = 64,  # the official block always has 64
) -> tuple[nn.Module, dict[str, str]]:
    if norm_layer not in (None, nn.BatchNorm2d):
        raise ValueError(f"SABottleneck: norm_layer must be None or BatchNorm2d; got {norm_layer!r}")
    block = Bottleneck(
        inplanes,
        int(planes * (base_width / 64)) * groups,
        out_channels=4 * planes,
        stride=stride,
        groups=groups,
        dilation=dilation,
        shortcut="projection" if downsample else None,
        attention=partial(create_attention, "sa", groups=sa_groups),
    )
    return block, {f"sa.{theirs}": f"attention.{ours}" for theirs, ours in KEYS.items()}


def _network(depth: int, num_classes: int = 1000, pretrained: bool = False) -> Built:
    return create_network(f"sa_resnet{depth}", num_classes=num_classes), in_blocks(KEYS, "sa")


for _depth in (50, 101, 152):
    official(SOURCE, f"sa_resnet{_depth}")(partial(_network, _depth))
