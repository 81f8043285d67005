"""Shuffle Attention. arXiv:2102.00240."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import capturing, record
from foveate.attention._hard import Switch
from foveate.attention._maps import check_dims, check_groups, check_map
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels.gates.sa_gate import gate_and_shuffle, gates, logits, sa_gate

FACTS = Facts(
    title="SA-Net: Shuffle Attention for Deep Convolutional Neural Networks",
    authors="Zhang, Yang",
    year=2021,
    source="ICASSP 2021, arXiv:2102.00240",
    domain="mixed",
    equation="per group [u, v]: u · σ(w_c mean(u) + b_c), v · σ(w_s GN(v) + b_s); then shuffle the channels by halves",
    parameters="6*(C // (2*groups))",
    macs="0",
    deviations=(
        Deviation("parameters that ResNet-50 gains", "300 (abstract)", "708", "708: 3·C/groups a module"),
        Deviation("sharing", "—", "one set of parameters for all groups", "as released"),
        Deviation("norm of the spatial half", "group norm", "one group a channel (instance norm)", "as released"),
        Deviation("sa_resnet101()", "—", "returns None", "—"),
    ),
)


@register_attention("sa", FACTS)
class ShuffleAttention(nn.Module):
    """In each group of channels gate one half by its means and the other half by its normalised map; then shuffle.

        u' = u · σ(w_c · mean(u) + b_c)             first half of each group
        v' = v · σ(w_s · (γ · norm(v) + β) + b_s)   second half; norm over the positions of each channel
        y  = [u', v'] of all groups, the two halves of the channels interleaved

    Args:
        channels: C of the map, a multiple of 2·groups.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        groups: G groups of neighbouring channels, which share all parameters; 64 in the paper and the code.
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": the share of the first halves' channels, and of the second halves' positions, that stays on.
            None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Captured, in the order of the input's channels: channel (N, C), each
        channel's gate, averaged over positions for the spatial halves; spatial (N, *S), the spatial gates' mean.
    Cost: 3·C/G parameters, no multiply-adds in matrix products; one read of the map and one write.
    Init: w_c = w_s = 0, b_c = b_s = 1, γ = 1, β = 0: every gate starts at σ(1) = 0.731. The channels are shuffled
        from the start, so a network with trained weights changes by more than a factor.
    Raises: ValueError: channels that are no multiple of 2·groups, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        groups: int = 64,
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("sa", spatial_dims)
        check_groups("sa", channels, groups, parts=2)
        self.spatial_dims, self.groups = spatial_dims, groups
        self.switch = Switch("sa", hard, keep, temperature, shares=True)
        width = channels // (2 * groups)
        self.channel_weight = nn.Parameter(torch.zeros(width, 1))
        self.channel_bias = nn.Parameter(torch.ones(width, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(width, 1))
        self.spatial_bias = nn.Parameter(torch.ones(width, 1))
        self.norm_weight = nn.Parameter(torch.ones(width, 1))
        self.norm_bias = nn.Parameter(torch.zeros(width, 1))

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return 2 * self.groups * self.channel_weight.shape[0]

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("sa", x, self.channels, self.spatial_dims, self.channel_weight)
        scale = torch.cat((self.channel_weight, self.spatial_weight * self.norm_weight)).squeeze(1)
        spatial_shift = self.spatial_weight * self.norm_bias + self.spatial_bias
        shift = torch.cat((self.channel_bias, spatial_shift)).squeeze(1)
        if self.switch.hard is None:
            if capturing():
                self._show(x, *gates(x, scale, shift))
            return sa_gate(x, scale, shift)
        channel, spatial = (self.switch.gate(half).to(x.dtype) for half in logits(x, scale, shift))
        self._show(x, channel, spatial)
        return gate_and_shuffle(x, channel, spatial)

    def _show(self, x: Tensor, channel: Tensor, spatial: Tensor) -> None:
        by_channel = torch.stack((channel.squeeze(-1), spatial.mean(-1)), 2).flatten(1)
        record(self, channel=by_channel, spatial=spatial.mean((1, 2)).unflatten(1, x.shape[2:]))

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, groups={self.groups}"
