"""Dual attention: positions attend to positions, channels to channels. arXiv:1809.02983."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._budget import blocks_mib, check_budget, keep_within, pairs_mib, tokens_mib, trains
from foveate.attention._capture import LazyAffinity, record
from foveate.attention._maps import check_dims, check_map, conv, hidden_width, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import attend, attention_weights
from foveate.kernels.pairs._blocks import uncast, wide

POSITION = Facts(
    title="Dual Attention Network for Scene Segmentation",
    authors="Fu, Liu, Tian, Li, Bao, Fang, Lu",
    year=2019,
    source="CVPR 2019, arXiv:1809.02983",
    domain="self",
    equation="y_i = x_i + γ Σ_j softmax_j(q(x_i) · k(x_j)) v(x_j)",
    parameters="2*(C*h + h) + C*C + C + 1",
    macs="2*C*h*P + C*C*P + P*P*(h + C)",
    where={"h": "C // ((8 if variant == 'official' else 1) if reduction is None else reduction)"},
    deviations=(
        Deviation("width of queries and keys", "C", "C // 8", "variant decides; reduction= overrides"),
        Deviation("scale of the logits", "none", "none", "none"),
        Deviation("fewer than 8 channels", "—", "an empty query: fails", "an error with a value that fits"),
    ),
)
CHANNEL = replace(
    POSITION,
    equation="y_c = x_c + γ Σ_d softmax_d(-x_c · x_d) x_d",
    parameters="1",
    macs="2*C*C*P",
    where={},
    deviations=(
        Deviation(
            "sign of the energies",
            "softmax(x_c · x_d): like channels",
            "softmax(max_d(x_c · x_d) - x_c · x_d): unlike channels",
            "variant decides",
        ),
    ),
)


@register_attention("danet_position", POSITION)
class PositionAttention(nn.Module):
    """Add to each position a softmax-weighted mean of a projection of all positions.

        y_i = x_i + γ Σ_j softmax_j(q(x_i) · k(x_j)) v(x_j),  q, k: C → C // reduction, v: C → C

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        reduction: C divided by the width of q and k. None: as `variant`.
        attention_budget_mib: refuse a map for which queries, keys, values, response and the pairs in memory, in
            training with their gradients, take more MiB than this. None: no bound.
        variant: "official" (default: reduction 8) or "paper" (1: q and k keep all channels).

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Affinity rows on demand: (N, queries, P), P positions.
    Cost: C² + 2·C·h weights (h = C // reduction), as many multiply-adds a position, and P² pairs of h + C of them; no
        P×P map is stored, forward or backward. Softmax in float32 or better.
    Init: γ = 0: the identity; convolutions torch's default.
    Raises: ValueError: channels < reduction, an unknown variant, a map of another rank or width, one over the budget.
    """

    starts_as_identity = True

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        reduction: int | None = None,
        attention_budget_mib: float | None = None,
        variant: str = "official",
    ) -> None:
        super().__init__()
        check_dims("danet_position", spatial_dims)
        check_budget("danet_position", attention_budget_mib)
        self.attention_budget_mib = attention_budget_mib
        one_of("danet_position", "variant", variant, ("official", "paper"))
        if reduction is None:
            reduction = 8 if variant == "official" else 1
        width = hidden_width("danet_position", channels, reduction)
        self.spatial_dims = spatial_dims
        layer = conv(spatial_dims)
        self.query = layer(channels, width, 1)
        self.key = layer(channels, width, 1)
        self.value = layer(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.value.in_channels

    def _keep_within_budget(self, x: Tensor) -> None:
        training, width = trains(self, x), self.query.out_channels

        def need(sides: Sequence[int]) -> float:
            positions = math.prod(sides)
            tokens = positions * 2 * (width + self.channels)
            return tokens_mib(len(x), tokens, x, training) + blocks_mib(len(x), positions, positions, x, training)

        keep_within("danet_position", self.attention_budget_mib, x.shape[2:], need, {})

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("danet_position", x, self.channels, self.spatial_dims, self.gamma)
        if self.attention_budget_mib is not None:
            self._keep_within_budget(x)
        queries, keys, values = (layer(x).flatten(2).mT for layer in (self.query, self.key, self.value))
        record(self, affinity=LazyAffinity(x.shape[2:], lambda at: attention_weights(queries[:, at], keys, scale=1.0)))
        mixed = attend(queries, keys, values, scale=1.0).mT.unflatten(2, x.shape[2:])
        return x + (self.gamma * mixed).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}"


@register_attention("danet_channel", CHANNEL)
class ChannelAttention(nn.Module):
    """Add to each channel a softmax-weighted mean of all channels, weighted by their (dis)similarity.

        y_c = x_c + γ Σ_d softmax_d(-x_c · x_d) x_d

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        attention_budget_mib: refuse a map for which the pairs of channels and the response, in training with their
            gradients, would take more MiB than this. None: no bound.
        variant: "official" (default: the sign as above, as released) or "paper" (softmax of +x_c · x_d).

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Affinity rows on demand, by channel: (N, queries, C).
    Cost: 1 parameter, 2·C² multiply-adds a position. The C×C map is stored where it is no larger than the map itself,
        else it is computed in blocks. Products and softmax in float32 or better.
    Init: γ = 0: the identity.
    Raises: ValueError: an unknown variant, a map of another rank or width, one over the budget.
    """

    starts_as_identity = True

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        attention_budget_mib: float | None = None,
        variant: str = "official",
    ) -> None:
        super().__init__()
        check_dims("danet_channel", spatial_dims)
        check_budget("danet_channel", attention_budget_mib)
        self.attention_budget_mib = attention_budget_mib
        one_of("danet_channel", "variant", variant, ("official", "paper"))
        self.spatial_dims = spatial_dims
        self.sign = -1.0 if variant == "official" else 1.0
        self.gamma = nn.Parameter(torch.zeros(1))

    def _weights(self, some: Tensor, flat: Tensor) -> Tensor:
        """The weights of these channels. Their logits are sums over all positions, too long for half precision."""
        with uncast(flat):
            return attention_weights(some.to(wide(flat)), flat.to(wide(flat)), scale=self.sign)

    def _keep_within_budget(self, x: Tensor) -> None:
        training = trains(self, x)

        def need(sides: Sequence[int]) -> float:
            n, c, positions = *x.shape[:2], math.prod(sides)
            if c <= positions:
                return tokens_mib(n, c * positions, x, training) + pairs_mib(n, c, c, x, 2 + 2 * training)
            return tokens_mib(n, 3 * c * positions, x, training) + blocks_mib(n, c, c, x, training)

        keep_within("danet_channel", self.attention_budget_mib, x.shape[2:], need, {})

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("danet_channel", x, None, self.spatial_dims, self.gamma)
        if self.attention_budget_mib is not None:
            self._keep_within_budget(x)
        flat = x.flatten(2)
        record(self, affinity=LazyAffinity((flat.shape[1],), lambda at: self._weights(flat[:, at], flat)))
        if torch.compiler.is_exporting() or flat.shape[1] <= flat.shape[2]:
            mixed = self._weights(flat, flat).to(flat.dtype) @ flat
        else:
            mixed = attend(flat, flat, flat, scale=self.sign)
        return x + (self.gamma * mixed.unflatten(2, x.shape[2:])).to(x.dtype)

    def extra_repr(self) -> str:
        return f"spatial_dims={self.spatial_dims}, sign={self.sign:+.0f}"
