"""SegFormer: a linear layer on each of the four maps, side by side at the largest size, and a 1×1 convolution.

Xie et al., NeurIPS 2021, arXiv:2105.15203.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network
from foveate.networks._segmentation import ADE20K, PHOTO, build, fused, register_pairs
from foveate.networks._transformer import Map

EMBED = {f"mit_b{size}": 256 if size < 2 else 768 for size in range(6)}  # encoder: channels of each map


class SegFormerDecoder(nn.Module):
    """Each map through a linear layer, resized to the largest, side by side; 1×1, batch norm, ReLU; 1×1.

    The first 1×1 is computed as `fused` says.

    Args:
        widths: channels of the encoder's maps, shallow to deep.
        num_classes: channels of the output.
        embed: channels of each map after its linear layer, and of the fused one.
        dropout: of whole channels, in training.

    Shape: four maps, shallow to deep → (N, num_classes, H, W) of the first.
    Init: torch's default.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, *, embed: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Conv2d(width, embed, 1) for width in widths)
        self.fuse = nn.Conv2d(len(widths) * embed, embed, 1, bias=False)
        self.fuse_norm = nn.BatchNorm2d(embed)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(embed, num_classes, 1)

    def forward(self, maps: Sequence[Map]) -> Float[Tensor, "n k h w"]:
        deep = [linear(x) for x, linear in zip(maps, self.linears, strict=True)][::-1]
        total = fused(deep, self.fuse)
        return self.classify(self.dropout(F.relu(self.fuse_norm(total))))


def segformer(
    num_classes: int = ADE20K,
    *,
    in_channels: int = 3,
    encoder: str = "mit_b0",
    encoder_options: Mapping[str, Any] | None = None,
    embed: int | None = None,
    dropout: float = 0.1,
    full_size: bool = True,
) -> nn.Module:
    """The decoder over an encoder by name. embed: None: as released for this encoder, else 256."""
    return build(
        SegFormerDecoder,
        num_classes=num_classes,
        in_channels=in_channels,
        encoder=encoder,
        encoder_options=encoder_options,
        full_size=full_size,
        embed=EMBED.get(encoder, 256) if embed is None else embed,
        dropout=dropout,
    )


register_network("segformer", shape=PHOTO)(segformer)
register_pairs("segformer", segformer, EMBED)
