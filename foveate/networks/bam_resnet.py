"""ResNets with BAM between their stages. arXiv:1807.06514."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks._released import start_as_released
from foveate.networks.resnet import DEPTHS, ResNet, resnet


def bam_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    reduction: int = 16,
    dilation: int = 4,
) -> ResNet:
    """ResNet with BAM after each stage but the last: behind the last ReLU, before the map is made smaller.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: "imagenet" or "cifar", as in `ResNet`.
        reduction: r of both branches.
        dilation: of the spatial branch.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 11,712,503 parameters at depth 18, 25,915,099 at depth 50.
    Init: as released: He normal (fan out) for convolutions, every bias 0, He normal for the linear layer; torch's
        default for projections and the channel branch's layers.
    Source: Park, Woo, Lee, Kweon, "BAM: Bottleneck Attention Module", BMVC 2018. Departures: true means over the map,
        as in `cbam_resnet`.
    Raises: ValueError: another depth, an unknown stem; in training a batch of one.
    """
    network = resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        attention="bam",
        attention_options={"reduction": reduction, "dilation": dilation},
        placement="stage",
    )
    start_as_released(network)
    return network


for _depth in DEPTHS:
    register_network(f"bam_resnet{_depth}")(partial(bam_resnet, _depth))
