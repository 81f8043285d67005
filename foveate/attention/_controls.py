"""What a study puts where attention stands, to ask whether attention does better: a layer of the same cost, a placebo.

Registered like mechanisms, so that networks with them are inserted, saved and built again alike; their names begin with
"_" and are not listed.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._maps import axes, conv, spread
from foveate.attention._registry import create_attention, register_attention


@register_attention("_positionwise")
class PositionwiseLayer(nn.Module):
    """A residual 1×1 layer whose parameters and multiply-adds can be set one by one.

        z = x averaged over the cells of a grid (or x itself)
        y = x + U relu(D z) + (w_c z_c for c < scaled) + (b_c for c < shifted)

    Args:
        channels: C of the map.
        hidden: H, the channels between the 1×1 convolutions D (C → H) and U (H → C), which have no bias.
        scaled: the first channels with a depthwise 1×1 convolution w.
        shifted: the first channels with a bias b.
        grid: cells along each axis, at most the map's own positions; 0: every position.
        spatial_dims: number of spatial axes, 1, 2 or 3.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x.
    Cost: 2·C·H + scaled + shifted parameters; (2·C·H + scaled) · cells multiply-adds a sample.
    Init: the identity: D as torch's convolutions, the rest zeros.
    Raises: ValueError: a negative width, or more channels scaled or shifted than there are.
    """

    starts_as_identity = True

    def __init__(
        self,
        channels: int,
        *,
        hidden: int = 0,
        scaled: int = 0,
        shifted: int = 0,
        grid: int = 0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if min(hidden, scaled, shifted, grid) < 0 or max(scaled, shifted) > channels:
            raise ValueError(
                f"wanted hidden and grid of 0 or more, scaled and shifted of 0 to {channels}; got {hidden}, {grid}, "
                f"{scaled} and {shifted}"
            )
        self.hidden, self.grid, self.spatial_dims = hidden, grid, spatial_dims
        self.down = conv(spatial_dims)(channels, hidden, 1, bias=False) if hidden else None
        self.up = conv(spatial_dims)(hidden, channels, 1, bias=False) if hidden else None
        self.scale = conv(spatial_dims)(scaled, scaled, 1, groups=scaled, bias=False) if scaled else None
        self.shift = nn.Parameter(torch.zeros(shifted)) if shifted else None
        for layer in (self.up, self.scale):
            if layer is not None:
                nn.init.zeros_(layer.weight)

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        cells = self._averaged(x)
        parts: list[Tensor] = []
        if self.down is not None and self.up is not None:
            parts.append(self.up(F.relu(self.down(cells))))
        if self.scale is not None:
            scaled = self.scale.out_channels
            parts.append(_wide(self.scale(cells[:, :scaled]), x.shape[1]))
        if self.shift is not None:
            parts.append(_wide(spread(self.shift[None], x), x.shape[1]))
        for part in parts:
            if math.prod(part.shape[2:]) > 1 and part.shape[2:] != x.shape[2:]:
                part = F.interpolate(part, size=x.shape[2:], mode="nearest")
            x = x + part.to(x.dtype)
        return x

    def _averaged(self, x: Tensor) -> Tensor:
        sizes = [min(self.grid, size) for size in x.shape[2:]]
        if not self.grid or sizes == list(x.shape[2:]):
            return x
        if max(sizes) == 1:
            return x.mean(axes(x), keepdim=True)
        pool: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[self.spatial_dims - 1]
        averaged: Tensor = pool(x, sizes)
        return averaged

    def extra_repr(self) -> str:
        return f"hidden={self.hidden}, grid={self.grid}"


def _wide(first: Tensor, channels: int) -> Tensor:
    """(N, k, *S) → (N, channels, *S), zeros behind the first k."""
    return F.pad(first, (0, 0) * (first.dim() - 2) + (0, channels - first.shape[1]))


@register_attention("_shuffled")
class Shuffled(nn.Module):
    r"""A placebo: attention that cannot know which channel and which position is which.

        y = P⁻¹ A(P x)

    P puts channels and positions in an order drawn anew at each training pass, so that each channel and position gets
    the weight of another; in evaluation mode the order is always the same random one. An order that never changed would
    be no placebo: weights learn around it.

    Args:
        channels: C of the map.
        attention: registered name of A, which keeps the shape of its map.
        options: of A, as pairs of name and value.
        spatial_dims: number of spatial axes, 1, 2 or 3.

    Shape: x (N, C, *S) → y (N, C, *S).
    Cost: that of A, and four copies of the map.
    Init: that of A.
    """

    def __init__(
        self, channels: int, *, attention: str, options: Sequence[Sequence[Any]] = (), spatial_dims: int = 2
    ) -> None:
        super().__init__()
        given = {str(name): value for name, value in options}
        self.attention = create_attention(attention, channels, spatial_dims=spatial_dims, **given)

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        channels, positions = (self._order(size).to(x.device) for size in (x.shape[1], math.prod(x.shape[2:])))
        shuffled = x.flatten(2).index_select(1, channels).index_select(2, positions).unflatten(2, x.shape[2:])
        y: Tensor = self.attention(shuffled)
        y = y.flatten(2).index_select(2, positions.argsort()).index_select(1, channels.argsort())
        return y.unflatten(2, x.shape[2:])

    def _order(self, size: int) -> Tensor:
        fixed = None if self.training else torch.Generator().manual_seed(size)
        return torch.randperm(size, generator=fixed, device="cpu")
