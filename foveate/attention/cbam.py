"""Convolutional Block Attention Module. arXiv:1807.06521."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import _fused
from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import (
    axes,
    batch_norm,
    check_dims,
    check_map,
    conv,
    hidden_width,
    odd_kernel,
    one_of,
    spread,
)
from foveate.attention._registry import LEAST_UNITS, Deviation, Facts, register_attention
from foveate.kernels import (
    AccumulatedMap,
    accumulate_gradient,
    channel_pool,
    gate_map,
    global_pool,
)

POOLS = ("avg", "max", "lp", "lse")
ORDERS = ("channel-spatial", "spatial-channel", "parallel")
DESCRIPTORS = ("pools", "conv", "bottleneck")

FACTS = Facts(
    title="CBAM: Convolutional Block Attention Module",
    authors="Woo, Park, Lee, Kweon",
    year=2018,
    source="ECCV 2018, arXiv:1807.06521",
    domain="mixed",
    equation="x' = x · σ(Σ_p MLP(pool_p(x)));  y = x' · σ(BN(conv_k([max_c x'; mean_c x'])))",
    parameters="channel*(2*C*h + biases*(h + C)) + spatial*mask",
    macs="channel*len(pools)*2*C*h + spatial*mask_macs",
    where={
        "h": "C // reduction",
        "biases": "variant == 'official'",
        "norm": "2*(variant == 'official')",
        "mask": "{'pools': 2*kernel_size**d + norm, 'conv': C + kernel_size**d + norm,"
        " 'bottleneck': C*h + 2*h + h*h*kernel_size**d + 2*h + h + 1}[descriptor]",
        "mask_macs": "{'pools': 2*kernel_size**d, 'conv': C + kernel_size**d,"
        " 'bottleneck': C*h + h*h*kernel_size**d + h}[descriptor]*P",
    },
    deviations=(
        Deviation("biases of the channel network", "none (Eq. 2)", "both layers", "variant decides"),
        Deviation(
            "batch norm in the spatial gate", "none (Eq. 3)", "after the convolution, momentum 0.01", "variant decides"
        ),
        Deviation("order of the pooled maps", "[avg; max]", "[max; mean]", "variant decides"),
        Deviation("first weight of the spatial norm", "—", "0 in the whole ResNet, 1 in a lone CBAM", "1"),
        Deviation("k = 3, other orders, 1×1-conv descriptor", "ablations", "not released", "options"),
        Deviation("bottleneck descriptor", "—", "—", "practitioners' 1×1, k×k, 1×1 with batch norms (after BAM)"),
    ),
    relu_units=lambda channels, options: channels // options["reduction"] if options["channel"] else LEAST_UNITS,
)


class ChannelGate(nn.Module):
    """Logits (N, C): the sum of one two-layer network's outputs for every pooled map."""

    def __init__(self, channels: int, reduction: int, pools: Sequence[str], bias: bool) -> None:
        super().__init__()
        self.pools = tuple(pools)
        width = hidden_width("cbam", channels, reduction)
        self.reduce = nn.Linear(channels, width, bias=bias)
        self.expand = nn.Linear(width, channels, bias=bias)

    def forward(self, x: Tensor | AccumulatedMap) -> Tensor:
        accumulated = accumulate_gradient(x)
        over = axes(accumulated.tensor)
        kinds = [kind for pool, kind in (("avg", "mean"), ("max", "max")) if pool in self.pools]
        fused = dict(zip(kinds, global_pool(accumulated, kinds), strict=True)) if kinds else {}
        logits = None
        for pool in self.pools:
            match pool:
                case "avg":
                    pooled = fused["mean"]
                case "max":  # of equal values the first takes the gradient, as in the released code
                    pooled = fused["max"]
                case "lp":
                    pooled = torch.linalg.vector_norm(accumulated.tensor, 2, over)
                case "lse":
                    pooled = accumulated.tensor.logsumexp(over)
            output = self.expand(torch.relu(self.reduce(pooled)))
            logits = output if logits is None else logits + output
        assert logits is not None
        return logits


class SpatialGate(nn.Module):
    """Logits (N, 1, *S): a convolution over maps computed from the channels of each position."""

    def __init__(self, channels: int, spatial_dims: int, kernel_size: int, descriptor: str, official: bool, width: int):
        super().__init__()
        self.descriptor, self.max_first = descriptor, official
        convolution, norm = conv(spatial_dims), batch_norm(spatial_dims)
        padding = kernel_size // 2
        if descriptor == "bottleneck":
            self.conv: nn.Module = nn.Sequential(
                convolution(channels, width, 1, bias=False),
                norm(width),
                nn.ReLU(inplace=True),
                convolution(width, width, kernel_size, padding=padding, bias=False),
                norm(width),
                nn.ReLU(inplace=True),
                convolution(width, 1, 1),
            )
            self.norm: nn.Module = nn.Identity()
            return
        if descriptor == "conv":
            self.describe = convolution(channels, 1, 1, bias=False)
        self.conv = convolution(2 if descriptor == "pools" else 1, 1, kernel_size, padding=padding, bias=False)
        self.norm = norm(1, momentum=0.01) if official else nn.Identity()

    @property
    def channels(self) -> int | None:
        """C of the maps, read from the weights; None: any, as the pools need none."""
        if self.descriptor == "pools":
            return None
        first = self.describe if self.descriptor == "conv" else self.conv
        return next(first.parameters()).shape[1]

    def forward(self, x: Tensor | AccumulatedMap, channel: Tensor | None = None) -> Tensor:
        """The logits of x, or of x · channel with channel (N, C)."""
        accumulated = accumulate_gradient(x)
        if self.descriptor == "pools":
            pooled = channel_pool(accumulated, channel)
            described = torch.stack(pooled if self.max_first else pooled[::-1], 1)
        else:
            described = accumulated.tensor if channel is None else gate_map(accumulated, channel=channel)
            if self.descriptor == "conv":
                described = self.describe(described)
        return self.norm(_fused.one_map_conv(self.conv, described))


@register_attention("cbam", FACTS)
class ConvolutionalBlockAttention(nn.Module):
    """Gate the channels by the pooled map, then the positions by their pooled channels.

        x' = x · σ(Σ_p W₂ ReLU(W₁ pool_p(x) + b₁) + b₂)
        y  = x' · σ(BN(conv_k([max_c x'; mean_c x'])))

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3; also of the convolution.
        reduction: r of the channel network, at most `channels`.
        pools: of the channel gate, any of "avg", "max", "lp" (√Σx²), "lse" (log Σ eˣ).
        kernel_size: k of the spatial gate, odd; 7 and 3 are the paper's.
        order: "channel-spatial" (the paper's), "spatial-channel", or "parallel": both from x, their logits added.
        channel, spatial: False leaves that gate out.
        descriptor: input of the spatial gate's convolution: "pools" (the paper's), "conv" (a learned 1×1 map, its
            ablation), or "bottleneck" (1×1 to C // r, k×k, 1×1 with batch norms; practitioners use k = 3).
        variant: "official" (default: biases, batch norm, [max; mean]) or "paper" (none of them, [avg; max]).
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many channels and positions stay on, a share between 0 and 1. None: half. In the order
            "parallel" the joint gate is switched.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Gates: channel (N, C), spatial (N, *S).
    Cost: 2·C·h weights (h = C // r) and 2·kᵈ; three reads of the map and one write.
    Init: torch's defaults; the official whole network starts the spatial norm's weight at 0, a lone CBAM at 1, as here.
    Raises: ValueError: channels < reduction, an even kernel, unknown values, both gates off, a map of another rank.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        reduction: int = 16,
        pools: Sequence[str] = ("avg", "max"),
        kernel_size: int = 7,
        order: str = "channel-spatial",
        channel: bool = True,
        spatial: bool = True,
        descriptor: str = "pools",
        variant: str = "official",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("cbam", spatial_dims)
        pools = (pools,) if isinstance(pools, str) else tuple(pools)
        for pool in pools:
            one_of("cbam", "each of pools", pool, POOLS)
        one_of("cbam", "order", order, ORDERS)
        one_of("cbam", "descriptor", descriptor, DESCRIPTORS)
        one_of("cbam", "variant", variant, ("official", "paper"))
        if not (channel or spatial):
            raise ValueError("cbam: channel=False and spatial=False leave nothing; keep one of the gates")
        if not pools:
            raise ValueError(f"cbam: pools must name at least one of {', '.join(map(repr, POOLS))}; got none")
        if order == "parallel" and not (channel and spatial):
            raise ValueError("cbam: order='parallel' needs both gates")
        self.spatial_dims, self.order = spatial_dims, order
        self.switch = Switch("cbam", hard, keep, temperature, among=channels, shares=spatial)
        official = variant == "official"
        self.channel_gate = ChannelGate(channels, reduction, pools, official) if channel else None
        size = odd_kernel("cbam", kernel_size)
        width = hidden_width("cbam", channels, reduction) if descriptor == "bottleneck" else 0
        self.spatial_gate = SpatialGate(channels, spatial_dims, size, descriptor, official, width) if spatial else None

    @property
    def channels(self) -> int | None:
        """C of the maps, read from the weights; None: any, as the spatial gate pools them."""
        if self.channel_gate is not None:
            return self.channel_gate.reduce.in_features
        assert self.spatial_gate is not None
        return self.spatial_gate.channels

    def _gates(self, x: AccumulatedMap, channel: bool, spatial: bool) -> Tensor:
        """x · channel gate · spatial gate of the channel-gated map, with those of the two gates that are on."""
        by_channel = by_position = None
        if channel and self.channel_gate is not None:
            by_channel = self.switch.gate(self.channel_gate(x))
            record(self, channel=by_channel)
        if spatial and self.spatial_gate is not None:
            by_position = self.switch.gate(self.spatial_gate(x, by_channel)).squeeze(1)
            record(self, spatial=by_position)
        return gate_map(x, channel=by_channel, position=by_position)

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("cbam", x, self.channels, self.spatial_dims, next(self.parameters()))
        if (y := _fused.cbam(self, x)) is not None:
            return y
        accumulated = accumulate_gradient(x)
        if self.order == "channel-spatial":
            return self._gates(accumulated, True, True)
        if self.order == "spatial-channel":
            return self._gates(accumulate_gradient(self._gates(accumulated, False, True)), True, False)
        assert self.channel_gate is not None
        assert self.spatial_gate is not None
        channel, spatial = self.channel_gate(accumulated), self.spatial_gate(accumulated)
        gate = self.switch.gate(spread(channel, x) + spatial)
        record(self, channel=torch.sigmoid(channel), spatial=torch.sigmoid(spatial).squeeze(1))
        return x * gate

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, order={self.order!r}"
