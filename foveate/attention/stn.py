"""Spatial transformer: the map is resampled along an affine grid that a small network predicts. arXiv:1506.02025."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._maps import check_dims, check_map, conv, max_pool, odd_kernel, one_of
from foveate.attention._registry import Deviation, Facts, register_attention

_AVERAGE: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
PADDING_MODES = ("zeros", "border", "reflection")

FACTS = Facts(
    title="Spatial Transformer Networks",
    authors="Jaderberg, Simonyan, Zisserman, Kavukcuoglu",
    year=2015,
    source="NeurIPS 2015, arXiv:1506.02025",
    domain="transform",
    equation="y(t) = bilinear(x, θ·(t, 1)),  θ = f_loc(x), t over the target grid in [−1, 1]ᵈ",
    parameters="C*w1*k1**d + w1 + w1*w2*k2**d + w2 + w2*grid**d*hidden + hidden + hidden*d*(d + 1) + d*(d + 1)",
    macs="C*w1*k1**d*P + w1*w2*k2**d*(P // 2**d) + w2*grid**d*hidden + hidden*d*(d + 1)",
    where={"w1": "widths[0]", "w2": "widths[1]", "k1": "kernel_sizes[0]", "k2": "kernel_sizes[1]"},
    deviations=(
        Deviation(
            "what ±1 means (align_corners)",
            "centres of the corner pixels (True)",
            "tutorial: True up to torch 1.2, outer edges (False) since",
            "variant decides; align_corners= overrides",
        ),
        Deviation(
            "order of the coordinates", "(x, y)", "tutorial (x, y); Torch7's stnbhwd (y, x): rows permuted", "(x, y)"
        ),
        Deviation(
            "localisation network",
            "another for each experiment",
            "tutorial: 7×7 and 5×5 without padding, for 28×28 only",
            "the tutorial's, padded, its map averaged to grid² cells for any size; conv_padding='valid': unpadded",
        ),
        Deviation("pooling in it", "—", "before the ReLU", "before the ReLU"),
        Deviation(
            "learning rate of the localisation network",
            "smaller (1/10 and less)",
            "the same",
            "set it with parameter groups",
        ),
    ),
)


def affine_points(
    theta: Float[Tensor, "n d e"], size: Sequence[int], align_corners: bool = False
) -> Float[Tensor, "n *s d"]:
    """The source points θ·(t, 1) for every point t of a target grid of that size, last axis first: (x, y, z)."""
    theta = theta.to(torch.promote_types(theta.dtype, torch.float32))
    sides = []
    for n in size:
        steps = torch.arange(n, device=theta.device, dtype=theta.dtype)
        if align_corners:
            sides.append(steps * (2 / (n - 1)) - 1 if n > 1 else steps)
        else:
            sides.append((2 * steps + 1) / n - 1)
    target = torch.stack(torch.meshgrid(*sides, indexing="ij")[::-1], -1)
    matrix = theta.reshape(theta.shape[0], *(1,) * len(size), *theta.shape[1:])
    return (matrix[..., :-1] * target[..., None, :]).sum(-1) + matrix[..., -1]


def _sample(x: Tensor, points: Tensor, align_corners: bool, padding_mode: str) -> Tensor:
    """Bilinear samples of x (N, C, *S) at points (N, *T, d); at least in float32, in which points are exact enough."""
    flat = x.dim() == 3
    source = x.to(points.dtype)
    if flat:  # a signal is an image of one row
        source, points = source.unsqueeze(2), F.pad(points, (0, 1)).unsqueeze(1)
    y = F.grid_sample(source, points, "bilinear", padding_mode, align_corners)
    return (y.squeeze(2) if flat else y).to(x.dtype)


def _nan_if_broken(y: Tensor, theta: Tensor) -> Tensor:
    """NaN in the samples whose theta is not finite; torch's sampler treats such points as outside the map."""
    broken = ~theta.isfinite().flatten(1).all(1)
    return y.masked_fill(broken.reshape(-1, *(1,) * (y.dim() - 1)), math.nan)


def _exact_identity(y: Tensor, x: Tensor, theta: Tensor) -> Tensor:
    """The map itself in the samples whose theta is exactly the identity, with the sampler's gradients.

    In float32 a coordinate is accurate to n · 6e-8 pixels, so the sampler alone would be off by 1e-5 and more.
    """
    identity = torch.eye(*theta.shape[1:], dtype=theta.dtype, device=theta.device)
    same = (theta == identity).flatten(1).all(1).reshape(-1, *(1,) * (y.dim() - 1))
    return torch.where(same, y + (x - y).detach(), y)


def affine_sample(
    x: Float[Tensor, "n c *s"],
    theta: Float[Tensor, "n d e"],
    size: Sequence[int] | None = None,
    align_corners: bool = False,
    padding_mode: str = "zeros",
) -> Float[Tensor, "n c *t"]:
    """Sample x bilinearly at θ·(t, 1) for every point t of the target grid; coordinates run over [−1, 1].

    align_corners=False (torch's since 1.3): ±1 are the outer edges, pixel = ((c + 1)·n − 1)/2, grid (2i + 1)/n − 1.
    True (the paper): ±1 are the centres of the corner pixels, pixel = (c + 1)(n − 1)/2, grid from −1 to 1. The grid
    and the sampling always use the same. Gradients go to x and to θ; at whole pixel positions that to θ is one-sided,
    and the identity under align_corners=True sits exactly there.

    Args:
        x: map of 1, 2 or 3 spatial axes.
        theta: (N, d, d + 1), rows and columns in the order x (last axis), y, z; for images (N, 2, 3).
        size: of the result; None: that of x.
        padding_mode: what is outside: "zeros", "border" or "reflection".

    Raises: ValueError: shapes that do not fit, an unknown padding_mode.
    """
    dims = x.dim() - 2
    check_dims("affine_sample", dims)
    one_of("affine_sample", "padding_mode", padding_mode, PADDING_MODES)
    if theta.shape != (x.shape[0], dims, dims + 1):
        wanted = (x.shape[0], dims, dims + 1)
        raise ValueError(f"affine_sample: theta must be {wanted} for x {tuple(x.shape)}; got {tuple(theta.shape)}")
    size = tuple(x.shape[2:] if size is None else size)
    if len(size) != dims:
        raise ValueError(f"affine_sample: size must have {dims} numbers for x {tuple(x.shape)}; got {size}")
    return _nan_if_broken(_sample(x, affine_points(theta, size, align_corners), align_corners, padding_mode), theta)


@register_attention("stn", FACTS)
class SpatialTransformer(nn.Module):
    """Resample the map in an affine frame that a small network predicts from it.

        θ = FC(ReLU(FC(average to grid cells(ReLU(pool(conv(ReLU(pool(conv(x))))))))))
        y(t) = bilinear(x, θ·(t, 1))

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes: 2 (θ is 2×3), 3 (3×4), or 1 (1×2: scale and shift).
        variant: "official" (default: align_corners=False, as the tutorial runs on torch ≥ 1.3) or "paper" (True).
        align_corners: None: as `variant`.
        padding_mode: the values outside the map: "zeros", "border" or "reflection".
        size: of the result, one number an axis; None: that of the map.
        widths, kernel_sizes: of the localisation network's two convolutions.
        hidden: width of its hidden linear layer.
        grid: cells an axis that its last map is averaged to.
        conv_padding: of its convolutions and pools: "same" (any map) or "valid" (the tutorial's: a 1×28×28 map ends
            at the 3×3 cells it has).

    Shape: x (N, C, *S) → y (N, C, *S) or (N, C, *size), dtype of x. Captured: theta (N, d, d + 1), grid (N, *S, d) as
        (x, y, z) in [−1, 1].
    Cost: parameters and multiply-adds of the localisation network (two convolutions over the map and its half);
        the sampler reads 2ᵈ positions for each it writes. The formula for multiply-adds is of even sides.
    Init: torch's defaults; the last layer weight 0 and bias identity, so the first frame is the map itself.
    Raises: ValueError: even kernels, unknown values, a map of another rank or width, or too small for "valid".
    """

    starts_as_identity = True

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        variant: str = "official",
        align_corners: bool | None = None,
        padding_mode: str = "zeros",
        size: Sequence[int] | None = None,
        widths: tuple[int, int] = (8, 10),
        kernel_sizes: tuple[int, int] = (7, 5),
        hidden: int = 32,
        grid: int = 3,
        conv_padding: str = "same",
    ) -> None:
        super().__init__()
        check_dims("stn", spatial_dims)
        one_of("stn", "variant", variant, ("official", "paper"))
        one_of("stn", "padding_mode", padding_mode, PADDING_MODES)
        one_of("stn", "conv_padding", conv_padding, ("same", "valid"))
        if size is not None and len(size) != spatial_dims:
            raise ValueError(f"stn: size must have {spatial_dims} numbers; got {size!r}")
        for option, value in (("widths", widths), ("kernel_sizes", kernel_sizes)):
            if len(value) != 2:
                raise ValueError(f"stn: {option} must have two numbers; got {value!r}")
        self.spatial_dims, self.padding_mode, self.grid = spatial_dims, padding_mode, grid
        self.align_corners = variant == "paper" if align_corners is None else align_corners
        self.size = None if size is None else tuple(size)
        first, second = (odd_kernel("stn", k) for k in kernel_sizes)
        same = conv_padding == "same"
        self.smallest = 1 if same else 2 * (second + 1) + first - 1
        convolution, pool = conv(spatial_dims), max_pool(spatial_dims)
        self.localisation = nn.Sequential(
            convolution(channels, widths[0], first, padding=first // 2 if same else 0),
            pool(2, ceil_mode=same),
            nn.ReLU(inplace=True),
            convolution(widths[0], widths[1], second, padding=second // 2 if same else 0),
            pool(2, ceil_mode=same),
            nn.ReLU(inplace=True),
        )
        last = nn.Linear(hidden, spatial_dims * (spatial_dims + 1))
        self.regression = nn.Sequential(nn.Linear(widths[1] * grid**spatial_dims, hidden), nn.ReLU(inplace=True), last)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.eye(spatial_dims, spatial_dims + 1).flatten())

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return next(self.localisation.parameters()).shape[1]

    def localise(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n d e"]:
        """θ for each sample."""
        seen = _AVERAGE[self.spatial_dims](self.localisation(x), (self.grid,) * self.spatial_dims)
        return self.regression(seen.flatten(1)).reshape(-1, self.spatial_dims, self.spatial_dims + 1)

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *t"]:
        check_map("stn", x, self.channels, self.spatial_dims, next(self.parameters()))
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"stn: conv_padding='valid' wanted at least {self.smallest} positions along each axis; got a map of"
                f" {tuple(x.shape[2:])} (conv_padding='same' would do)"
            )
        theta = self.localise(x)
        points = affine_points(theta, self.size or x.shape[2:], self.align_corners)
        record(self, theta=theta, grid=points)
        y = _sample(x, points, self.align_corners, self.padding_mode)
        return _nan_if_broken(_exact_identity(y, x, theta) if self.size is None else y, theta)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, align_corners={self.align_corners}"
