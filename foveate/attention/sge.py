"""Spatial Group-wise Enhance. arXiv:1905.09646."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import capturing, record
from foveate.attention._hard import Switch
from foveate.attention._maps import check_dims, check_groups, check_map, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels.gates.sge_gate import gates, logits, sge_gate

FACTS = Facts(
    title="Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks",
    authors="Li, Hu, Yang",
    year=2019,
    source="arXiv:1905.09646",
    domain="spatial",
    equation="per group: t = Σ_c x_c · mean(x_c);  y = x · σ(w · (t − mean t)/(std t + ε) + b)",
    parameters="2*groups",
    macs="0",
    deviations=(
        Deviation("standard deviation", "biased (1/m)", "unbiased (1/(m − 1))", "variant decides"),
        Deviation("ε = 1e-5", "outside the root", "outside the root", "outside the root"),
        Deviation("map of one position", "gate σ(b)", "NaN (0/0)", "gate σ(b), the limit, in both variants"),
    ),
)


@register_attention("sge", FACTS)
class SpatialGroupEnhance(nn.Module):
    """Within each group of channels, gate the positions by their similarity to the group's mean.

        t = Σ_c x_c · mean(x_c)                     for each group and position
        y = x · σ(w · (t − mean(t)) / (std(t) + 1e-5) + b)

    Args:
        channels: C of the map, a multiple of `groups`.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        groups: G groups of neighbouring channels; the paper's and the code's 64.
        variant: "official" (default: the standard deviation divides by positions − 1) or "paper" (by positions).
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many of the positions of all groups stay on, a whole number or a share between 0 and 1.
            None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Captured: the gates of the groups, group (N, G, *S), and their mean,
        spatial (N, *S).
    Cost: 2·G parameters, no multiply-adds in matrix products; one read of the map and one write.
    Init: w = 0, b = 1, so that every gate starts at σ(1) = 0.731.
    Raises: ValueError: channels that do not split into the groups, an unknown variant, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        groups: int = 64,
        variant: str = "official",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("sge", spatial_dims)
        check_groups("sge", channels, groups)
        one_of("sge", "variant", variant, ("official", "paper"))
        self.spatial_dims = spatial_dims
        self.unbiased = variant == "official"
        self.switch = Switch("sge", hard, keep, temperature)
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.ones(groups))

    @property
    def groups(self) -> int:
        """G, read from the weights."""
        return self.weight.shape[0]

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("sge", x, None, self.spatial_dims, self.weight)
        if x.shape[1] % self.groups:
            raise ValueError(f"sge: wanted channels in a multiple of the {self.groups} groups; got {x.shape[1]}")
        if self.switch.hard is not None:
            gate = self.switch.gate(logits(x, self.weight, self.bias, self.unbiased)).to(x.dtype)
            maps = gate.unflatten(2, x.shape[2:])
            record(self, spatial=maps.mean(1), group=maps)
            return (x.unflatten(1, (self.groups, -1)) * maps.unsqueeze(2)).flatten(1, 2)
        if capturing():
            maps = gates(x, self.weight, self.bias, self.unbiased).unflatten(2, x.shape[2:])
            record(self, spatial=maps.mean(1), group=maps)
        return sge_gate(x, self.weight, self.bias, unbiased=self.unbiased)

    def extra_repr(self) -> str:
        return f"spatial_dims={self.spatial_dims}, groups={self.groups}, unbiased={self.unbiased}"
