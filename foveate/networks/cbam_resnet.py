"""ResNets with CBAM in every block. arXiv:1807.06521."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks._released import start_as_released
from foveate.networks.resnet import DEPTHS, ResNet, resnet


def cbam_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    reduction: int = 16,
    spatial: bool = True,
    placement: str = "standard",
) -> ResNet:
    """ResNet with CBAM at the end of every branch.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: "imagenet" or "cifar", as in `ResNet`.
        reduction: r of the channel gate.
        spatial: with the spatial gate behind the channel gate.
        placement: as in `ResNet`.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 11,779,392 parameters at depth 18, 28,089,624 at depth 50.
    Init: as released: He normal (fan out) for convolutions, the spatial gate's norm 0 (so its gate is ½ at the start),
        every bias 0, He normal for the linear layer; torch's default for projections and the channel gate's layers.
    Source: Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018. Departures: a mean over the
        whole last map, where the released network averages 7×7 (4×4 with the CIFAR stem): the same at 224 (32) pixels.
    Raises: ValueError: another depth, an unknown stem or placement.
    """
    network = resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        attention="cbam",
        attention_options={"reduction": reduction, "spatial": spatial},
        placement=placement,
    )
    start_as_released(network)
    return network


for _depth in DEPTHS:
    register_network(f"cbam_resnet{_depth}")(partial(cbam_resnet, _depth))
