"""The CIFAR-10 networks of akamaster/pytorch_resnet_cifar10, which reach the accuracies of the ResNet paper."""

from functools import partial

from torch import nn

from foveate.networks import create_network
from foveate.official._conversions import official

SOURCE = "akamaster/pytorch_resnet_cifar10"
DEPTHS = (20, 32, 44, 56, 110)


def _network(depth: int, num_classes: int = 10) -> tuple[nn.Module, dict[str, str]]:
    """Takes RGB less ImageNet's mean, by its deviation, 32×32."""
    return create_network(f"resnet{depth}", num_classes=num_classes), {"linear": "fc"}


for _depth in DEPTHS:
    official(SOURCE, f"resnet{_depth}")(partial(_network, _depth))
