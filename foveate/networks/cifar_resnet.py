"""The small residual networks of the CIFAR experiments. arXiv:1512.03385, section 4.2."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._registry import register_network
from foveate.networks.residual import BasicBlock, check_placement

DEPTHS = (8, 14, 20, 32, 44, 56, 110)


class CifarResNet(nn.Module):
    """A 3×3 stem, three stages of basic blocks at full, half and quarter resolution, a global mean, a linear layer.

    Args:
        depth: 6n + 2; n blocks a stage.
        num_classes: of the linear layer.
        in_channels: of the image.
        widths: channels of the three stages; the paper's are 16, 32, 64.
        shortcut: "pad" (the paper's option A, no parameters) or "projection" (option B).
        attention: name of a mechanism to build into every block; `foveate.insert` puts one into a network that stands.
        attention_options: its options.
        placement: where in each block: "standard", "pre", "post" or "identity", as in `residual.BasicBlock`.

    Shape: (N, in_channels, H, W) → (N, num_classes), for any H and W of at least 4 pixels.
    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. Departures: none with "pad".
    Init: He normal (fan out) for convolutions, norms 1 and 0, torch's default for the linear layer; attention its own.
    Raises: ValueError: a depth that is not 6n + 2, an unknown shortcut or placement, options or a placement without
        attention. LookupError, TypeError: an unknown mechanism, an option that it does not have.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        widths: tuple[int, int, int] = (16, 32, 64),
        shortcut: str = "pad",
        attention: str | None = None,
        attention_options: Mapping[str, Any] | None = None,
        placement: str = "standard",
    ) -> None:
        super().__init__()
        if attention is None and (attention_options or check_placement(placement) != "standard"):
            raise ValueError("attention_options and placement want attention=; got none")
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, …); got {depth}")
        if shortcut not in {"pad", "projection"}:
            raise ValueError(f"shortcut must be 'pad' or 'projection'; got {shortcut!r}")
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        options = dict(attention_options or {})
        make = partial(create_attention, attention, **options) if attention else None
        channels = widths[0]
        stages = []
        for stage, width in enumerate(widths):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if stage and not index else 1
                changes = stride > 1 or channels != width
                way = shortcut if changes else None
                block = BasicBlock(channels, width, stride=stride, shortcut=way, attention=make, placement=placement)
                blocks.append(block)
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(channels, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".attention." not in name:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


for _depth in DEPTHS:
    register_network(f"resnet{_depth}", shape=(3, 32, 32))(partial(CifarResNet, _depth))
