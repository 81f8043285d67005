"""Effective squeeze-and-excitation, of VoVNetV2 in CenterMask. arXiv:1911.06667."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import check_dims, check_map, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import accumulate_gradient, gate_map, global_pool

FACTS = Facts(
    title="CenterMask: Real-Time Anchor-Free Instance Segmentation",
    authors="Lee, Park",
    year=2020,
    source="CVPR 2020, arXiv:1911.06667",
    domain="channel",
    equation="y = x · hσ(W mean(x) + b), hσ(z) = min(max(z + 3, 0), 6) / 6",
    parameters="C*C + C",
    macs="C*C",
    deviations=(
        Deviation("gate", "sigmoid", "hard sigmoid", "variant decides"),
        Deviation("reduction argument", "none", "accepted and never used", "none; official.load takes and drops it"),
    ),
)


@register_attention("ese", FACTS)
class EffectiveSqueezeExcitation(nn.Module):
    """Gate each channel by one linear layer over the means, without reduction.

        y = x · hσ(W mean(x) + b),  W: C → C,  hσ(z) = min(max(z + 3, 0), 6) / 6

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        variant: "official" (default: hard sigmoid, as released) or "paper" (sigmoid).
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many channels stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Gate: channel (N, C).
    Cost: C² weights and as many multiply-adds a sample; one read for the means, one read and one write for the gate.
    Init: torch's Linear default.
    Raises: ValueError: an unknown variant, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        variant: str = "official",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("ese", spatial_dims)
        one_of("ese", "variant", variant, ("official", "paper"))
        self.spatial_dims, self.soft = spatial_dims, F.hardsigmoid if variant == "official" else torch.sigmoid
        self.switch = Switch("ese", hard, keep, temperature, among=channels)
        self.fc = nn.Linear(channels, channels)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.fc.in_features

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("ese", x, self.channels, self.spatial_dims, self.fc.weight)
        accumulated = accumulate_gradient(x)
        logits = self.fc(*global_pool(accumulated, ("mean",)))
        gate = self.switch.gate(logits, self.soft)
        record(self, channel=gate)
        return gate_map(accumulated, channel=gate)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, soft={self.soft.__name__}"
