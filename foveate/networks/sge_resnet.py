"""ResNets with Spatial Group-wise Enhance in every block. arXiv:1905.09646."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks.resnet import DEPTHS, ResNet, resnet


def sge_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    groups: int = 64,
    placement: str = "standard",
) -> ResNet:
    """ResNet with SGE at the end of every branch.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem, placement: as in `ResNet`.
        groups: of channels, in every stage; at depths 18 and 34 the first stage has one channel a group.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 25,559,080 parameters at depth 50.
    Init: that of `ResNet`; every gate starts at σ(1).
    Source: Li, Hu, Yang, "Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks",
        2019.
    Raises: ValueError: another depth, an unknown stem or placement, groups that do not split the channels.
    """
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        attention="sge",
        attention_options={"groups": groups},
        placement=placement,
    )


for _depth in DEPTHS:
    register_network(f"sge_resnet{_depth}")(partial(sge_resnet, _depth))
