"""Squeeze-and-excitation for segmentation: by channel, by position, and both at once. arXiv:1803.02579."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import _fused
from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import check_dims, check_map, conv, hidden_width, one_of, spread
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import AccumulatedMap, accumulate_gradient, gate_map, global_pool

COMBINES = ("max", "sum")
_REDUCTION = Deviation("reduction", "2", "2 (ai-med, the authors'), 16 (segmentation_models.pytorch)", "2")
_BIASES = Deviation("biases", "not written", "everywhere", "as released; bias=False leaves them out")

CHANNEL = Facts(
    title="Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks",
    authors="Roy, Navab, Wachinger",
    year=2018,
    source="MICCAI 2018, arXiv:1803.02579",
    domain="channel",
    equation="y = x · σ(W₂ ReLU(W₁ mean(x) + b₁) + b₂)",
    parameters="2*C*h + bias*(h + C)",
    macs="2*C*h",
    where={"h": "C // reduction"},
    deviations=(_REDUCTION, _BIASES),
    relu_units=lambda channels, options: channels // options["reduction"],
)
POSITION = replace(
    CHANNEL,
    domain="spatial",
    equation="y = x · σ(w · x + b)",
    parameters="C + bias",
    macs="C*P",
    where={},
    deviations=(_BIASES,),
    relu_units=None,
)
BOTH = replace(
    CHANNEL,
    domain="mixed",
    equation="y = max(cSE(x), sSE(x)), or their sum",
    parameters="2*C*h + C + bias*(h + C + 1)",
    macs="2*C*h + C*P",
    deviations=(
        Deviation(
            "combination of the two",
            "sum",
            "element-wise max (ai-med, the authors'); sum (segmentation_models.pytorch)",
            "variant decides; combine= overrides",
        ),
        _REDUCTION,
        _BIASES,
    ),
)


@register_attention("cse", CHANNEL)
class ChannelSqueezeExcitation(nn.Module):
    """Gate each channel by a two-layer network over the means: squeeze-and-excitation with a mild reduction.

        y = x · σ(W₂ ReLU(W₁ mean(x) + b₁) + b₂),  W₁: C → C // reduction

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        reduction: r, at most `channels`.
        bias: biases of the two layers.
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many channels stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Gate: channel (N, C).
    Cost: 2·C·h weights (h = C // reduction) and as many multiply-adds a sample.
    Init: torch's Linear default.
    Raises: ValueError: channels < reduction, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        reduction: int = 2,
        bias: bool = True,
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("cse", spatial_dims)
        self.switch = Switch("cse", hard, keep, temperature, among=channels)
        self.spatial_dims = spatial_dims
        width = hidden_width("cse", channels, reduction)
        self.reduce = nn.Linear(channels, width, bias=bias)
        self.expand = nn.Linear(width, channels, bias=bias)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.reduce.in_features

    def gate(self, x: AccumulatedMap) -> Tensor:
        """(N, C), between 0 and 1."""
        return self.switch.gate(self.expand(torch.relu(self.reduce(*global_pool(x, ("mean",))))))

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("cse", x, self.channels, self.spatial_dims, self.reduce.weight)
        if self.switch.hard is None and (y := _fused.squeeze_excite(self, x, self.reduce, self.expand)) is not None:
            return y
        accumulated = accumulate_gradient(x)
        gate = self.gate(accumulated)
        record(self, channel=gate)
        return gate_map(accumulated, channel=gate)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}"


@register_attention("sse", POSITION)
class SpatialSqueezeExcitation(nn.Module):
    """Gate each position by one weighted sum of its channels.

        y = x · σ(w · x + b)

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        bias: bias of the 1×1 convolution.
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many positions stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Gate: spatial (N, *S).
    Cost: C weights and C multiply-adds a position.
    Init: torch's convolution default.
    Raises: ValueError: a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        bias: bool = True,
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("sse", spatial_dims)
        self.switch = Switch("sse", hard, keep, temperature)
        self.spatial_dims = spatial_dims
        self.conv = conv(spatial_dims)(channels, 1, 1, bias=bias)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.conv.in_channels

    def gate(self, x: Tensor) -> Tensor:
        """(N, 1, *S), between 0 and 1."""
        return self.switch.gate(self.conv(x))

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("sse", x, self.channels, self.spatial_dims, self.conv.weight)
        gate = self.gate(x)
        record(self, spatial=gate.squeeze(1))
        return gate_map(x, position=gate.squeeze(1))

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}"


@register_attention("scse", BOTH)
class ConcurrentSqueezeExcitation(nn.Module):
    """Gate by channel and by position side by side, and combine the two gated maps.

        y = max(cSE(x), sSE(x)) or cSE(x) + sSE(x)

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        reduction: r of the channel gate, at most `channels`.
        combine: "max" (element-wise) or "sum". None: as `variant`.
        bias: biases of all three layers.
        variant: "official" (default: max, as the authors released) or "paper" (sum).
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many channels and positions stay on, a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Gates: channel (N, C), spatial (N, *S).
    Cost: 2·C·h + C weights (h = C // reduction); 2·C·h multiply-adds a sample and C a position.
    Init: torch's defaults.
    Raises: ValueError: channels < reduction, an unknown combination or variant, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        reduction: int = 2,
        combine: str | None = None,
        bias: bool = True,
        variant: str = "official",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("scse", spatial_dims)
        one_of("scse", "combine", combine, (*COMBINES, None))
        one_of("scse", "variant", variant, ("official", "paper"))
        hidden_width("scse", channels, reduction)
        self.spatial_dims = spatial_dims
        self.combine = combine or ("max" if variant == "official" else "sum")
        self.channel = ChannelSqueezeExcitation(channels, spatial_dims=spatial_dims, reduction=reduction, bias=bias)
        self.spatial = SpatialSqueezeExcitation(channels, spatial_dims=spatial_dims, bias=bias)
        for gate in (self.channel, self.spatial):
            gate.switch = Switch("scse", hard, keep, temperature, shares=True)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.spatial.channels

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("scse", x, self.channels, self.spatial_dims, self.spatial.conv.weight)
        channel, spatial = self.channel.gate(accumulate_gradient(x)), self.spatial.gate(x)
        record(self, channel=channel, spatial=spatial.squeeze(1))
        by_channel, by_position = x * spread(channel, x), x * spatial
        return torch.maximum(by_channel, by_position) if self.combine == "max" else by_channel + by_position

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, combine={self.combine!r}"
