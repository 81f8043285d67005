"""The inverted residual of MobileNetV2, with a place for attention on its wide part. arXiv:1801.04381."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.networks._same_padding import SameConv2d

PADDINGS = ("symmetric", "same_tensorflow")
Attention = Callable[[int], nn.Module]  # channels → a module (N, C, H, W) → (N, C, H, W)


def padded_conv(channels: int, width: int, *, stride: int, groups: int = 1, padding: str = "symmetric") -> nn.Conv2d:
    """A 3×3 convolution without bias to ⌈side/stride⌉: padded by 1 on every side, or as TensorFlow pads.

    Raises: ValueError: an unknown padding.
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(map(repr, PADDINGS))}; got {padding!r}")
    if padding == "same_tensorflow":
        return SameConv2d(channels, width, 3, stride, groups=groups, bias=False)
    return nn.Conv2d(channels, width, 3, stride, 1, groups=groups, bias=False)


class InvertedResidual(nn.Module):
    """1×1 to round(expansion · channels), depthwise 3×3, attention if any, 1×1 to `width` without activation.

    Args:
        channels: of the input.
        width: of the output.
        stride: of the depthwise convolution.
        expansion: of the hidden width; with 1 there is no first 1×1.
        attention: made for the width it stands at.
        place: "wide" (after the depthwise convolution's ReLU6) or "narrow" (after the last norm, before the add).
        padding: of the depthwise convolution, as in `padded_conv`.

    Shape: (N, channels, H, W) → (N, width, ⌈H/stride⌉, ⌈W/stride⌉); x is added where the shapes agree.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        stride: int = 1,
        expansion: float = 6,
        attention: Attention | None = None,
        place: str = "wide",
        padding: str = "symmetric",
    ) -> None:
        super().__init__()
        if place not in ("wide", "narrow"):
            raise ValueError(f"place must be 'wide' or 'narrow'; got {place!r}")
        hidden = round(channels * expansion)
        self.adds = stride == 1 and channels == width
        self.expand = None
        if expansion != 1:
            self.expand = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden))
        self.depthwise = nn.Sequential(
            padded_conv(hidden, hidden, stride=stride, groups=hidden, padding=padding), nn.BatchNorm2d(hidden)
        )
        self.place = place
        self.attention = attention(hidden if place == "wide" else width) if attention else None
        self.project = nn.Sequential(nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = F.relu6(self.depthwise(y), inplace=True)
        y = self.attention(y) if self.attention is not None and self.place == "wide" else y
        y = self.project(y)
        y = self.attention(y) if self.attention is not None and self.place == "narrow" else y
        return x + y if self.adds else y
