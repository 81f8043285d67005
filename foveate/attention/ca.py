"""Coordinate Attention. arXiv:2103.02907."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import _fused
from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import axes, check_dims, check_map
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import AccumulatedMap, accumulate_gradient, gate_strips, pool_strips

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}

FACTS = Facts(
    title="Coordinate Attention for Efficient Mobile Network Design",
    authors="Hou, Zhou, Feng",
    year=2021,
    source="CVPR 2021, arXiv:2103.02907",
    domain="mixed",
    equation="f = hswish(BN(W₁ [mean_w x; mean_h x]));  y = x · σ(W_h f_h) · σ(W_w f_w)",
    parameters="C*m + 3*m + d*(m*C + C)",
    macs="2*C*m*sum(S)",
    where={"m": "max(minimum, C // reduction)"},
    deviations=(
        Deviation("activation", "—", "h-swish; the README says SiLU", "h-swish"),
        Deviation("hidden width", "—", "max(8, C // r)", "max(minimum, C // r)"),
        Deviation("output channels", "—", "an argument that must equal the input's", "the input's"),
        Deviation("number of axes", "2", "2", "one strip an axis: 1 (the map itself), 2 or 3"),
    ),
)


def _strips(accumulated: AccumulatedMap) -> list[Tensor]:
    """The means of the map for each axis, over the other axes, (N, C, side), from one read of the map."""
    sides = accumulated.tensor.shape[2:]
    if len(sides) == 1:
        return [accumulated.tensor]
    rows, columns = pool_strips(accumulated)
    planes = rows.unflatten(2, sides[:-1])
    others = [[other for other in axes(planes) if other != axis] for axis in axes(planes)]
    return [*(planes.mean(over) if over else planes for over in others), columns]


@register_attention("ca", FACTS)
class CoordinateAttention(nn.Module):
    """Gate each channel by one profile along each axis of the map, so that the gate depends on the position.

        strips: for each axis the mean of x over the other axes, (N, C, side)
        f = hswish(BN(W₁ [concatenated strips] + b₁)),  W₁: C → max(minimum, C // r), shared by the axes
        y = x · Π_axis σ(W_axis f_axis + b_axis)

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes: 2 is the paper's; 3 has one strip more, and with 1 the strip is the map.
        reduction: r of the hidden width.
        minimum: least hidden width.
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": the share of each axis's gates (a channel's at a place along it) that stay on. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Captured: the gate of each axis, (N, C, side), under length;
        height, width; or depth, height, width.
    Cost: about 3·C·m weights (2-D, m the hidden width) and 2·C·m multiply-adds a strip position; two reads of the
        map and one write.
    Init: torch's defaults; the official network starts the convolutions at N(0, √(2 / C_out)) and their biases at 0.
    Raises: ValueError: a reduction or minimum below 1, a map of another rank or width; in training a batch of one with
        a single strip position (only with spatial_dims=1).
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        reduction: int = 32,
        minimum: int = 8,
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("ca", spatial_dims)
        for option, value in (("reduction", reduction), ("minimum", minimum)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"ca: {option} must be a positive whole number; got {value!r}")
        self.spatial_dims = spatial_dims
        self.switch = Switch("ca", hard, keep, temperature, shares=True)
        width = max(minimum, channels // reduction)
        self.reduce = nn.Conv1d(channels, width, 1)
        self.norm = nn.BatchNorm1d(width)
        self.gates = nn.ModuleList(nn.Conv1d(width, channels, 1) for _ in range(spatial_dims))

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.reduce.in_channels

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("ca", x, self.channels, self.spatial_dims, self.reduce.weight)
        if self.switch.hard is None and (y := _fused.coordinate_attention(self, x)) is not None:
            return y
        accumulated = accumulate_gradient(x)
        strips = _strips(accumulated)
        hidden = F.hardswish(self.norm(_fused.pointwise_conv(self.reduce, torch.cat(strips, 2))))
        parts = hidden.split([strip.shape[2] for strip in strips], 2)
        gates = []
        for part, gate_of, name in zip(parts, self.gates, AXES[self.spatial_dims], strict=True):
            gates.append(self.switch.gate(_fused.pointwise_conv(gate_of, part)))
            record(self, **{name: gates[-1]})
        if len(gates) == 1:
            return x * gates[0]
        rows = gates[0]
        for gate in gates[1:-1]:
            rows = (rows.unsqueeze(3) * gate.unsqueeze(2)).flatten(2)
        return gate_strips(accumulated, rows, gates[-1])

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, width={self.reduce.out_channels}"
