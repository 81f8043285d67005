"""What the transformers of maps share: norms of channels, stochastic depth, embeddings that overlap, first weights."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Map = Float[Tensor, "n c h w"]


class ChannelNorm(nn.LayerNorm):
    """Layer norm of the channels at each position of a map. The result is channels-last in memory.

    Shape: (N, C, H, W) → (N, C, H, W).
    """

    def forward(self, x: Map) -> Map:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class DropPath(nn.Module):
    """Stochastic depth: in training a sample goes without x with probability `drop_prob`, others take x / (1 − p).

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, arXiv:1603.09382.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop_prob:
            return x
        kept = x.new_empty(len(x), *(1,) * (x.dim() - 1)).bernoulli_(1 - self.drop_prob)
        return x * kept / (1 - self.drop_prob)

    def extra_repr(self) -> str:
        return f"{self.drop_prob}"


class OverlapEmbedding(nn.Module):
    """A strided convolution whose windows overlap, and a layer norm of its channels.

    Shape: (N, channels, H, W) → (N, width, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, channels: int, width: int, *, size: int, stride: int, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, stride, size // 2)
        self.norm = ChannelNorm(width, eps=eps)

    def forward(self, x: Map) -> Map:
        return self.norm(self.conv(x))


class MixFeedForward(nn.Module):
    """Linear, depthwise 3×3 on the grid of the tokens, GELU, linear. SegFormer, arXiv:2105.15203.

    Shape: x (N, H·W, C), size (H, W) → (N, H·W, C).
    Init: linear layers truncated normal 0.02, convolution normal √(2 / fan out), biases 0.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = nn.Linear(hidden, channels)
        start(self)

    def forward(self, x: Float[Tensor, "n p c"], size: Sequence[int]) -> Float[Tensor, "n p c"]:
        grid = self.expand(x).unflatten(1, tuple(size)).movedim(-1, 1)
        return self.reduce(F.gelu(self.depthwise(grid).flatten(2).mT))


class MapFeedForward(MixFeedForward):
    """The same on a map. Shape: (N, C, H, W) → (N, C, H, W)."""

    def forward(self, x: Map) -> Map:  # type: ignore[override]
        size = x.shape[2:]
        return super().forward(x.flatten(2).mT, size).unflatten(1, size).movedim(-1, 1)


class PreNormBlock(nn.Module):
    """x₁ = x + A(LN(x));  y = x₁ + F(LN(x₁)), A an attention, F a feed-forward network, both on maps.

    Shape: (N, C, H, W) → (N, C, H, W).
    """

    def __init__(self, channels: int, attention: nn.Module, feed: nn.Module, *, drop_path: float, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels, eps=eps), ChannelNorm(channels, eps=eps)
        self.attention, self.feed = attention, feed
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Map) -> Map:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.feed(self.norm2(x)))


def start(network: nn.Module) -> None:
    """First weights: linear layers truncated normal 0.02, convolutions normal √(2 / fan out), biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        elif isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def drop_rates(most: float, depths: Sequence[int]) -> list[list[float]]:
    """For each block of each stage: from 0 at the first to `most` at the last, evenly."""
    rates = iter(torch.linspace(0, most, sum(depths), device="cpu").tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]


def check_heads(name: str, channels: int, heads: int) -> None:
    """Raises: ValueError: heads that do not divide the channels."""
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or channels % heads:
        raise ValueError(f"{name}: heads must divide channels = {channels}; got {heads!r}")


def check_four(name: str, **lists: Sequence[Any]) -> None:
    """Raises: ValueError: a list that has no entry for each of four stages."""
    for option, values in lists.items():
        if len(values) != 4:
            raise ValueError(f"{name}: {option} must have an entry for each of four stages; got {values!r}")


def check_stages(name: str, **lists: Sequence[int]) -> None:
    """Raises: ValueError: a list that has no positive whole number for each of four stages."""
    for option, values in lists.items():
        if len(values) != 4 or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
            raise ValueError(f"{name}: {option} must be four positive whole numbers; got {values!r}")
