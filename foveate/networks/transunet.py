"""TransUNet: a ResNet, a vision transformer on its deepest map, and a decoder with the ResNet's maps as skips.

Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", 2021, arXiv:2102.04306. The
hybrid of ResNet and transformer is timm's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network
from foveate.networks._segmentation import conv_norm_relu, padded, resized
from foveate.networks._timm import create_timm

WIDTHS = (256, 128, 64, 16)  # of the decoder, deep to shallow
FIRST = 512  # channels of the transformer's map after the first convolution
FILES = ("vision_transformer_hybrid",)  # of timm
STRIDE = 16  # of the transformer's map


class TransUNet(nn.Module):
    """Logits for every pixel.

    The cascaded upsampler: 3×3 on the transformer's map, then at each of four steps twice the size, the ResNet's map of
    that size beside it, twice 3×3; a 3×3 classifies.

    Args:
        num_classes: channels of the output.
        in_channels: of the image.
        encoder: a hybrid of timm, a vision transformer on a ResNetV2 of stride 16; positions are resized to the grid.
        encoder_options: of its constructor.
        widths: channels of the steps.

    Shape: (N, in_channels, H, W) → (N, num_classes, H, W).
    Raises: LookupError: no such network. ValueError: it is no such hybrid; other than four widths.
    """

    def __init__(
        self,
        num_classes: int = 9,
        *,
        in_channels: int = 3,
        encoder: str = "timm:vit_base_r50_s16_224",
        encoder_options: Mapping[str, Any] | None = None,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"transunet: wanted four widths; got {list(widths)}")
        options = {"dynamic_img_size": True} | dict(encoder_options or {})
        self.transformer: Any = create_timm(
            "transunet", encoder, FILES, "a hybrid with a ResNetV2", in_channels, options
        )
        backbone: Any = self.transformer.patch_embed.backbone
        if len(getattr(backbone, "stages", ())) != 3:
            raise ValueError(f"transunet: wanted a hybrid with a ResNetV2 of three stages; got {encoder!r}")
        self.encoder: Any = backbone
        self.transformer.patch_embed.backbone = nn.Identity()
        skips = [info["num_chs"] for info in backbone.feature_info[:3]][::-1]
        self.first = conv_norm_relu(self.transformer.embed_dim, FIRST)
        inputs = [a + b for a, b in zip((FIRST, *widths[:3]), (*skips, 0), strict=True)]
        self.steps = nn.ModuleList(
            nn.Sequential(conv_norm_relu(a, b), conv_norm_relu(b, b)) for a, b in zip(inputs, widths, strict=True)
        )
        self.classify = nn.Conv2d(widths[-1], num_classes, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        height, width = x.shape[2:]
        x = padded(x, STRIDE)
        *skips, deep = self.encoder.forward_intermediates(x, indices=[0, 1, 2, 3], intermediates_only=True)
        tokens = self.transformer.forward_features(deep)[:, self.transformer.num_prefix_tokens :]
        y = self.first(tokens.unflatten(1, deep.shape[2:]).movedim(-1, 1))
        for step in self.steps:
            y = resized(y, [2 * side for side in y.shape[2:]])
            y = step(torch.cat([y, skips.pop()], 1) if skips else y)
        return self.classify(y)[..., :height, :width]


register_network("transunet", shape=(3, 224, 224))(TransUNet)
