"""MiT, the encoder of SegFormer: four stages of attention over a reduced map and a feed-forward network that convolves.

Xie et al., NeurIPS 2021, arXiv:2105.15203.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._encoders import EncoderClassifier, register_encoder
from foveate.networks._registry import register_network
from foveate.networks._transformer import (
    ChannelNorm,
    Map,
    MapFeedForward,
    OverlapEmbedding,
    PreNormBlock,
    check_four,
    check_stages,
    drop_rates,
    start,
)

B0, B1 = (32, 64, 160, 256), (64, 128, 320, 512)
SIZES = {  # widths, depths
    "b0": (B0, (2, 2, 2, 2)),
    "b1": (B1, (2, 2, 2, 2)),
    "b2": (B1, (3, 4, 6, 3)),
    "b3": (B1, (3, 4, 18, 3)),
    "b4": (B1, (3, 8, 27, 3)),
    "b5": (B1, (3, 6, 40, 3)),
}


class Stage(nn.Module):
    """An embedding at half the resolution (the first at a quarter), blocks, a layer norm."""

    def __init__(self, embed: OverlapEmbedding, blocks: Sequence[PreNormBlock], width: int) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = ChannelNorm(width, eps=1e-6)

    def forward(self, x: Map) -> Map:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class MixTransformer(nn.Module):
    """The maps of four stages.

    Args:
        in_channels: of the image.
        widths, depths, heads, reductions, ratios: of the stages: channels, number of blocks, heads of the attention,
            side of the window of each key, width of the feed-forward network over C.
        bias, out_bias: biases of queries, keys and values; of the layer after the attention.
        drop_path: probability that a block's branch is dropped, from 0 at the first block to this at the last.
        eps: ε of the norms of embeddings and reduced maps: 1e-5 (NVlabs), 1e-6 (mmseg). The other norms have 1e-6.

    Shape: (N, in_channels, H, W) → four maps (N, widths[i], ⌈H / s⌉, ⌈W / s⌉), s = 4, 8, 16, 32.
    Init: linear layers truncated normal 0.02, convolutions normal √(2 / fan out), biases 0, norms 1 and 0.
    Raises: ValueError: lists of other than four entries; widths, depths, heads or reductions that are not positive
        whole numbers; heads that do not divide a width.
    """

    multiple = 1

    def __init__(
        self,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = B0,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (1, 2, 5, 8),
        reductions: Sequence[int] = (8, 4, 2, 1),
        ratios: Sequence[float] = (4, 4, 4, 4),
        bias: bool = True,
        out_bias: bool = True,
        drop_path: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_stages("mit", widths=widths, depths=depths, heads=heads, reductions=reductions)
        check_four("mit", ratios=ratios)
        self.widths = tuple(widths)
        rates = drop_rates(drop_path, depths)
        stages = []
        for i, (before, width) in enumerate(zip((in_channels, *widths[:-1]), widths, strict=True)):
            size, stride = (3, 2) if i else (7, 4)
            blocks = []
            for rate in rates[i]:
                attention = create_attention(
                    "sra",
                    width,
                    heads=heads[i],
                    reduction=reductions[i],
                    bias=bias,
                    out_bias=out_bias,
                    eps=eps,
                    form="bare",
                )
                feed = MapFeedForward(width, int(width * ratios[i]))
                blocks.append(PreNormBlock(width, attention, feed, drop_path=rate, eps=1e-6))
            stages.append(Stage(OverlapEmbedding(before, width, size=size, stride=stride, eps=eps), blocks, width))
        self.stages = nn.ModuleList(stages)
        start(self)

    def forward(self, x: Map) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def classifier(num_classes: int = 1000, *, in_channels: int = 3, size: str, drop_path: float = 0.1) -> nn.Module:
    """The encoder of a size with the classifier that it was trained with on ImageNet."""
    widths, depths = SIZES[size]
    return EncoderClassifier(
        MixTransformer(in_channels, widths=widths, depths=depths, drop_path=drop_path), num_classes
    )


register_encoder("mit")(MixTransformer)
for _size, (_widths, _depths) in SIZES.items():
    register_encoder(f"mit_{_size}")(partial(MixTransformer, widths=_widths, depths=_depths))
    register_network(f"mit_{_size}")(partial(classifier, size=_size))
