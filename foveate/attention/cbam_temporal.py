"""CBAM for clips: channels, then positions, then frames. After arXiv:1807.06521 and arXiv:2004.01278; ours."""

from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import check_dims, check_map, odd_kernel, one_of, spread
from foveate.attention._registry import LEAST_UNITS, Deviation, Facts, register_attention
from foveate.attention.cbam import ChannelGate, SpatialGate
from foveate.attention.temporal import TemporalGate, over_frames

FACTS = Facts(
    title="CBAM: Convolutional Block Attention Module",
    authors="Woo, Park, Lee, Kweon",
    year=2018,
    source="ECCV 2018, arXiv:1807.06521; its extension to frames is ours, after arXiv:2004.01278",
    domain="mixed",
    equation="x' = x · σ(Σ_p MLP(pool_p(x)));  x''_t = x'_t · σ(BN(conv_k([max_c x'_t; mean_c x'_t])));"
    "  y_t = x''_t · σ(e_t(x''))",
    parameters="channel*(2*C*h + biases*(h + C)) + spatial*(2*kernel_size**2 + norm)"
    " + temporal*(C*h*temporal_kernel_size + 2*h + 1)",
    macs="channel*4*C*h + spatial*2*kernel_size**2*P + temporal*(C*h*temporal_kernel_size + h)*T",
    where={
        "h": "C // reduction",
        "T": "S[0]",
        "biases": "variant == 'official'",
        "norm": "2*(variant == 'official')",
    },
    deviations=(
        Deviation("frames", "images only", "images only", "a third gate over frames, as in `temporal`; ours"),
        Deviation("channel gate", "pools H and W", "pools H and W", "pools T, H and W: one gate a clip"),
        Deviation("spatial gate", "one mask an image", "one mask an image", "one mask a frame, the same weights"),
        Deviation(
            "order for clips",
            "W3 (2004.01278): channel and spatial gates, each with its own network over time",
            "none released",
            "channel, spatial, temporal, one after another",
        ),
        Deviation(
            "biases, batch norm, order of the pooled maps",
            "none, none, [avg; max]",
            "both layers, after the convolution, [max; mean]",
            "variant decides, as in `cbam`",
        ),
    ),
    relu_units=lambda channels, options: (
        channels // options["reduction"] if options["channel"] or options["temporal"] else LEAST_UNITS
    ),
)


@register_attention("cbam_temporal", FACTS)
class ClipBlockAttention(nn.Module):
    """Gate the channels of a clip, then the positions of each frame, then the frames.

        x'   = x · σ(Σ_p W₂ ReLU(W₁ pool_p(x) + b₁) + b₂),  pools over T, H, W
        x''_t = x'_t · σ(BN(conv_k([max_c x'_t; mean_c x'_t]))),  for each frame
        y_t  = x''_t · σ(e_t(x'')),  e the network of `temporal`

    Args:
        channels: C of the map.
        spatial_dims: 3, axes (T, H, W).
        reduction: r of the channel's and the frames' networks, at most `channels`.
        kernel_size: k of the spatial gate, odd.
        temporal_kernel_size: odd number of frames that enter a frame's score.
        channel, spatial, temporal: False leaves that gate out.
        variant: of CBAM's gates: "official" (default: biases, batch norm, [max; mean]) or "paper" (none, [avg; max]).
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": the share of the channels, of the positions of all frames, and of the frames that stays on.
            None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, T, H, W) → y of the same shape, dtype of x. Captured: channel (N, C), spatial (N, T, H, W),
        temporal (N, T).
    Cost: 2·C·h + 2·k² + C·h·k_t parameters and little more (h = C // r); four reads of the map and three writes.
    Init: torch's defaults.
    Raises: ValueError: spatial_dims other than 3, channels < reduction, an even kernel, an unknown variant, all gates
        off, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 3,
        reduction: int = 16,
        kernel_size: int = 7,
        temporal_kernel_size: int = 3,
        channel: bool = True,
        spatial: bool = True,
        temporal: bool = True,
        variant: str = "official",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        why = (
            "it gates channels, positions and frames of clips (N, C, T, H, W); cbam is for images, temporal for signals"
        )
        check_dims("cbam_temporal", spatial_dims, (3,), why)
        one_of("cbam_temporal", "variant", variant, ("official", "paper"))
        if not (channel or spatial or temporal):
            raise ValueError("cbam_temporal: channel, spatial and temporal are all False; keep one of the gates")
        self.switch = Switch("cbam_temporal", hard, keep, temperature, shares=True)
        official, size = variant == "official", odd_kernel("cbam_temporal", kernel_size)
        self.channel_gate = ChannelGate(channels, reduction, ("avg", "max"), official) if channel else None
        self.spatial_gate = SpatialGate(channels, 2, size, "pools", official, 0) if spatial else None
        self.temporal_gate = (
            TemporalGate("cbam_temporal", channels, reduction, temporal_kernel_size) if temporal else None
        )

    @property
    def channels(self) -> int | None:
        """C of the maps, read from the weights; None: any, as the spatial gate pools them."""
        if self.channel_gate is not None:
            return self.channel_gate.reduce.in_features
        return None if self.temporal_gate is None else self.temporal_gate.reduce.in_channels

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        check_map("cbam_temporal", x, self.channels, 3, next(self.parameters()))
        if self.channel_gate is not None:
            channel = self.switch.gate(self.channel_gate(x))
            record(self, channel=channel)
            x = x * spread(channel, x)
        if self.spatial_gate is not None:
            frames = x.transpose(1, 2).flatten(0, 1)
            spatial = self.switch.gate(self.spatial_gate(frames).reshape(x.shape[0], 1, *x.shape[2:]))
            record(self, spatial=spatial.squeeze(1))
            x = x * spatial
        if self.temporal_gate is not None:
            temporal = self.switch.gate(self.temporal_gate(x))
            record(self, temporal=temporal)
            x = x * over_frames(temporal, x)
        return x

    def extra_repr(self) -> str:
        return f"{self.channels}"
