"""Whole networks for segmentation: an encoder, a decoder of its maps, and logits as large as the image."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._encoders import create_encoder
from foveate.networks._registry import register_network

PHOTO = (3, 512, 512)
ADE20K = 150  # classes


class EncoderDecoder(nn.Module):
    """Logits for every pixel, from the maps of an encoder.

    An image whose sides the encoder cannot halve is continued below and to the right by its last pixels, and the
    logits are cut to its size.

    Args:
        encoder: gives maps of `encoder.widths` channels, as `_encoders` says.
        decoder: maps → logits at 1/4 of the image, or at another size.
        full_size: resize the logits to the image's size, bilinearly; else they stay as the decoder gives them.

    Shape: (N, in_channels, H, W) → (N, num_classes, H, W), or the decoder's size.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, full_size: bool = True) -> None:
        super().__init__()
        self.encoder, self.decoder, self.full_size = encoder, decoder, full_size

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        height, width = x.shape[2:]
        x = padded(x, getattr(self.encoder, "multiple", 1))
        logits = self.decoder(self.encoder(x))
        if not self.full_size:
            return logits
        if self.training:  # a loss over the classes is quicker where they come first, the largest of them where last
            logits = logits.contiguous()
        return resized(logits, x.shape[2:])[..., :height, :width]


def padded(x: Float[Tensor, "n c *s"], multiple: int) -> Float[Tensor, "n c *t"]:
    """The image continued at the far end of each axis by its last values, to sides that are multiples."""
    missing = [-side % multiple for side in x.shape[2:]]
    if not any(missing):
        return x
    return F.pad(x, [size for extra in reversed(missing) for size in (0, extra)], mode="replicate")


def resized(x: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n c h2 w2"]:
    """The map at another size, bilinearly."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def fused(maps: Sequence[Float[Tensor, "n _ _ _"]], layer: nn.Conv2d) -> Float[Tensor, "n k h w"]:
    """A 1×1 convolution without bias of maps that are resized to the last, the largest, and put side by side.

    Convolution and resizing are both linear and exchanged here: each map is convolved at its own size, so that neither
    the maps side by side are in memory nor the arithmetic is done where they only repeat themselves. A layer with
    hooks, or of a class that does more, is called as it is.
    """
    if type(layer) is not nn.Conv2d or layer._forward_hooks or layer._forward_pre_hooks:
        size = maps[-1].shape[2:]
        found: Tensor = layer(torch.cat([x if x.shape[2:] == size else resized(x, size) for x in maps], 1))
        return found
    weights = layer.weight.split([x.shape[1] for x in maps], 1)
    *others, total = (F.conv2d(x, part) for x, part in zip(maps, weights, strict=True))
    for other in others:
        total = total + resized(other, total.shape[2:])
    return total


def conv_norm_relu(channels: int, width: int, size: int = 3) -> nn.Sequential:
    """A size×size convolution without bias, batch norm, ReLU. Shape: (N, channels, H, W) → (N, width, H, W)."""
    conv = nn.Conv2d(channels, width, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


Decoder = Callable[..., nn.Module]


def build(
    decoder: Decoder,
    *,
    num_classes: int,
    in_channels: int,
    encoder: str,
    encoder_options: Mapping[str, Any] | None,
    full_size: bool,
    **options: Any,
) -> nn.Module:
    """An encoder by name under a decoder that is made for its widths."""
    first = create_encoder(encoder, in_channels=in_channels, options=encoder_options)
    return EncoderDecoder(first, decoder(first.widths, num_classes, **options), full_size=full_size)


def register_pairs(name: str, builder: Decoder, encoders: Iterable[str]) -> None:
    """Register the network over each encoder as `NAME_ENCODER`."""
    for encoder in encoders:
        register_network(f"{name}_{encoder}", shape=PHOTO)(partial(builder, encoder=encoder))
