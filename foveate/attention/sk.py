"""Selective Kernel convolution. arXiv:1903.06586."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._maps import (
    batch_norm,
    check_dims,
    check_groups,
    check_map,
    conv,
    odd_kernel,
    one_of,
)
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import accumulate_branch_gradients, mix_branches, pool_branches

FACTS = Facts(
    title="Selective Kernel Networks",
    authors="Li, Wang, Hu, Yang",
    year=2019,
    source="CVPR 2019, arXiv:1903.06586",
    domain="kernel",
    equation="b_m = ReLU(BN(conv_m(x)));  a = softmax_m(W₂ ReLU(BN(W₁ mean(Σ b_m))));  y = Σ_m a_m · b_m",
    parameters="kernels + branches*2*C + (1 + branches)*C*h + 2*h",
    macs="kernels*P + (1 + branches)*C*h",
    where={
        "h": "width or max(C // reduction, minimum if minimum is not None else 32 if form == 'sknet' else 0)",
        "dense": "1 if form == 'light' else 0",
        "kernels": "kernel_size**d*C*(dense*C + (branches - dense)*C//groups)",
    },
    deviations=(
        Deviation("the 5×5 branch", "3×3 with dilation 2", "3×3 with dilation 2", "kernel_size with dilation m + 1"),
        Deviation("biases; norm inside the attention", "none; yes", "none; yes", "none; yes (popular ports differ)"),
        Deviation(
            "lighter form",
            "—",
            "PytorchInsight: dense and grouped 3×3, no dilation, C // 16 with no least width",
            "form='light'",
        ),
        Deviation("d at C = 256 in SKNet-101", "max(C / r, 32) = 32", "16 in its prototxt", "the formula; width=16"),
        Deviation("momentum of the norms", "—", "0.95 of the old (Caffe)", "0.1 of the new, as the golden files"),
    ),
    replaces="convolution 3×3",
)


@register_attention("sk", FACTS)
class SelectiveKernel(nn.Module):
    """A convolution with several kernel sizes, mixed for each channel by attention weights. Replaces a convolution.

        b_m = ReLU(BN(conv_m(x)))                               m = 0 … M − 1
        a   = softmax over m of W₂ ReLU(BN(W₁ mean(Σ_m b_m)))   (M, C), the first C rows of W₂ for branch 0
        y   = Σ_m a_m · b_m

    Args:
        channels: C of the map, a multiple of `groups`.
        spatial_dims: number of spatial axes, 1, 2 or 3; also of the convolutions.
        branches: M, at least 2.
        kernel_size: of every branch, odd; branch m has dilation m + 1.
        groups: of the convolutions.
        reduction: r of the hidden width d = max(C // r, L).
        minimum: L, the least hidden width. None: 32, or none at all with form="light".
        width: overrides d.
        stride: of every branch; with more than 1 the output is smaller than the input.
        form: "sknet" (the paper's and its prototxt's) or "light" (SK-ResNet* of PytorchInsight: branch 0 is dense, the
            others grouped, none dilated).

    Shape: x (N, C, *S) → y (N, C, ⌈S/stride⌉), dtype of x. Captured: branch (N, M, C), sums to 1 over M.
    Cost: M·kᵈ·C²/groups + (1 + M)·C·d weights; in the formulas P counts positions of the output. One read of the map
        and one write a branch, two reads of the branches and one write.
    Init: "sknet": convolutions He normal (fan in), attention layers N(0, 0.01), as the prototxt; "light": all He normal
        (fan out), as its network.
    Raises: ValueError: channels that do not split into the groups, an even kernel, numbers that cannot be, a map of
        another rank or width; in training a batch of one, whose attention has one value a channel to normalise (use
        .eval() or a larger batch).
    """

    replaces = "convolution"

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        branches: int = 2,
        kernel_size: int = 3,
        groups: int = 32,
        reduction: int = 16,
        minimum: int | None = None,
        width: int | None = None,
        stride: int = 1,
        form: str = "sknet",
    ) -> None:
        super().__init__()
        check_dims("sk", spatial_dims)
        check_groups("sk", channels, groups)
        one_of("sk", "form", form, ("sknet", "light"))
        size = odd_kernel("sk", kernel_size)
        for option, value, least in (("branches", branches, 2), ("reduction", reduction, 1), ("stride", stride, 1)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"sk: {option} must be a whole number of at least {least}; got {value!r}")
        for option, given, least in (("minimum", minimum, 0), ("width", width, 1)):
            if given is not None and (not isinstance(given, int) or given < least):
                raise ValueError(f"sk: {option} must be None or a whole number of at least {least}; got {given!r}")
        light = form == "light"
        least_width = minimum if minimum is not None else 0 if light else 32
        hidden = max(channels // reduction, least_width) if width is None else width
        if hidden < 1:
            raise ValueError(
                f"sk: the hidden width max(channels // reduction, minimum) must be at least 1; got 0 from"
                f" channels={channels}, reduction={reduction} (minimum=1 would do)"
            )
        self.spatial_dims, self.form = spatial_dims, form
        self.branches = nn.ModuleList()
        for m in range(branches):
            dilation = 1 if light else m + 1
            kernel = conv(spatial_dims)(
                channels,
                channels,
                size,
                stride,
                padding=dilation * (size // 2),
                dilation=dilation,
                groups=1 if light and m == 0 else groups,
                bias=False,
            )
            nn.init.kaiming_normal_(kernel.weight, mode="fan_out" if light else "fan_in", nonlinearity="relu")
            self.branches.append(nn.Sequential(kernel, batch_norm(spatial_dims)(channels), nn.ReLU(inplace=True)))
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.expand = nn.Linear(hidden, branches * channels, bias=False)
        for layer in (self.reduce, self.expand):
            if light:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.normal_(layer.weight, std=0.01)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.reduce.in_features

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *t"]:
        check_map("sk", x, self.channels, self.spatial_dims, self.reduce.weight)
        branches = accumulate_branch_gradients([branch(x) for branch in self.branches])
        hidden = torch.relu(self.norm(self.reduce(pool_branches(branches))))
        weights = torch.softmax(self.expand(hidden).unflatten(1, (len(self.branches), -1)), 1)
        record(self, branch=weights)
        return mix_branches(branches, weights)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, form={self.form!r}"
