"""FeedFormer: the three deep maps attend to the shallowest one, averaged. As in the port of U-MixFormer's authors.

Shim, Yu, Kim, "FeedFormer: Revisiting Transformer Decoder for Efficient Semantic Segmentation", AAAI 2023.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network
from foveate.networks._segmentation import ADE20K, PHOTO, build, fused, register_pairs
from foveate.networks._transformer import Map, start
from foveate.networks.umixformer import MixAttention, MixBlock, divisor

HEADS = (8, 5, 2)  # deep to shallow
WINDOWS = (8, 4, 2)  # deep to shallow
ENCODERS = {
    "mit_b0": 128,
    "mit_b1": 128,
    **{f"mit_b{i}": 768 for i in (2, 3, 4, 5)},
    "lvt": 128,
}  # channels that are fused


class FeedAttention(MixAttention):
    """Tokens of a deep map attend to the means of windows of the shallowest: k, v = W_kv GELU(LN(W ȳ)).

    Shape: x (N, P, C), y (N, H, W, T), channels last → (N, P, C). A window that is cut off gives no key, unless there
    is no other.
    """

    def __init__(self, channels: int, mixed: int, *, heads: int, window: int, bias: bool = False) -> None:
        super().__init__(channels, mixed, heads=heads, bias=bias)
        self.window = window
        self.align = nn.Conv2d(mixed, mixed, 1)
        self.of_aligned = nn.LayerNorm(mixed)
        start(self)

    def forward(self, x: Tensor, y: Tensor, size: Sequence[int] | None = None) -> Tensor:
        window = [min(self.window, side) for side in y.shape[1:3]]
        keys = self.align(F.avg_pool2d(y.movedim(-1, 1), window))
        return super().forward(x, self.of_aligned(keys.flatten(2).mT), size)


class FeedFormerDecoder(nn.Module):
    """A block for each of the three deep maps, whose keys and values are the shallowest; all four are fused.

    Args:
        widths: channels of the encoder's maps, shallow to deep.
        num_classes: channels of the output.
        embed: channels of the fused map.
        heads: of the blocks, deep to shallow. None: 8, 5, 2, each lowered to a divisor of its width.
        drop_path, dropout: probabilities, in training.

    Shape: four maps, shallow to deep → (N, num_classes, H, W) of the first.
    Raises: ValueError: heads that do not divide a width.
    """

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        *,
        embed: int = 128,
        heads: Sequence[int] | None = None,
        drop_path: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        shallow, *others = widths
        deep = others[::-1]
        if heads is None:
            heads = [divisor(width, most) for width, most in zip(deep, HEADS, strict=True)]
        self.blocks = nn.ModuleList()
        for width, h, window in zip(deep, heads, WINDOWS, strict=True):
            attention = partial(FeedAttention, window=window)
            self.blocks.append(MixBlock(width, shallow, heads=h, drop_path=drop_path, attention=attention))
        self.fuse = nn.Conv2d(sum(widths), embed, 1, bias=False)
        self.fuse_norm = nn.BatchNorm2d(embed)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(embed, num_classes, 1)

    def forward(self, maps: Sequence[Map]) -> Float[Tensor, "n k h w"]:
        shallow, *others = maps
        y = shallow.movedim(1, -1)
        decoded = []
        for x, block in zip(others[::-1], self.blocks, strict=True):
            size = x.shape[2:]
            decoded.append(block(x.flatten(2).mT, y, size).unflatten(1, size).movedim(-1, 1))
        total = fused([*decoded, shallow], self.fuse)
        return self.classify(self.dropout(F.relu(self.fuse_norm(total))))


def feedformer(
    num_classes: int = ADE20K,
    *,
    in_channels: int = 3,
    encoder: str = "mit_b0",
    encoder_options: Mapping[str, Any] | None = None,
    embed: int | None = None,
    heads: Sequence[int] | None = None,
    dropout: float = 0.1,
    full_size: bool = True,
) -> nn.Module:
    """The decoder over an encoder by name; options as `FeedFormerDecoder` has them. embed: None: as published."""
    return build(
        FeedFormerDecoder,
        num_classes=num_classes,
        in_channels=in_channels,
        encoder=encoder,
        encoder_options=encoder_options,
        full_size=full_size,
        embed=ENCODERS.get(encoder, 128) if embed is None else embed,
        heads=heads,
        dropout=dropout,
    )


register_network("feedformer", shape=PHOTO)(feedformer)
register_pairs("feedformer", feedformer, ENCODERS)
