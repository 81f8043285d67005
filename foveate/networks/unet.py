"""U-Net: an encoder and a decoder with a skip at each resolution. Ronneberger, Fischer, Brox, 2015, arXiv:1505.04597.

Departures: convolutions are padded, so that the output has the input's size; a batch norm follows each convolution, as
in the implementations in use; the widths are options, the paper's are (64, 128, 256, 512, 1024).
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network

PAPER = (64, 128, 256, 512, 1024)
SMALL = (16, 32, 64, 128)


class DoubleConv(nn.Sequential):
    """Twice a 3×3 convolution, batch norm and ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Logits for every pixel.

    Args:
        num_classes: channels of the output.
        in_channels: of the image.
        widths: channels at each resolution, from the input's down; each is half as large as the one before.

    Shape: (N, in_channels, H, W) → (N, num_classes, H, W), H and W multiples of 2^(len(widths) − 1).
    Raises: ValueError: fewer than two widths; an image of another size.
    """

    def __init__(self, num_classes: int = 2, *, in_channels: int = 3, widths: Sequence[int] = PAPER) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"unet: wanted two or more widths; got {list(widths)}")
        self.multiple = 2 ** (len(widths) - 1)
        self.pool = nn.MaxPool2d(2)
        inputs = (in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(DoubleConv(a, b) for a, b in zip(inputs, widths, strict=True))
        falling = widths[::-1]
        pairs = list(pairwise(falling))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, shallow, 2, stride=2) for deep, shallow in pairs)
        self.decoder = nn.ModuleList(DoubleConv(2 * shallow, shallow) for _, shallow in pairs)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        if any(side % self.multiple for side in x.shape[2:]):
            raise ValueError(f"unet: wanted sides that are multiples of {self.multiple}; got {tuple(x.shape[2:])}")
        skips = []
        for number, block in enumerate(self.encoder):
            x = block(self.pool(x) if number else x)
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


register_network("unet", shape=(3, 256, 256))(UNet)
register_network("unet_small", shape=(3, 32, 32))(partial(UNet, widths=SMALL))
