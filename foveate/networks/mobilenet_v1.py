"""MobileNet: depthwise separable convolutions, plain and with attention. arXiv:1704.04861."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._inverted_residual import Attention, padded_conv
from foveate.networks._registry import register_network

UNITS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
PLACES = ("depthwise", "pointwise")


class SeparableUnit(nn.Module):
    """Depthwise 3×3, norm, ReLU, 1×1, norm, ReLU; attention after either ReLU or both.

    Shape: (N, channels, H, W) → (N, width, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        stride: int = 1,
        attention: Attention | None = None,
        places: Collection[str] = ("pointwise",),
        padding: str = "symmetric",
    ) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            padded_conv(channels, channels, stride=stride, groups=channels, padding=padding), nn.BatchNorm2d(channels)
        )
        self.inner = attention(channels) if attention and "depthwise" in places else None
        self.pointwise = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.attention = attention(width) if attention and "pointwise" in places else None

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.depthwise(x))
        x = x if self.inner is None else self.inner(x)
        x = torch.relu_(self.pointwise(x))
        return x if self.attention is None else self.attention(x)


class MobileNetV1(nn.Module):
    """A 3×3 stem, thirteen depthwise separable units, a global mean, a linear layer.

    Args:
        num_classes: of the linear layer.
        in_channels: of the image.
        width: the paper's α: factor of all widths, fractions cut off.
        attention: name of a mechanism to build into every unit.
        attention_options: its options.
        places: where in a unit: "depthwise", "pointwise" or both. None: both for "cbam" (the size that its paper prints
            fits no other), "pointwise" for "se" (the same) and for all others, which no paper has here.
        padding: "symmetric" (torch's) or "same_tensorflow".

    Shape: (N, in_channels, H, W) → (N, num_classes), for any H and W.
    Cost: 4,231,976 parameters and 568.7 M multiply-adds at width 1, 1000 classes and 224×224.
    Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
        arXiv:1704.04861. With attention: Hu et al., arXiv:1709.01507, table 3; Woo et al., arXiv:1807.06521, table 5.
    Init: He normal (fan out) for convolutions, norms 1 and 0, torch's default for the linear layer; attention its own.
    Raises: ValueError: an unknown place or padding, a width below 1/32, options or places without attention.
        LookupError, TypeError: an unknown mechanism, an option that it does not have.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        attention: str | None = None,
        attention_options: Mapping[str, Any] | None = None,
        places: Collection[str] | None = None,
        padding: str = "symmetric",
    ) -> None:
        super().__init__()
        if attention is None and (attention_options or places):
            raise ValueError("attention_options and places need attention=; got none")
        if places is None:
            places = PLACES if attention == "cbam" else ("pointwise",)
        if isinstance(places, str) or not places or set(places) - set(PLACES):
            raise ValueError(f"places must be a list of {' and '.join(map(repr, PLACES))}; got {places!r}")
        if not width >= 1 / 32:
            raise ValueError(f"width must be a factor of at least 1/32; got {width!r}")
        build = partial(create_attention, attention, **dict(attention_options or {})) if attention else None
        channels = int(32 * width)
        self.stem = nn.Sequential(
            padded_conv(in_channels, channels, stride=2, padding=padding), nn.BatchNorm2d(channels)
        )
        units = []
        for base, stride in UNITS:
            out = int(base * width)
            units.append(SeparableUnit(channels, out, stride=stride, attention=build, places=places, padding=padding))
            channels = out
        self.units = nn.Sequential(*units)
        self.fc = nn.Linear(channels, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".attention" not in name and ".inner" not in name:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.units(torch.relu_(self.stem(x))).mean((2, 3)))


register_network("mobilenet_v1")(MobileNetV1)
for _attention in ("se", "cbam", "ca", "eca"):
    register_network(f"{_attention}_mobilenet_v1")(partial(MobileNetV1, attention=_attention))
