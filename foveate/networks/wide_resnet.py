"""Wide residual networks. arXiv:1605.07146."""

from collections.abc import Sequence
from functools import partial

from foveate.networks._attention_factory import Options
from foveate.networks._registry import register_network
from foveate.networks.resnet import DEPTHS, ResNet

CIFAR = ((16, 8), (22, 8), (28, 10), (40, 4))  # depth, factor


def wide_resnet(
    depth: int,
    factor: float,
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    attention: str | None = None,
    attention_options: Options | Sequence[Options] | None = None,
    placement: str = "standard",
    attention_blocks: Sequence[bool | Sequence[int]] | None = None,
) -> ResNet:
    """WRN-depth-factor for small images: pre-activation basic blocks of 16, 32 and 64 times `factor` channels.

    Args:
        depth: 6n + 4; n blocks a stage.
        factor: of the widths.
        attention, attention_options, placement, attention_blocks: as in `ResNet`.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 36,479,194 parameters for WRN-28-10 with 10 classes.
    Init: that of `ResNet`.
    Source: Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016. Departures: no dropout within the blocks.
    Raises: ValueError: a depth that is not 6n + 4; as `ResNet`.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n + 4 (10, 16, 22, …); got {depth}")
    return ResNet(
        ((depth - 4) // 6,) * 3,
        num_classes,
        block="preact-basic",
        in_channels=in_channels,
        stem="cifar",
        stem_width=16,
        widths=[round(width * factor) for width in (16, 32, 64)],
        attention=attention,
        attention_options=attention_options,
        placement=placement,
        attention_blocks=attention_blocks,
    )


def wide_resnet18(
    num_classes: int = 1000,
    *,
    factor: float = 2.0,
    in_channels: int = 3,
    stem: str = "imagenet",
    attention: str | None = None,
    attention_options: Options | Sequence[Options] | None = None,
    placement: str = "standard",
    attention_blocks: Sequence[bool | Sequence[int]] | None = None,
) -> ResNet:
    """ResNet-18 of `factor` times the width, as CBAM's tables have it: 25.88 M parameters at 1.5, 45.62 M at 2.0.

    Args:
        factor: of the four stages' widths.
        stem, attention, attention_options, placement, attention_blocks: as in `ResNet`.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Raises: as `ResNet`.
    """
    return ResNet(
        DEPTHS[18][1],
        num_classes,
        block="basic",
        in_channels=in_channels,
        stem=stem,
        stem_width=64,
        widths=[round(width * factor) for width in (64, 128, 256, 512)],
        attention=attention,
        attention_options=attention_options,
        placement=placement,
        attention_blocks=attention_blocks,
    )


for _depth, _factor in CIFAR:
    register_network(f"wide_resnet{_depth}_{_factor}", shape=(3, 32, 32))(partial(wide_resnet, _depth, _factor))
register_network("wide_resnet18")(wide_resnet18)
for _depth in (50, 101):
    register_network(f"wide_resnet{_depth}_2")(partial(ResNet, DEPTHS[_depth][1], base_width=128))
