"""SA-Net: ResNets with Shuffle Attention in every block. arXiv:2102.00240."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks.resnet import ResNet, resnet


def sa_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    groups: int = 64,
    placement: str = "standard",
) -> ResNet:
    """ResNet with SA at the end of every bottleneck's branch.

    Args:
        depth: 50, 101 or 152 by name; 18 and 34 with fewer groups, as their first stage has 64 channels.
        stem, placement: as in `ResNet`.
        groups: of channels; twice as many must split every stage's.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 25,557,740 parameters at depth 50.
    Init: that of `ResNet`; every gate starts at σ(1).
    Source: Zhang, Yang, "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks", ICASSP 2021.
    Raises: ValueError: another depth, an unknown stem or placement, groups that do not split the channels.
    """
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        attention="sa",
        attention_options={"groups": groups},
        placement=placement,
    )


for _depth in (50, 101, 152):
    register_network(f"sa_resnet{_depth}")(partial(sa_resnet, _depth))
