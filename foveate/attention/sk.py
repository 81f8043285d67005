"""Selective Kernel convolution. arXiv:1903.06586."""

from collections.abc import Sequence
from typing import ClassVar

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
    parameters="weights + M*2*C + (1 + M)*C*h + 2*h",
    macs="weights*P + (1 + M)*C*h",
    where={
        "h": "width or max(C // reduction, minimum if minimum is not None else 32 if form == 'sknet' else 0)",
        "M": "len(kernels or range(branches or 2))",
        "sizes": "[size for size, _ in kernels or M*[(kernel_size or 3, 1)]]",
        "alike": "M*[groups] if form == 'sknet' else [1] + (M - 1)*[groups]",
        "split": "alike if isinstance(groups, int | str) else groups",
        "weights": "sum(k**n*c*c // (c if g == 'depthwise' else g) for k, g, c, n in zip(sizes, split, M*[C], M*[d]))",
    },
    deviations=(
        Deviation(
            "the 5×5 branch",
            "3×3 with dilation 2; true 5×5 and 7×7 in the ablation",
            "3×3 with dilation 2",
            "kernel_size with dilation m + 1; kernels= lists any, as ((3, 1), (5, 1))",
        ),
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
Groups = int | str


def _kernels(
    branches: int | None, kernel_size: int | None, kernels: Sequence[tuple[int, int]] | None, dilated: bool
) -> list[tuple[int, int]]:
    """(kernel size, dilation) of each branch."""
    if kernels is None:
        number, size = 2 if branches is None else branches, 3 if kernel_size is None else kernel_size
        if not isinstance(number, int) or number < 2:
            raise ValueError(f"sk: branches must be a whole number of at least 2; got {branches!r}")
        return [(odd_kernel("sk", size), m + 1 if dilated else 1) for m in range(number)]
    for option, value in (("branches", branches), ("kernel_size", kernel_size)):
        if value is not None:
            raise ValueError(f"sk: kernels says {option} too; leave {option} out (got {value!r})")
    listed = kernels if isinstance(kernels, Sequence) else ()
    pairs = [tuple(pair) if isinstance(pair, Sequence) else (pair,) for pair in listed]
    if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"sk: kernels must be two or more pairs (kernel size, dilation); got {kernels!r}")
    for _, dilation in pairs:
        if not isinstance(dilation, int) or dilation < 1:
            raise ValueError(f"sk: a dilation must be a whole number of at least 1; got {dilation!r}")
    return [(odd_kernel("sk", size), dilation) for size, dilation in pairs]


def _groups(groups: Groups | Sequence[Groups], channels: int, branches: int, dense_first: bool) -> list[int]:
    """The groups of each branch."""
    each = list(groups) if isinstance(groups, Sequence) and not isinstance(groups, str) else [groups] * branches
    if len(each) != branches:
        raise ValueError(f"sk: groups must be one for all branches or {branches}; got {groups!r}")
    counts: list[int] = []
    for one in each:
        if isinstance(one, str):
            one_of("sk", "groups", one, ("depthwise",))
        counts.append(channels if isinstance(one, str) else one)
        check_groups("sk", channels, counts[-1])
    return [1, *counts[1:]] if dense_first and isinstance(groups, int | str) else counts


@register_attention("sk", FACTS)
class SelectiveKernel(nn.Module):
    """A convolution with several kernel sizes, mixed for each channel by attention weights. Replaces a convolution.

        b_m = ReLU(BN(conv_m(x)))                               m = 0 … M − 1
        a   = softmax over m of W₂ ReLU(BN(W₁ mean(Σ_m b_m)))   (M, C), the first C rows of W₂ for branch 0
        y   = Σ_m a_m · b_m

    Args:
        channels: C of the map, a multiple of `groups`.
        spatial_dims: number of spatial axes, 1, 2 or 3; also of the convolutions.
        branches: M, at least 2. None: 2, or as many as `kernels` has.
        kernel_size: of every branch, odd; branch m has dilation m + 1. None: 3, or those of `kernels`.
        kernels: (kernel size, dilation) of each branch in place of the two options before, at least two pairs:
            ((3, 1), (5, 1)) has true 5×5 kernels, ((3, 1), (3, 2)) is the default.
        groups: of the convolutions: a number, "depthwise" (a group for each channel), or one of these for each branch,
            which then also says it of branch 0 of form="light".
        reduction: r of the hidden width d = max(C // r, L).
        minimum: L, the least hidden width. None: 32, or none at all with form="light".
        width: overrides d.
        stride: of every branch; with more than 1 the output is smaller than the input.
        form: "sknet" (the paper's and its prototxt's) or "light" (SK-ResNet* of PytorchInsight: branch 0 is dense, the
            others grouped, none dilated unless `kernels` says so).

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
    instead_of: ClassVar = {"kernels": ("branches", "kernel_size")}

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        branches: int | None = None,
        kernel_size: int | None = None,
        kernels: Sequence[tuple[int, int]] | None = None,
        groups: Groups | Sequence[Groups] = 32,
        reduction: int = 16,
        minimum: int | None = None,
        width: int | None = None,
        stride: int = 1,
        form: str = "sknet",
    ) -> None:
        super().__init__()
        check_dims("sk", spatial_dims)
        one_of("sk", "form", form, ("sknet", "light"))
        light = form == "light"
        pairs = _kernels(branches, kernel_size, kernels, dilated=not light)
        divided = _groups(groups, channels, len(pairs), dense_first=light)
        for option, value in (("reduction", reduction), ("stride", stride)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"sk: {option} must be a whole number of at least 1; got {value!r}")
        for option, given, least in (("minimum", minimum, 0), ("width", width, 1)):
            if given is not None and (not isinstance(given, int) or given < least):
                raise ValueError(f"sk: {option} must be None or a whole number of at least {least}; got {given!r}")
        least_width = minimum if minimum is not None else 0 if light else 32
        hidden = max(channels // reduction, least_width) if width is None else width
        if hidden < 1:
            raise ValueError(
                f"sk: the hidden width max(channels // reduction, minimum) must be at least 1; got 0 from"
                f" channels={channels}, reduction={reduction} (minimum=1 would do)"
            )
        self.spatial_dims, self.form = spatial_dims, form
        self.branches = nn.ModuleList()
        for (size, dilation), group in zip(pairs, divided, strict=True):
            kernel = conv(spatial_dims)(
                channels,
                channels,
                size,
                stride,
                padding=dilation * (size // 2),
                dilation=dilation,
                groups=group,
                bias=False,
            )
            nn.init.kaiming_normal_(kernel.weight, mode="fan_out" if light else "fan_in", nonlinearity="relu")
            self.branches.append(nn.Sequential(kernel, batch_norm(spatial_dims)(channels), nn.ReLU(inplace=True)))
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.expand = nn.Linear(hidden, len(pairs) * channels, bias=False)
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
