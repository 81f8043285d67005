"""Attention U-Net: skips gated by what comes from below, in two or three dimensions, supervised at every scale.

Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv:1804.03999. As released
(ozan-oktay/Attention-Gated-Networks, unet_CT_single_att_dsv_3D), where the logits of four scales are resized, put side
by side and mixed into one answer.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._registry import register_network
from foveate.networks._segmentation import padded

WIDTHS = (64, 128, 256, 512, 1024)
QUARTER = (16, 32, 64, 128, 256)
_CONV: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


def _convolve(dims: int, channels: int, width: int, size: int) -> nn.Sequential:
    return nn.Sequential(_CONV[dims](channels, width, size, padding=size // 2), _NORM[dims](width), nn.ReLU())


class GatedSkip(nn.Module):
    """The attention gate, then 1×1 convolution, batch norm and ReLU. Shape: x, g → as x."""

    def __init__(self, dims: int, channels: int, gate_channels: int) -> None:
        super().__init__()
        self.gate = create_attention(
            "attention_gate", channels, spatial_dims=dims, gate_channels=gate_channels, width=channels
        )
        self.combine = _convolve(dims, channels, channels, 1)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return self.combine(self.gate(x, g))


class AttentionUNet(nn.Module):
    """Logits for every position.

    The gate of the deepest skip is the bottleneck through a 1×1 convolution; those of the next two are the decoder's
    maps before; the largest skip is not gated. An image whose sides cannot be halved four times is continued at its far
    ends by its last values, and the logits are cut to its size.

    Args:
        num_classes: channels of the output.
        in_channels: of the image.
        spatial_dims: 2 or 3.
        widths: channels at the five resolutions; the paper's are a quarter of (64, 128, 256, 512, 1024).

    Shape: (N, in_channels, *S) → (N, num_classes, *S).
    Init: convolutions He over the fan-in, norms N(1, 0.02) and 0.
    Raises: ValueError: other numbers of dimensions or widths.
    """

    def __init__(
        self, num_classes: int = 2, *, in_channels: int = 3, spatial_dims: int = 2, widths: Sequence[int] = QUARTER
    ) -> None:
        super().__init__()
        if spatial_dims not in _CONV:
            raise ValueError(f"attention_unet: spatial_dims must be 2 or 3; got {spatial_dims!r}")
        if len(widths) != 5 or min(widths) < 1:
            raise ValueError(f"attention_unet: wanted five positive widths; got {list(widths)}")
        dims, deep = spatial_dims, list(widths)[::-1]
        self.spatial_dims = dims
        inputs = (in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(
            nn.Sequential(_convolve(dims, a, b, 3), _convolve(dims, b, b, 3))
            for a, b in zip(inputs, widths, strict=True)
        )
        self.pool = _POOL[dims](2)
        self.signal = _convolve(dims, widths[4], widths[4], 1)
        self.skips = nn.ModuleList(GatedSkip(dims, deep[i + 1], deep[i]) for i in range(3))
        self.decoder = nn.ModuleList(
            nn.Sequential(_convolve(dims, a + b, b, 3), _convolve(dims, b, b, 3)) for a, b in pairwise(deep)
        )
        self.scales = nn.ModuleList(_CONV[dims](width, num_classes, 1) for width in widths[:4])
        self.mix = _CONV[dims](4 * num_classes, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight)
            elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n k *s"]:
        size = x.shape[2:]
        x = padded(x, 16)
        whole = x.shape[2:]
        maps = []
        for number, block in enumerate(self.encoder):
            x = block(self.pool(x) if number else x)
            maps.append(x)
        decoded: list[Tensor] = []
        for number, block in enumerate(self.decoder):
            skip = maps[3 - number]
            if number < len(self.skips):
                skip = self.skips[number](skip, x if number else self.signal(x))
            up = self._resized(x, skip.shape[2:])
            x = block(torch.cat([skip, up], 1))
            decoded.append(x)
        scales = zip(self.scales, reversed(decoded), strict=True)
        logits = [self._resized(layer(scale), whole) for layer, scale in scales]
        cut = (..., *(slice(side) for side in size))
        return self.mix(torch.cat(logits, 1))[cut]

    def _resized(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(x, tuple(size), mode=_LINEAR[self.spatial_dims], align_corners=False)


register_network("attention_unet", shape=(3, 256, 256))(partial(AttentionUNet, widths=WIDTHS))
register_network("attention_unet3d", shape=(1, 64, 64, 64))(
    partial(AttentionUNet, num_classes=4, in_channels=1, spatial_dims=3, widths=QUARTER)
)
