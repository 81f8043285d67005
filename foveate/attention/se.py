"""Squeeze-and-Excitation. arXiv:1709.01507."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import _fused
from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import axes, check_dims, check_groups, check_map, hidden_width, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.attention._squeezes import cosine_pool, covariance_pool, lowest_frequencies, pyramid_pool
from foveate.kernels import accumulate_gradient, gate_map, global_pool

EXCITATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
SQUEEZES = ("avg", "max", "avg+max", "std", "avg+std", "gem", "learned", "dct", "cov", "pyramid")
Frequencies = int | Sequence[Sequence[int]]

FACTS = Facts(
    title="Squeeze-and-Excitation Networks",
    authors="Hu, Shen, Albanie, Sun, Wu",
    year=2018,
    source="CVPR 2018, arXiv:1709.01507",
    domain="channel",
    equation="y = x · σ(W₂ ReLU(W₁ squeeze(x) + b₁) + b₂)",
    parameters="(cells + 1)*C*h + biases*(h + C) + (squeeze == 'gem') + (squeeze == 'learned')*C",
    macs="(2 if squeeze in ('avg+max', 'avg+std') else 1)*(cells + 1)*C*h"
    " + {'learned': 2*C*P, 'dct': C*P, 'cov': C*C*P + 10*C**3 + 3*C**2}.get(squeeze, 0)",
    where={
        "h": "C // reduction",
        "biases": "(variant == 'official') if bias is None else bias",
        "grids": "levels or (1, 2, 4)",
        "cells": "sum(map(pow, grids, len(grids)*[d])) if squeeze == 'pyramid' else 1",
    },
    deviations=(
        Deviation(
            "biases of the two layers", "none", "both layers (Caffe release)", "variant decides; bias= overrides"
        ),
        Deviation("smallest hidden width", "not given", "none: C < reduction fails", "an error with a value that fits"),
        Deviation("rounding of the hidden width", "C / r", "C // r (timm rounds to a multiple of 8)", "C // r"),
        Deviation(
            "place in a residual block",
            "standard; pre, post and identity in the ablation",
            "standard: the end of the branch, before the add",
            "insert: the end of the branch; placement= of foveate's residual blocks and resnet8 … has all four",
        ),
        Deviation(
            "squeeze 'dct' (FcaNet)",
            "sums over positions; the frequencies chosen by their accuracy, or the lowest",
            "orthonormal bases of one size for each stage, to which other maps are averaged",
            "means over positions, bases of the map's own size; the lowest, or those listed",
        ),
        Deviation(
            "squeeze 'pyramid' (SPANet)",
            "grids of 1, 2 and 4 cells an axis",
            "—",
            "levels=; a cell's channels side by side",
        ),
    ),
    relu_units=lambda channels, options: channels // options["reduction"],
)


def _checked_frequencies(given: Frequencies, channels: int, spatial_dims: int) -> list[tuple[int, ...]]:
    if isinstance(given, int):
        check_groups("se", channels, given, option="frequencies")
        return lowest_frequencies(given, spatial_dims)
    lists = given if isinstance(given, Sequence) else ()
    chosen = [tuple(one) if isinstance(one, Sequence) else (one,) for one in lists]
    if not chosen or any(len(one) != spatial_dims or any(type(n) is not int or n < 0 for n in one) for one in chosen):
        raise ValueError(
            f"se: frequencies must be a number or lists of {spatial_dims} indices of at least 0; got {given!r}"
        )
    check_groups("se", channels, len(chosen), option="frequencies")
    return chosen


def _checked_levels(levels: Sequence[int]) -> tuple[int, ...]:
    if not levels or any(type(level) is not int or level < 1 for level in levels):
        raise ValueError(f"se: levels must be numbers of cells of at least 1; got {levels!r}")
    return tuple(levels)


@register_attention("se", FACTS)
class SqueezeExcitation(nn.Module):
    """Gate each channel by a two-layer network over the squeezed map.

        y = x · σ(W₂ ReLU(W₁ squeeze(x) + b₁) + b₂),  W₁: C → C // reduction

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        reduction: r, at most `channels`.
        squeeze: "avg" is the paper's. "max"; "avg+max" (the sum of the network's outputs for both, as in CBAM); "std"
            (standard deviation, biased); "avg+std" (as "avg+max"); "gem" (generalised mean with a learned exponent,
            starting at 3); "learned" (softmax-weighted mean with weights from a learned 1×1 map, starting as the mean);
            "dct" (a cosine frequency for each part of the channels, FcaNet's); "cov" (mean of each row of the root of
            the channels' covariance, SOCA's); "pyramid" (the means of 1, 2ᵈ and 4ᵈ cells side by side, SPANet's: W₁
            is as many times wider).
        frequencies: of "dct": how many of the lowest, which must divide `channels`, or their indices, one an axis,
            such as ((0, 0), (0, 1)). None: 16.
        levels: of "pyramid": cells an axis of each grid. None: (1, 2, 4).
        variant: "official" (default: biases, as released) or "paper" (no biases).
        bias: of the layers; None: as `variant`.
        hard: gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in training with noise); the
            gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many channels stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.
        excitation: what makes the gate of the second layer's output: "sigmoid" is the paper's; "tanh" and "relu" are
            those of its ablation, without hard gates.

    Its place in a block is an option of the network: `create_network("resnet8", attention="se", placement="pre")`
    takes the paper's "standard", "pre", "post" and "identity".

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x.
    Cost: 2·C·h weights (h = C // reduction) and as many multiply-adds a sample; one read for the squeeze, one read and
        one write for the gate. "cov" takes C²·P + 10·C³ more and keeps the C×C matrices of its five
        steps in training.
    Init: torch's Linear default, as in the PyTorch releases (the Caffe files have none).
    Raises: ValueError: channels < reduction, an unknown squeeze, excitation or variant, frequencies that do not divide
        the channels, an option of another squeeze, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        reduction: int = 16,
        squeeze: str = "avg",
        frequencies: Frequencies | None = None,
        levels: Sequence[int] | None = None,
        variant: str = "official",
        bias: bool | None = None,
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
        excitation: str = "sigmoid",
    ) -> None:
        super().__init__()
        check_dims("se", spatial_dims)
        one_of("se", "squeeze", squeeze, SQUEEZES)
        one_of("se", "variant", variant, ("official", "paper"))
        one_of("se", "excitation", excitation, tuple(EXCITATIONS))
        self.excitation = excitation
        bias = variant == "official" if bias is None else bias
        self.spatial_dims, self.squeeze = spatial_dims, squeeze
        self.switch = Switch("se", hard, keep, temperature, among=channels)
        if hard is not None and excitation != "sigmoid":
            raise ValueError(f"se: hard goes with excitation='sigmoid'; got excitation={excitation!r}")
        for option, given, of in (("frequencies", frequencies, "dct"), ("levels", levels, "pyramid")):
            if given is not None and squeeze != of:
                raise ValueError(f"se: {option} belongs to squeeze={of!r}; got squeeze={squeeze!r}")
        width, cells = hidden_width("se", channels, reduction), 1
        if squeeze == "dct":
            self.frequencies = _checked_frequencies(16 if frequencies is None else frequencies, channels, spatial_dims)
        if squeeze == "pyramid":
            self.levels = _checked_levels((1, 2, 4) if levels is None else levels)
            cells = sum(level**spatial_dims for level in self.levels)
        self.reduce = nn.Linear(cells * channels, width, bias=bias)
        self.expand = nn.Linear(width, channels, bias=bias)
        if squeeze == "gem":
            self.exponent = nn.Parameter(torch.tensor(3.0))
        if squeeze == "learned":
            self.weigh = nn.Parameter(torch.zeros(channels))

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.expand.out_features

    def _excite(self, squeezed: Tensor) -> Tensor:
        return self.expand(torch.relu(self.reduce(squeezed)))

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("se", x, self.channels, self.spatial_dims, self.reduce.weight)
        paper = (self.squeeze, self.excitation, self.switch.hard) == ("avg", "sigmoid", None)
        if paper and (y := _fused.squeeze_excite(self, x, self.reduce, self.expand)) is not None:
            return y
        over, accumulated = axes(x), accumulate_gradient(x)
        match self.squeeze:
            case "avg":
                logits = self._excite(*global_pool(accumulated, ("mean",)))
            case "max":
                logits = self._excite(x.amax(over))
            case "avg+max":
                logits = self._excite(*global_pool(accumulated, ("mean",))) + self._excite(x.amax(over))
            case "std":
                (variance,) = global_pool(accumulated, ("variance",))
                logits = self._excite((variance + 1e-5).sqrt())
            case "avg+std":
                mean, variance = global_pool(accumulated, ("mean", "variance"))
                logits = self._excite(mean) + self._excite((variance + 1e-5).sqrt())
            case "gem":
                powered = x.clamp(min=1e-6).pow(self.exponent).mean(over)
                logits = self._excite(powered.pow(1 / self.exponent))
            case "learned":
                flat = x.flatten(2)
                where = torch.softmax(torch.einsum("ncp,c->np", flat, self.weigh), -1)
                logits = self._excite(torch.einsum("ncp,np->nc", flat, where))
            case "dct":
                logits = self._excite(cosine_pool(x, self.frequencies))
            case "cov":
                logits = self._excite(covariance_pool(x))
            case "pyramid":
                logits = self._excite(pyramid_pool(x, self.levels))
        gate = self.switch.gate(logits) if self.excitation == "sigmoid" else EXCITATIONS[self.excitation](logits)
        record(self, channel=gate)
        return gate_map(accumulated, channel=gate)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, squeeze={self.squeeze!r}"
