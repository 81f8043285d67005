"""Efficient Channel Attention. arXiv:1910.03151."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import check_dims, check_map, odd_kernel, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import accumulate_gradient, convolve_channels, gate_map, global_pool
from foveate.kernels.fused.convolve_channels import neighbour_sums

FACTS = Facts(
    title="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    authors="Wang, Wu, Zhu, Li, Zuo, Hu",
    year=2020,
    source="CVPR 2020, arXiv:1910.03151",
    domain="channel",
    equation="y = x · σ(conv1d_k(mean(x)))",
    parameters="k if shared else C*k",
    macs="C*k",
    where={
        "t": "int(abs((log2(C) + 1) / 2))",
        "k": "kernel_size or (t + 1 - t % 2 if variant == 'paper' else 3)",
    },
    deviations=(
        Deviation(
            "kernel size", "k = |(log₂C + 1)/2|, to odd", "3 unless given", "variant decides; kernel_size= overrides"
        ),
        Deviation("reading of 'nearest odd'", "not given", "floor, even raised by one (stated outside the code)", "so"),
        Deviation("unshared kernels", "ECA-NS in the ablation", "eca_ns", "shared=False"),
    ),
)


def paper_kernel_size(channels: int, gamma: float = 2.0, b: float = 1.0) -> int:
    """The paper's ψ(C): |log₂(C)/γ + b/γ|, floored, an even result raised by one."""
    size = int(abs((math.log2(channels) + b) / gamma))
    return size if size % 2 else size + 1


@register_attention("eca", FACTS)
class EfficientChannelAttention(nn.Module):
    """Gate each channel by a 1-D convolution over the means of its k nearest channels.

        y = x · σ(conv1d(mean(x)))

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        kernel_size: k, an odd number of channels. None: as `variant`.
        variant: "official" (default: k = 3, the released layer's) or "paper" (k = ψ(C): 5 at 128 … 1280 channels).
            The released checkpoints follow neither: their k is part of their names (such as k3557).
        shared: one kernel for all channels; False gives each channel its own (ECA-NS).
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many channels stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x.
    Cost: k parameters and C·k multiply-adds a sample; one read for the mean, one read and one write for the gate.
    Init: torch's Conv1d default, U(-1/√k, 1/√k).
    Raises: ValueError: an even kernel, an unknown variant, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        kernel_size: int | None = None,
        variant: str = "official",
        shared: bool = True,
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("eca", spatial_dims)
        one_of("eca", "variant", variant, ("official", "paper"))
        if kernel_size is None:
            kernel_size = paper_kernel_size(channels) if variant == "paper" else 3
        size = odd_kernel("eca", kernel_size)
        self.spatial_dims, self.kernel_size, self.shared = spatial_dims, size, shared
        self.switch = Switch("eca", hard, keep, temperature, among=channels)
        bound = 1 / math.sqrt(size)
        self.weight = nn.Parameter(torch.empty(1 if shared else channels, 1, size).uniform_(-bound, bound))

    @property
    def channels(self) -> int | None:
        """C of the maps where each channel has a kernel; None: any, as one kernel serves all."""
        return None if self.shared else self.weight.shape[0]

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("eca", x, self.channels, self.spatial_dims, self.weight)
        if self.switch.hard is None:
            y, gate = convolve_channels(x, self.weight)
            record(self, channel=gate)
            return y
        accumulated = accumulate_gradient(x)
        gate = self.switch.gate(neighbour_sums(global_pool(accumulated, ("mean",))[0], self.weight))
        record(self, channel=gate)
        return gate_map(accumulated, channel=gate)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, spatial_dims={self.spatial_dims}, kernel_size={self.kernel_size}, shared={self.shared}"
        )
