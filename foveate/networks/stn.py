"""Networks that straighten the image first: a spatial transformer before a classifier. arXiv:1506.02025."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._build import build_network
from foveate.networks._registry import register_network
from foveate.registry import is_file_reference


class TutorialNet(nn.Module):
    """The digits network of PyTorch's tutorial: a spatial transformer, two 5×5 convolutions, two linear layers.

    Args:
        num_classes: of the last layer.
        in_channels: of the image.
        align_corners: what ±1 means to the sampler; the tutorial's own default followed torch's, False since 1.3.
        dropout: of the maps of the second convolution and of the hidden layer.

    Shape: (N, in_channels, 28, 28) → (N, num_classes) logits; the tutorial's log-softmax is their loss's business.
    Cost: 27,360 parameters with one channel and ten classes, of them 5,520 in the transformer.
    Source: "Spatial Transformer Networks Tutorial", pytorch/tutorials; Jaderberg, Simonyan, Zisserman, Kavukcuoglu,
        NeurIPS 2015, arXiv:1506.02025.
    Init: torch's default; the first frame is the image itself.
    Raises: ValueError: an image of another size.
    """

    def __init__(
        self, num_classes: int = 10, *, in_channels: int = 1, align_corners: bool = False, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stn = create_attention("stn", in_channels, align_corners=align_corners, conv_padding="valid")
        self.conv1 = nn.Conv2d(in_channels, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.map_dropout, self.dropout = nn.Dropout2d(dropout), nn.Dropout(dropout)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (self.in_channels, 28, 28):
            raise ValueError(f"stn_tutorial: wanted images (N, {self.in_channels}, 28, 28); got {tuple(x.shape)}")
        x = torch.relu(F.max_pool2d(self.conv1(self.stn(x)), 2))
        x = torch.relu(F.max_pool2d(self.map_dropout(self.conv2(x)), 2))
        return self.fc2(self.dropout(torch.relu(self.fc1(x.flatten(1)))))


class TransformedNetwork(nn.Module):
    """A spatial transformer on the image, then any network; trained by the network's own `loss`, if it has one.

    Args:
        network: what sees the straightened image.
        in_channels: of the image.
        stn_options: of the attention "stn": `align_corners`, `size`, `widths`, …

    Shape: that of the network.
    Init: the first frame is the image itself, so the network starts with the outputs that it had.
    """

    def __init__(
        self, network: nn.Module, *, in_channels: int = 3, stn_options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.stn = create_attention("stn", in_channels, **dict(stn_options or {}))
        self.network = network
        if hasattr(network, "loss"):  # what trains the network trains both
            self.loss = network.loss

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.stn(x))


def before_named(
    num_classes: int = 1000,
    *,
    network: str = "foveate:resnet20",
    in_channels: int = 3,
    network_options: Mapping[str, Any] | None = None,
    stn_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """`TransformedNetwork` before a network by name.

    Args:
        network: "foveate:NAME", "timm:NAME" or "torchvision:NAME"; put one of your own into `TransformedNetwork`.
        num_classes, in_channels, network_options: of its constructor.
        stn_options: of the transformer.

    Raises: LookupError: no such network. ValueError: a file.
    """
    if is_file_reference(network):
        raise ValueError(
            f"stn: network must be foveate:NAME, timm:NAME or torchvision:NAME; got {network!r} (hand a network of your"
            " own to foveate.networks.stn.TransformedNetwork)"
        )
    inner = build_network(network, num_classes=num_classes, in_channels=in_channels, **dict(network_options or {}))
    return TransformedNetwork(inner, in_channels=in_channels, stn_options=stn_options)


register_network("stn_tutorial", shape=(1, 28, 28))(TutorialNet)
register_network("stn_before", shape=(3, 32, 32))(before_named)
register_network("stn_resnet20", shape=(3, 32, 32))(partial(before_named, network="foveate:resnet20", num_classes=10))
for _name in ("resnet18", "resnet50", "mobilenet_v2", "shufflenet_v2"):
    register_network(f"stn_{_name}")(partial(before_named, network=f"foveate:{_name}"))
