"""Temporal segment networks: a network of images over some frames of a clip. arXiv:1608.00859.

"iastp_tsn" has interaction-aware pyramid attention, which makes one map of all frames (arXiv:1808.01106), in place of
the mean over their predictions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention.iastp import InteractionAwarePyramid
from foveate.networks._encoders import create_encoder
from foveate.networks._registry import register_network
from foveate.networks._segmentation import padded

CLASSES = 101  # of UCF101
SHAPE = (3, 8, 224, 224)
CONSENSUS = ("mean", "max")


class TSN(nn.Module):
    """The network of images gives each frame's logits, all with the same weights; their mean is that of the clip.

    The frames are meant to be one of each of T equal segments of the video, drawn anew in each epoch: data of kind
    "clips" with sampling = "segments".

    Args:
        num_classes: of the logits.
        in_channels: of a frame.
        backbone: a network of images as `build_network` takes it: one of ours, "timm:resnet18", "torchvision:resnet50"
            or "my.py:function".
        backbone_options: of its constructor.
        consensus: what becomes of the frames' logits: their "mean" or their "max".

    Shape: (N, in_channels, T, H, W) → (N, num_classes); any T, and any H and W that the network of images takes.
    Source: Wang et al., "Temporal Segment Networks", ECCV 2016, arXiv:1608.00859. Departures: images alone, no flow;
        no weights of the segments are learned.
    Init: that of the network of images.
    Raises: as `build_network`; ValueError: an unknown consensus, an input that is no clip.
    """

    def __init__(
        self,
        num_classes: int = CLASSES,
        *,
        in_channels: int = 3,
        backbone: str = "resnet50",
        backbone_options: Mapping[str, Any] | None = None,
        consensus: str = "mean",
    ) -> None:
        from foveate.networks._build import build_network

        super().__init__()
        if consensus not in CONSENSUS:
            raise ValueError(f"consensus must be one of {', '.join(map(repr, CONSENSUS))}; got {consensus!r}")
        options = dict(backbone_options or {})
        self.backbone = build_network(backbone, num_classes=num_classes, in_channels=in_channels, **options)
        self.consensus = consensus

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n k"]:
        logits = self.backbone(frames_of(x)).unflatten(0, (len(x), -1))
        return logits.mean(1) if self.consensus == "mean" else logits.amax(1)


class InteractionAwareTSN(nn.Module):
    """Maps of each frame at one or several scales, one map of all frames by attention, the mean of it, a linear layer.

    The attention keeps the losses of its last training pass, that of interaction with features of norm 1; the tasks add
    them with the weights of `loss_weights`.

    Args:
        num_classes: of the logits.
        in_channels: of a frame.
        encoder: gives maps at strides 4, 8, 16 and 32, as `umixformer` and its kin take it: one of ours such as
            "mit_b0", "timm:resnet50" or "torchvision:resnet50", which takes 3 channels.
        encoder_options: of its constructor.
        scales: how many of the maps are read, the deepest first: 1 to 4.
        size: positions along each side that the attention works at.
        fusion: of the scales: "sum", "mean" or "max".
        loss_factors: of the losses of interaction and of attention, beside the task's weights; 0 leaves one out.
        dropout: before the linear layer, in training.

    Shape: (N, in_channels, T, H, W) → (N, num_classes); any T, H and W.
    Source: Du, Yuan, Li, Zhao, Li, Hu, "Interaction-aware Spatio-temporal Pyramid Attention Networks for Action
        Classification", ECCV 2018, arXiv:1808.01106. Departures: those of the mechanism "iastp"; one prediction for the
        clip.
    Init: that of the encoder and of the attention; the linear layer N(0, 0.01).
    Raises: as `create_encoder`; ValueError: another number of scales, options that the attention refuses, an input that
        is no clip.
    """

    def __init__(
        self,
        num_classes: int = CLASSES,
        *,
        in_channels: int = 3,
        encoder: str = "timm:resnet50",
        encoder_options: Mapping[str, Any] | None = None,
        scales: int = 3,
        size: Sequence[int] = (7, 7),
        fusion: str = "sum",
        loss_factors: Sequence[float] = (1.0, 1.0),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if scales not in (1, 2, 3, 4):
            raise ValueError(f"scales must be 1 to 4; got {scales!r}")
        built: Any = create_encoder(encoder, in_channels=in_channels, options=encoder_options)
        self.encoder: nn.Module = built
        self.scales = scales
        *shallower, width = built.widths[-scales:]
        self.attention = InteractionAwarePyramid(
            width,
            shallower=shallower,
            size=size,
            fusion=fusion,
            frames="any",
            normalize=True,
            loss_factors=loss_factors,
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(width, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n k"]:
        maps: list[Tensor] = self.encoder(padded(frames_of(x), getattr(self.encoder, "multiple", 1)))
        clips = [one.unflatten(0, (len(x), -1)).transpose(1, 2) for one in maps[-self.scales :]]
        return self.fc(self.dropout(self.attention(clips).mean((2, 3))))


def frames_of(x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "m c h w"]:
    """All frames of all clips as images, clip after clip. Raises: ValueError: if they are no clips."""
    if x.dim() != 5:
        raise ValueError(f"wanted clips (N, C, T, H, W); got {tuple(x.shape)}")
    return torch.flatten(x.transpose(1, 2), 0, 1)


register_network("tsn", shape=SHAPE)(TSN)
register_network("iastp_tsn", shape=SHAPE)(InteractionAwareTSN)
