"""Swin-Unet: a Swin transformer, and a decoder of the same blocks that expands patches, with a skip at each size.

Cao et al., "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", ECCV workshops 2022,
arXiv:2105.05537. The encoder and the blocks are timm's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network
from foveate.networks._segmentation import padded
from foveate.networks._timm import create_timm

DEPTHS = (2, 2, 2, 2)
MULTIPLE = 32
WINDOW = 7


class PatchExpansion(nn.Module):
    """A linear layer, its channels spread over windows of scale × scale, a layer norm.

    Shape: channels last, (N, H, W, C) → (N, scale·H, scale·W, width).
    """

    def __init__(self, channels: int, width: int, *, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.expand = nn.Linear(channels, width * scale**2, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "n h w c"]) -> Float[Tensor, "n h2 w2 d"]:
        x = self.expand(x).unflatten(3, (self.scale, self.scale, -1))
        return self.norm(x.transpose(2, 3).flatten(1, 2).flatten(2, 3))


class SwinUNet(nn.Module):
    """Logits for every pixel.

    Args:
        num_classes: channels of the output.
        in_channels: of the image.
        encoder: a Swin transformer of timm, "timm:NAME".
        encoder_options: of its constructor; unless it says otherwise, two blocks a stage as in the paper.
        depths: blocks of the decoder at 1/16, 1/8 and 1/4.

    Shape: (N, in_channels, H, W) → (N, num_classes, H, W). Sides are continued to multiples of 32.
    Raises: LookupError: no such network. ValueError: it is no Swin transformer; other than three depths.
    """

    def __init__(
        self,
        num_classes: int = 9,
        *,
        in_channels: int = 3,
        encoder: str = "timm:swin_tiny_patch4_window7_224",
        encoder_options: Mapping[str, Any] | None = None,
        depths: Sequence[int] = (2, 2, 2),
    ) -> None:
        super().__init__()
        if len(depths) != 3:
            raise ValueError(f"swin_unet: wanted three depths; got {list(depths)}")
        options = {"depths": DEPTHS, "strict_img_size": False} | dict(encoder_options or {})
        self.encoder: Any = create_timm(
            "swin_unet", encoder, ("swin_transformer",), "a Swin transformer", in_channels, options
        )
        from timm.models.swin_transformer import SwinTransformerStage

        widths = [info["num_chs"] for info in self.encoder.feature_info]
        self.expand, self.join, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, depth in zip((2, 1, 0), depths, strict=True):
            stage, width = self.encoder.layers[level], widths[level]
            self.expand.append(PatchExpansion(widths[level + 1], width, scale=2))
            self.join.append(nn.Linear(2 * width, width))
            block = SwinTransformerStage(
                width,
                width,
                stage.output_resolution,
                depth,
                downsample=False,
                num_heads=stage.blocks[0].attn.num_heads,
                window_size=stage.blocks[0].window_size,
                dynamic_mask=True,
            )
            self.decoder.append(block)
        self.norm = nn.LayerNorm(widths[0])
        self.last = PatchExpansion(widths[0], widths[0], scale=4)
        self.classify = nn.Conv2d(widths[0], num_classes, 1, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        height, width = x.shape[2:]
        maps = self.encoder.forward_intermediates(padded(x, MULTIPLE), norm=True, intermediates_only=True)
        *skips, y = (one.movedim(1, -1) for one in maps)
        for expand, join, decoder in zip(self.expand, self.join, self.decoder, strict=True):
            y = decoder(join(torch.cat([expand(y), skips.pop()], -1)))
        return self.classify(self.last(self.norm(y)).movedim(-1, 1))[..., :height, :width]


register_network("swin_unet", shape=(3, 224, 224))(SwinUNet)
