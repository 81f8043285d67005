"""SqueezeNet as Deep Compression released it, for torchvision's network: songhan/SqueezeNet-Deep-Compression."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from foveate.networks import build_network
from foveate.official._conversions import official

SOURCE = "songhan/SqueezeNet-Deep-Compression"


def decode(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Caffe's blue, green, red become red, green, blue; half precision becomes single."""
    made = {key: value.float() for key, value in state.items()}
    first = "features.0.weight"
    if first in made and made[first].dim() == 4:
        made[first] = made[first].flip(1)
    return made


@official(SOURCE, "squeezenet1_0", decode=decode)
def squeezenet(num_classes: int = 1000) -> tuple[nn.Module, dict[str, str]]:
    """Takes RGB from 0 to 255 less (123, 117, 104), 227×227."""
    return build_network("torchvision:squeezenet1_0", num_classes=num_classes), {}
