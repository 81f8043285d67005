"""Temporal attention: weights for the frames of a clip. After arXiv:1502.08029; the definition is ours."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import axes, check_dims, check_map, hidden_width, odd_kernel, one_of
from foveate.attention._registry import Deviation, Facts, register_attention

MODES = ("gate", "softmax", "pool")

FACTS = Facts(
    title="Describing Videos by Exploiting Temporal Structure",
    authors="Yao, Torabi, Cho, Ballas, Pal, Larochelle, Courville",
    year=2015,
    source="ICCV 2015, arXiv:1502.08029 (the closest paper; the definition is ours)",
    domain="temporal",
    equation="e = conv₁(ReLU(conv_k(mean_{h,w} x)));  gate: y_t = x_t · σ(e_t);  softmax: y_t = x_t · T · softmax(e)_t",
    parameters="C*h*kernel_size + h + h + 1",
    macs="(C*h*kernel_size + h)*T",
    where={"h": "C // reduction", "T": "S[0]"},
    deviations=(
        Deviation("released code", "none that is standard", "none", "this definition, which is ours"),
        Deviation(
            "scores",
            "two-layer network of the frame's features and the caption decoder's state",
            "—",
            "two-layer network of the frame's means, over k neighbouring frames; no decoder",
        ),
        Deviation(
            "softmax pooling",
            "Σ_t a_t x_t, a = softmax(e)",
            "—",
            "mode='pool' is that sum (one frame); mode='softmax' keeps the frames as T·a_t·x_t, whose mean is that sum",
        ),
        Deviation("gating", "—", "—", "mode='gate' (default): σ for each frame, as SE does for channels"),
    ),
    relu_units=lambda channels, options: channels // options["reduction"],
)


class TemporalGate(nn.Module):
    """Logits (N, T) of the frames of (N, C, T, *S): a network over the means of each frame and its neighbours."""

    def __init__(self, name: str, channels: int, reduction: int, kernel_size: int) -> None:
        super().__init__()
        width = hidden_width(name, channels, reduction)
        size = odd_kernel(name, kernel_size)
        self.reduce = nn.Conv1d(channels, width, size, padding=size // 2)
        self.expand = nn.Conv1d(width, 1, 1)

    def forward(self, x: Float[Tensor, "n c t *s"]) -> Float[Tensor, "n t"]:
        frames = x.mean(axes(x)[1:]) if x.dim() > 3 else x
        return self.expand(torch.relu(self.reduce(frames))).squeeze(1)


def over_frames(weights: Float[Tensor, "n t"], x: Tensor) -> Tensor:
    """(N, T) → (N, 1, T, 1, …), to be broadcast over x (N, C, T, *S)."""
    return weights.reshape(weights.shape[0], 1, weights.shape[1], *(1,) * (x.dim() - 3))


@register_attention("temporal", FACTS)
class TemporalAttention(nn.Module):
    """Weigh the frames of a clip (or the steps of a sequence) by a network over their channel means.

        e = conv₁(ReLU(conv_k(mean over the frame of x)))
        gate: y_t = x_t · σ(e_t)    softmax: y_t = x_t · T · softmax(e)_t    pool: y = Σ_t x_t · softmax(e)_t

    Args:
        channels: C of the map.
        spatial_dims: 3 for clips, axes (T, H, W); 1 for sequences, axis T. An image has no frames.
        reduction: r of the network, at most `channels`.
        kernel_size: k, odd number of frames that enter a frame's score; 1: each frame by itself.
        mode: "gate" (each frame by itself, in 0 to 1); "softmax" (the frames compete; the factor T keeps a later mean
            over time equal to the pooled sum); "pool" (that sum itself, leaving one frame).
        hard: of "gate", gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with
            noise); the gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many frames stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, T, *S) → y of the same shape; (N, C, 1, *S) for "pool"; dtype of x. Captured: temporal (N, T), the
        σ or the softmax.
    Cost: C·h·k + 2h + 1 parameters (h = C // r), (C·h·k + h)·T multiply-adds a sample; one read for the means, one
        read and one write for the weights.
    Init: torch's Conv1d default.
    Raises: ValueError: spatial_dims=2, channels < reduction, an even kernel, an unknown mode, a map of another rank.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 3,
        reduction: int = 16,
        kernel_size: int = 3,
        mode: str = "gate",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("temporal", spatial_dims, (1, 3), "an image has no time axis; clips are (N, C, T, H, W)")
        one_of("temporal", "mode", mode, MODES)
        self.switch = Switch("temporal", hard, keep, temperature)
        if hard is not None and mode != "gate":
            raise ValueError(f"temporal: hard goes with mode='gate'; got mode={mode!r}")
        self.spatial_dims, self.mode = spatial_dims, mode
        self.gate = TemporalGate("temporal", channels, reduction, kernel_size)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.gate.reduce.in_channels

    def forward(self, x: Float[Tensor, "n c t *s"]) -> Float[Tensor, "n c u *s"]:
        check_map("temporal", x, self.channels, self.spatial_dims, self.gate.reduce.weight)
        logits = self.gate(x)
        weights = self.switch.gate(logits) if self.mode == "gate" else torch.softmax(logits, -1)
        record(self, temporal=weights)
        if self.mode == "pool":
            return (x * over_frames(weights, x)).sum(2, keepdim=True).to(x.dtype)
        factor = weights * x.shape[2] if self.mode == "softmax" else weights
        return x * over_frames(factor, x)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, mode={self.mode!r}"
