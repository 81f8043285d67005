"""SETR: a vision transformer that keeps one resolution, and three decoders of its tokens.

Zheng et al., "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers", CVPR 2021,
arXiv:2012.15840. The transformer is timm's.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network
from foveate.networks._segmentation import ADE20K, PHOTO, conv_norm_relu, padded, resized
from foveate.networks._timm import create_timm
from foveate.networks._transformer import Map

FILES = ("vision_transformer", "deit", "beit", "eva")  # of timm, whose networks keep one resolution
LEVELS = 4  # of the transformer that "mla" reads
BLOCKS = 24  # of the paper's transformer
AUXILIARY = {"naive": (10, 15, 20), "pup": (10, 15, 20), "mla": (6, 12, 18, 24)}  # blocks of it that are classified too

Logits = Float[Tensor, "n k h w"]


class Naive(nn.Module):
    """1×1, batch norm, ReLU, 1×1. Shape: one map → logits on its grid."""

    def __init__(self, width: int, num_classes: int, embed: int) -> None:
        super().__init__()
        self.convolve = conv_norm_relu(width, embed, 1)
        self.classify = nn.Conv2d(embed, num_classes, 1)

    def forward(self, maps: list[Map]) -> Map:
        return self.classify(self.convolve(maps[-1]))


class ProgressiveUpsampling(nn.Module):
    """Four times 3×3, batch norm, ReLU and twice the size; 1×1. Shape: one map → logits on a grid 16 times as large."""

    def __init__(self, width: int, num_classes: int, embed: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(conv_norm_relu(channels, embed) for channels in (width, embed, embed, embed))
        self.classify = nn.Conv2d(embed, num_classes, 1)

    def forward(self, maps: list[Map]) -> Map:
        x = maps[-1]
        for step in self.steps:
            x = step(x)
            x = resized(x, [2 * side for side in x.shape[2:]])
        return self.classify(x)


class MultiLevelAggregation(nn.Module):
    """Four levels, each 1×1 and the sum with the deeper ones, 3×3, 3×3, 3×3 and four times the size; side by side, 1×1.

    Shape: four maps of one size → logits on a grid 4 times as large.
    """

    def __init__(self, width: int, num_classes: int, embed: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(conv_norm_relu(width, embed, 1) for _ in range(LEVELS))
        self.summed = nn.ModuleList(conv_norm_relu(embed, embed) for _ in range(LEVELS))
        self.second = nn.ModuleList(conv_norm_relu(embed, embed) for _ in range(LEVELS))
        self.third = nn.ModuleList(conv_norm_relu(embed, embed // 2) for _ in range(LEVELS))
        self.classify = nn.Conv2d(LEVELS * (embed // 2), num_classes, 1)

    def forward(self, maps: list[Map]) -> Map:
        found, total = [], None
        for level in reversed(range(LEVELS)):
            x = self.first[level](maps[level])
            total = x if total is None else total + x
            x = self.third[level](self.second[level](self.summed[level](total)))
            found.append(resized(x, [4 * side for side in x.shape[2:]]))
        return self.classify(torch.cat(found, 1))


DECODERS: dict[str, type[nn.Module]] = {
    "naive": Naive,
    "pup": ProgressiveUpsampling,
    "mla": MultiLevelAggregation,
}


class SETR(nn.Module):
    """Logits for every pixel from the tokens of a vision transformer.

    Args:
        num_classes: channels of the output.
        in_channels: of the image.
        encoder: a vision transformer of timm with at least four blocks, "timm:NAME"; positions are resized to the
            image's grid.
        encoder_options: of its constructor.
        decoder: "naive", "pup" or "mla".
        embed: channels of the decoder; "mla" ends with half of them. The paper halves that of the transformer, the
            published number of parameters is that of 256.
        auxiliary: numbers of the blocks, 1 the first, whose tokens a head of two layers classifies in training; None:
            10, 15 and 20 of 24 ("mla": 6, 12, 18 and 24), at the same parts of another depth.

    Shape: (N, in_channels, H, W) → (N, num_classes, H, W); in training with auxiliary heads (main, first, …), each of
        this shape. Released training weighs the losses of the others by 0.4.
    Raises: LookupError: no such network. ValueError: it is no vision transformer; an unknown decoder; a block that it
        does not have.
    """

    def __init__(
        self,
        num_classes: int = ADE20K,
        *,
        in_channels: int = 3,
        encoder: str = "timm:vit_large_patch16_384",
        encoder_options: Mapping[str, Any] | None = None,
        decoder: str = "pup",
        embed: int = 256,
        auxiliary: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise ValueError(f"setr: decoder must be one of {', '.join(map(repr, DECODERS))}; got {decoder!r}")
        options = {"dynamic_img_size": True} | dict(encoder_options or {})
        self.encoder: Any = create_timm("setr", encoder, FILES, "a vision transformer", in_channels, options)
        blocks = self.encoder.blocks
        if len(blocks) < LEVELS:
            raise ValueError(f"setr: wanted a vision transformer of four or more blocks; got {len(blocks)}")
        count = LEVELS if decoder == "mla" else 1
        self.layers = [len(blocks) * (level + 1) // count - 1 for level in range(count)]
        self.patch: int = max(self.encoder.patch_embed.patch_size)
        width = self.encoder.embed_dim
        self.decoder = DECODERS[decoder](width, num_classes, embed)
        if auxiliary is None:
            auxiliary = sorted({max(round(number * len(blocks) / BLOCKS), 1) for number in AUXILIARY[decoder]})
        if wrong := [number for number in auxiliary if not 1 <= number <= len(blocks)]:
            raise ValueError(f"setr: auxiliary must list blocks from 1 to {len(blocks)}; got {wrong[0]!r}")
        self.supervised = [number - 1 for number in auxiliary]
        self.auxiliary = nn.ModuleList(Naive(width, num_classes, embed) for _ in auxiliary)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Logits | tuple[Logits, ...]:
        height, width = x.shape[2:]
        x = padded(x, self.patch)
        read = sorted({*self.layers, *self.supervised}) if self.training else self.layers
        maps = self.encoder.forward_intermediates(x, indices=read, norm=True, intermediates_only=True)
        of = dict(zip(read, maps, strict=True))
        found = [self.decoder([of[layer] for layer in self.layers])]
        if self.training:
            found += [head([of[layer]]) for head, layer in zip(self.auxiliary, self.supervised, strict=True)]
        logits = [resized(one, x.shape[2:])[..., :height, :width] for one in found]
        return logits[0] if len(logits) == 1 else tuple(logits)


for _decoder in DECODERS:
    register_network(f"setr_{_decoder}", shape=PHOTO)(partial(SETR, decoder=_decoder))
