"""MobileNetV2, plain and with attention where the papers put it. arXiv:1801.04381."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._inverted_residual import Attention, InvertedResidual, padded_conv
from foveate.networks._registry import register_network

STAGES = (  # expansion, width, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_OPTIONS: dict[str, dict[str, Any]] = {"se": {"reduction": 24}, "cbam": {"reduction": 24}}


def divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, but never less than nine tenths; divisor 1 cuts the fraction off."""
    if divisor == 1:
        return int(channels)
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class MobileNetV2(nn.Module):
    """A 3×3 stem, seventeen inverted residuals, a 1×1 convolution to 1280, a global mean, a linear layer.

    Args:
        num_classes: of the linear layer.
        in_channels: of the image.
        width: factor of all widths; the last 1×1 never has fewer than 1280.
        attention: name of a mechanism to build into the blocks. Of the papers: "se", "cbam" (reduction 24) and "ca" on
            the wide part, after the depthwise convolution, of every block but the first; "eca" after the last norm of
            every block, with kernel 1 in the stages of up to 64 channels and 3 from 96 on.
        attention_options: its options, instead of those named above.
        place: "wide" or "narrow", as in `InvertedResidual`; None: the paper's. "wide" leaves out the first block, which
            has no wide part.
        dropout: before the linear layer.
        padding: "symmetric" (torch's) or "same_tensorflow" (for weights that were trained there).
        divisor: widths are rounded to multiples of it; 1 cuts fractions off.

    Shape: (N, in_channels, H, W) → (N, num_classes), for any H and W.
    Cost: 3,504,872 parameters and 300.8 M multiply-adds at width 1, 1000 classes and 224×224.
    Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
        arXiv:1801.04381. Places: Hou, Zhou, Feng, "Coordinate Attention for Efficient Mobile Network Design", CVPR
        2021, arXiv:2103.02907; Wang et al., "ECA-Net", CVPR 2020, arXiv:1910.03151.
    Init: He normal (fan out) for convolutions, norms 1 and 0, N(0, 0.01) for the linear layer; of the attention, ca's
        convolutions too, as released; the others' own.
    Raises: ValueError: an unknown place or padding, a width below 1/16, options or a place without attention.
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
        place: str | None = None,
        dropout: float = 0.2,
        padding: str = "symmetric",
        divisor: int = 8,
    ) -> None:
        super().__init__()
        if attention is None and (attention_options or place):
            raise ValueError("attention_options and place need attention=; got none")
        if not width >= 1 / 16:
            raise ValueError(f"width must be a factor of at least 1/16; got {width!r}")
        place = place or ("narrow" if attention == "eca" else "wide")
        channels = divisible(32 * width, divisor)
        self.stem = nn.Sequential(
            padded_conv(in_channels, channels, stride=2, padding=padding), nn.BatchNorm2d(channels)
        )
        blocks = []
        for expansion, base, repeats, first_stride in STAGES:
            build = _attention_of(attention, attention_options, base)
            for index in range(repeats):
                block = InvertedResidual(
                    channels,
                    divisible(base * width, divisor),
                    stride=1 if index else first_stride,
                    expansion=expansion,
                    attention=build if place == "narrow" or expansion > 1 else None,
                    place=place,
                    padding=padding,
                )
                blocks.append(block)
                channels = divisible(base * width, divisor)
        self.blocks = nn.Sequential(*blocks)
        last = divisible(1280 * max(width, 1.0), divisor)
        self.head = nn.Sequential(nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(last, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, nn.modules.conv._ConvNd) and (attention == "ca" or ".attention" not in name):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x), inplace=True)
        x = F.relu6(self.head(self.blocks(x)), inplace=True)
        return self.fc(self.dropout(x.mean((2, 3))))


def _attention_of(attention: str | None, options: Mapping[str, Any] | None, base: int) -> Attention | None:
    """Builds the attention of a stage that is `base` channels wide at width 1."""
    if attention is None:
        return None
    if options is None:
        options = {"kernel_size": 1 if base < 96 else 3} if attention == "eca" else _OPTIONS.get(attention, {})
    return partial(create_attention, attention, **options)


register_network("mobilenet_v2")(MobileNetV2)
register_network("se_mobilenet_v2")(partial(MobileNetV2, attention="se"))
register_network("cbam_mobilenet_v2")(partial(MobileNetV2, attention="cbam"))
register_network("ca_mobilenet_v2")(partial(MobileNetV2, attention="ca", dropout=0.1))
register_network("eca_mobilenet_v2")(partial(MobileNetV2, attention="eca", dropout=0.25))
