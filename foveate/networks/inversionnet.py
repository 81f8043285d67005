"""InversionNet: gathers squeezed to one vector and unfolded to a velocity model, without skips.

Wu, Lin, "InversionNet: An Efficient and Accurate Data-Driven Full Waveform Inversion", IEEE Transactions on
Computational Imaging 6, 2020, arXiv:1811.07875, in the form of OpenFWI (Deng et al., "OpenFWI: Large-Scale Multi-
Structural Benchmark Datasets for Full Waveform Inversion", NeurIPS 2022, arXiv:2111.02926). Departure: `halvings`, for
gathers of which every second or fourth sample is kept.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network

WIDTHS = (32, 64, 128, 256, 512)
CELLS = 70  # of the model and receivers of the gathers, each side
SAMPLES = 1000


def _convolve(channels: int, width: int, size: Any = 3, stride: Any = 1, padding: Any = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, size, stride, padding)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.2, inplace=True))


def _unfold(channels: int, width: int, size: int = 4, stride: int = 2, padding: int = 1) -> nn.Sequential:
    conv = nn.ConvTranspose2d(channels, width, size, stride, padding)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.2, inplace=True))


class InversionNet(nn.Module):
    """A velocity model of 70×70 cells, scaled as (v − 3000 m/s) / 1500 m/s.

    Args:
        num_classes: maps of the output; 1 is the velocity.
        in_channels: shots.
        halvings: how many of the four convolutions that see time alone halve it: 4 for 1,000 samples, as published; 2
            for 250, 3 for 500.

    Shape: (N, shots, samples, 70) → (N, num_classes, 70, 70); samples such that eight are left, 1,000 with four
        halvings.
    Raises: ValueError: another number of halvings; gathers of another size.
    """

    def __init__(self, num_classes: int = 1, *, in_channels: int = 5, halvings: int = 4) -> None:
        super().__init__()
        if halvings not in (2, 3, 4):
            raise ValueError(f"inversionnet: halvings must be 2, 3 or 4; got {halvings!r}")
        a, b, c, d, e = WIDTHS
        self.halvings = halvings
        strides = [(2, 1) if number < halvings else 1 for number in range(4)]
        self.encoder = nn.Sequential(
            _convolve(in_channels, a, (7, 1), strides[0], (3, 0)),
            _convolve(a, b, (3, 1), strides[1], (1, 0)),
            _convolve(b, b, (3, 1), 1, (1, 0)),
            _convolve(b, b, (3, 1), strides[2], (1, 0)),
            _convolve(b, b, (3, 1), 1, (1, 0)),
            _convolve(b, c, (3, 1), strides[3], (1, 0)),
            _convolve(c, c, (3, 1), 1, (1, 0)),
            _convolve(c, c, 3, 2),
            _convolve(c, c),
            _convolve(c, d, 3, 2),
            _convolve(d, d),
            _convolve(d, d, 3, 2),
            _convolve(d, d),
            _convolve(d, e, (8, math.ceil(CELLS / 8)), 1, 0),
        )
        self.decoder = nn.Sequential(
            *(_unfold(e, e, 5, 1, 0), _convolve(e, e)),
            *(_unfold(e, d), _convolve(d, d)),
            *(_unfold(d, c), _convolve(c, c)),
            *(_unfold(c, b), _convolve(b, b)),
            *(_unfold(b, a), _convolve(a, a)),
        )
        self.head = nn.Sequential(nn.Conv2d(a, num_classes, 3, padding=1), nn.BatchNorm2d(num_classes), nn.Tanh())

    def forward(self, x: Float[Tensor, "n s t r"]) -> Float[Tensor, "n k h w"]:
        least = 7 * 2 ** (self.halvings + 3)
        if not torch.compiler.is_compiling() and (x.shape[3] != CELLS or not least < x.shape[2] <= least * 8 // 7):
            raise ValueError(
                f"inversionnet: wanted gathers of {least + 1} to {least * 8 // 7} samples and {CELLS} receivers with "
                f"halvings={self.halvings}; got {tuple(x.shape[2:])}"
            )
        x = self.head(self.decoder(self.encoder(x)))
        cut = (x.shape[3] - CELLS) // 2
        return x[..., cut : cut + CELLS, cut : cut + CELLS]


register_network("inversionnet", shape=(5, SAMPLES, CELLS))(InversionNet)
