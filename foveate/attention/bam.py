"""Bottleneck Attention Module. arXiv:1807.06514."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import capturing, record
from foveate.attention._maps import axes, batch_norm, check_dims, check_map, conv, hidden_width, one_of, spread
from foveate.attention._registry import Deviation, Facts, register_attention

FACTS = Facts(
    title="BAM: Bottleneck Attention Module",
    authors="Park, Woo, Lee, Kweon",
    year=2018,
    source="BMVC 2018, arXiv:1807.06514",
    domain="mixed",
    equation="y = x · (1 + σ(M_c · M_s));  M_c = MLP(mean(x)), M_s = conv₁ₓ₁(dilated convs(conv₁ₓ₁(x)))",
    parameters="mlp + layers*3*h + final*2*C + C*h + h + 2*h + dilated*(3**d*h*h + 3*h) + h + 1 + final*2",
    macs="mlp_macs + (C*h + dilated*3**d*h*h + h)*P",
    where={
        "h": "C // reduction",
        "final": "variant == 'paper'",
        "mlp_macs": "2*C*h + (layers - 1)*h*h if layers else C*C",
        "mlp": "mlp_macs + C",
    },
    deviations=(
        Deviation("fusion of the two branches", "sum", "product", "variant decides; fusion= overrides"),
        Deviation("batch norm at the end of each branch", "yes", "no", "variant decides"),
        Deviation("batch norm after each hidden layer", "not written", "yes", "yes, in both variants"),
        Deviation(
            "pooling of maps that are not square",
            "global mean",
            "kernel H on both axes: fails for H > W, crops for H < W < 2H",
            "global mean; equal for square maps",
        ),
        Deviation("construction", "—", "NameError (an undefined gate_activation)", "builds"),
        Deviation("place in a network", "after stages 1, 2, 3", "after stages 1, 2, 3", "anywhere"),
    ),
)


class ChannelBranch(nn.Module):
    """Logits of each channel from the map's mean, as a view of the map's shape: C → h (ReLU, batch norm) … → C."""

    def __init__(self, channels: int, reduction: int, layers: int, final_norm: bool) -> None:
        super().__init__()
        width = hidden_width("bam", channels, reduction)
        widths = [channels, *[width] * layers]
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths):
            hidden += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        self.hidden = nn.Sequential(*hidden)
        self.last = nn.Linear(widths[-1], channels)
        self.norm = nn.BatchNorm1d(channels) if final_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.norm(self.last(self.hidden(x.mean(axes(x)))))
        return spread(logits, x).expand_as(x)


class SpatialBranch(nn.Module):
    """Logits of each position, as a view of the map's shape: 1×1 to h, dilated 3×3 convolutions, 1×1 to one map."""

    def __init__(
        self, channels: int, spatial_dims: int, reduction: int, dilated: int, dilation: int, final_norm: bool
    ) -> None:
        super().__init__()
        convolution, norm = conv(spatial_dims), batch_norm(spatial_dims)
        width = hidden_width("bam", channels, reduction)
        hidden = [convolution(channels, width, 1), norm(width), nn.ReLU(inplace=True)]
        for _ in range(dilated):
            wide = convolution(width, width, 3, padding=dilation, dilation=dilation)
            hidden += [wide, norm(width), nn.ReLU(inplace=True)]
        self.hidden = nn.Sequential(*hidden)
        self.last = convolution(width, 1, 1)
        self.norm = norm(1) if final_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.last(self.hidden(x))).expand_as(x)


@register_attention("bam", FACTS)
class BottleneckAttention(nn.Module):
    """Gate by the product of a channel branch and a dilated spatial branch, as x · (1 + gate).

        y = x · (1 + σ(M_c · M_s))       (official)
        y = x · (1 + σ(M_c + M_s))       (paper)

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3; also of the convolutions.
        reduction: r of both branches, at most `channels`.
        layers: hidden layers of the channel branch.
        dilated: number of dilated 3×3 convolutions of the spatial branch.
        dilation: of each of them.
        fusion: "product" or "sum" of the branches' logits. None: as `variant`.
        variant: "official" (default: product, branches end without batch norm) or "paper" (sum, with batch norms).

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Captured: the gate's mean over positions (N, C) and over channels
        (N, *S).
    Cost: about 3·C·h + dilated·3ᵈ·h² weights (h = C // r); three reads of the map and one write.
    Init: torch's defaults; the official whole network starts the spatial branch's convolutions He normal (fan out)
        and all biases at 0.
    Raises: ValueError: channels < reduction, numbers that cannot be, a map of another rank or width; in training a
        batch of one, whose channel branch has one value a channel to normalise (use .eval() or a larger batch).
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        reduction: int = 16,
        layers: int = 1,
        dilated: int = 2,
        dilation: int = 4,
        fusion: str | None = None,
        variant: str = "official",
    ) -> None:
        super().__init__()
        check_dims("bam", spatial_dims)
        one_of("bam", "variant", variant, ("official", "paper"))
        one_of("bam", "fusion", fusion, (None, "sum", "product"))
        for option, value, least in (("layers", layers, 0), ("dilated", dilated, 0), ("dilation", dilation, 1)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"bam: {option} must be a whole number of at least {least}; got {value!r}")
        paper = variant == "paper"
        self.spatial_dims = spatial_dims
        self.fusion = fusion or ("sum" if paper else "product")
        self.channel_branch = ChannelBranch(channels, reduction, layers, paper)
        self.spatial_branch = SpatialBranch(channels, spatial_dims, reduction, dilated, dilation, paper)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.channel_branch.last.out_features

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("bam", x, self.channels, self.spatial_dims, self.channel_branch.last.weight)
        channel, spatial = self.channel_branch(x), self.spatial_branch(x)
        gate = torch.sigmoid(channel + spatial if self.fusion == "sum" else channel * spatial)
        if capturing():
            record(self, channel=gate.mean(axes(x)), spatial=gate.mean(1))
        return x * (1 + gate)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, fusion={self.fusion!r}"
