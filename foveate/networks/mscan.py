"""MSCAN, the encoder of SegNeXt: attention made of depthwise convolutions at several scales.

Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation", NeurIPS 2022,
arXiv:2209.08575.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import record
from foveate.networks._encoders import EncoderClassifier, register_encoder
from foveate.networks._registry import register_network
from foveate.networks._transformer import ChannelNorm, DropPath, Map, check_four, check_stages, drop_rates, start

SMALL, WIDE = (32, 64, 160, 256), (64, 128, 320, 512)
SIZES = {  # widths, depths, drop path
    "t": (SMALL, (3, 3, 5, 2), 0.1),
    "s": (WIDE, (2, 2, 4, 2), 0.1),
    "b": (WIDE, (3, 3, 12, 3), 0.1),
    "l": (WIDE, (3, 5, 27, 3), 0.3),
}
STRIPS = (7, 11, 21)


class MultiScaleConvolutionalAttention(nn.Module):
    """Gate a map by the sum of depthwise convolutions at four scales, mixed by a 1×1 convolution.

        a = dw₅ₓ₅(x);  y = x · W (a + Σ_s dwₛₓ₁(dw₁ₓₛ(a))), s = 7, 11, 21

    Shape: (N, C, H, W) → (N, C, H, W). Gate: (N, C, H, W), not between bounds.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        depthwise = partial(nn.Conv2d, channels, channels, groups=channels)
        self.square = depthwise(kernel_size=5, padding=2)
        self.rows = nn.ModuleList(depthwise(kernel_size=(1, s), padding=(0, s // 2)) for s in STRIPS)
        self.columns = nn.ModuleList(depthwise(kernel_size=(s, 1), padding=(s // 2, 0)) for s in STRIPS)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Map) -> Map:
        a = self.square(x)
        total = a
        for row, column in zip(self.rows, self.columns, strict=True):
            total = total + column(row(a))
        gate = self.mix(total)
        record(self, gate=gate)
        return gate * x


class SpatialAttention(nn.Module):
    """1×1, GELU, the multi-scale attention, 1×1, beside the map itself. Shape: (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = nn.Conv2d(channels, channels, 1)
        self.gate = MultiScaleConvolutionalAttention(channels)
        self.after = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Map) -> Map:
        return x + self.after(self.gate(F.gelu(self.before(x))))


class ConvFeedForward(nn.Module):
    """1×1, depthwise 3×3, GELU, 1×1. Shape: (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Map) -> Map:
        return self.reduce(F.gelu(self.depthwise(self.expand(x))))


class MSCANBlock(nn.Module):
    """x₁ = x + s₁ A(BN(x));  y = x₁ + s₂ F(BN(x₁)), s₁ and s₂ a learned factor for each channel, 0.01 at the start.

    Shape: (N, C, H, W) → (N, C, H, W).
    """

    def __init__(self, channels: int, ratio: float = 4, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.attention = SpatialAttention(channels)
        self.feed = ConvFeedForward(channels, int(channels * ratio))
        self.scale1, self.scale2 = ChannelScale(channels), ChannelScale(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Map) -> Map:
        x = x + self.drop_path(self.scale1(self.attention(self.norm1(x))))
        return x + self.drop_path(self.scale2(self.feed(self.norm2(x))))


class ChannelScale(nn.Module):
    """A learned factor for each channel, 0.01 at the start. Shape: (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.ones(channels))

    def forward(self, x: Map) -> Map:
        return self.weight[:, None, None] * x


class MSCAN(nn.Module):
    """The maps of four stages.

    Args:
        in_channels: of the image.
        widths, depths, ratios: of the stages: channels, number of blocks, width of the feed-forward network over C.
        drop_path: probability that a block's branch is dropped, from 0 at the first block to this at the last.

    Shape: (N, in_channels, H, W) → four maps (N, widths[i], ⌈H / s⌉, ⌈W / s⌉), s = 4, 8, 16, 32.
    Init: convolutions normal √(2 / fan out), biases 0, norms 1 and 0, factors of the branches 0.01.
    Raises: ValueError: lists of other than four entries; widths or depths that are not positive whole numbers.
    """

    multiple = 1

    def __init__(
        self,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = SMALL,
        depths: Sequence[int] = (3, 3, 5, 2),
        ratios: Sequence[float] = (8, 8, 4, 4),
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        check_stages("mscan", widths=widths, depths=depths)
        check_four("mscan", ratios=ratios)
        self.widths = tuple(widths)
        rates = drop_rates(drop_path, depths)
        self.embeds, self.stages, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, (before, width) in enumerate(zip((in_channels, *widths[:-1]), widths, strict=True)):
            self.embeds.append(_halve(before, width) if i else _stem(before, width))
            self.stages.append(nn.Sequential(*(MSCANBlock(width, ratios[i], rate) for rate in rates[i])))
            self.norms.append(ChannelNorm(width))
        start(self)

    def forward(self, x: Map) -> list[Tensor]:
        maps = []
        for embed, stage, norm in zip(self.embeds, self.stages, self.norms, strict=True):
            x = norm(stage(embed(x)))
            maps.append(x)
        return maps


def _halve(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width))


def _stem(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(*_halve(channels, width // 2), nn.GELU(), *_halve(width // 2, width))


def classifier(num_classes: int = 1000, *, in_channels: int = 3, size: str) -> nn.Module:
    """The encoder of a size, the mean over the positions of its deepest map, a linear layer."""
    widths, depths, drop_path = SIZES[size]
    return EncoderClassifier(MSCAN(in_channels, widths=widths, depths=depths, drop_path=drop_path), num_classes)


register_encoder("mscan")(MSCAN)
for _size, (_widths, _depths, _rate) in SIZES.items():
    register_encoder(f"mscan_{_size}")(partial(MSCAN, widths=_widths, depths=_depths, drop_path=_rate))
    register_network(f"mscan_{_size}")(partial(classifier, size=_size))
