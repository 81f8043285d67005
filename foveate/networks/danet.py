"""DANet: attention over positions beside attention over channels, on a dilated ResNet. arXiv:1809.02983."""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._registry import register_network
from foveate.networks._segmentation import PHOTO, conv_norm_relu, resized
from foveate.networks.resnet import DEPTHS, ResNet

Logits = Float[Tensor, "n classes h w"]


def _classify(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(channels, num_classes, 1))


class DANetHead(nn.Module):
    """Two branches, one of each attention, each between two 3×3 convolutions; their sum is classified, and each too.

    Shape: (N, channels, H, W) → (main, position, channel), logits (N, num_classes, H, W) each: of the sum, of the
        branch of positions, of the branch of channels. Each is supervised with the same mask, by cross-entropy; main
        is the answer.
    Cost: 23,954,619 parameters at 2048 channels and 19 classes.
    Raises: ValueError: fewer than 32 channels (the branches have a quarter, the queries an eighth of that).
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        width = channels // 4
        if width < 8:
            raise ValueError(f"DANetHead: channels must be at least 32; got {channels}")
        self.before_position = conv_norm_relu(channels, width)
        self.before_channel = conv_norm_relu(channels, width)
        self.position = create_attention("danet_position", width)
        self.channel = create_attention("danet_channel", width)
        self.after_position = conv_norm_relu(width, width)
        self.after_channel = conv_norm_relu(width, width)
        self.classify_position = _classify(width, num_classes)
        self.classify_channel = _classify(width, num_classes)
        self.classify_sum = _classify(width, num_classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> tuple[Logits, Logits, Logits]:
        by_position = self.after_position(self.position(self.before_position(x)))
        of_position = self.classify_position(by_position)
        by_channel = self.after_channel(self.channel(self.before_channel(x)))
        of_channel = self.classify_channel(by_channel)
        return self.classify_sum(by_position + by_channel), of_position, of_channel


class DANet(nn.Module):
    """The head on a ResNet whose last two stages keep the resolution and dilate their 3×3 convolutions instead.

    Args:
        num_classes: channels of the output.
        in_channels: of the image.
        depth: of the ResNet: 50, 101 or 152.
        multi_grid: dilations of the blocks of the last stage, repeated in turn: (4, 8, 16) as released, (4,) without.

    Shape: (N, in_channels, H, W) → (N, num_classes, H, W); in training (main, position, channel), as `DANetHead` gives
        them, each resized to the image. All three are supervised alike.
    Source: Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983. The released ones
        have a stem of three 3×3 convolutions; here it is the 7×7.
    Raises: ValueError: another depth; no dilation.
    """

    auxiliary_weight = 1.0

    def __init__(
        self, num_classes: int = 19, *, in_channels: int = 3, depth: int = 50, multi_grid: Sequence[int] = (4, 8, 16)
    ) -> None:
        super().__init__()
        if depth not in DEPTHS or DEPTHS[depth][0] != "bottleneck":
            raise ValueError(f"danet: depth must be 50, 101 or 152; got {depth!r}")
        if not multi_grid or min(multi_grid) < 1:
            raise ValueError(f"danet: multi_grid must list dilations; got {list(multi_grid)}")
        block, blocks = DEPTHS[depth]
        self.encoder = ResNet(blocks, 0, block=block, in_channels=in_channels)
        third, fourth = (getattr(self.encoder, name) for name in self.encoder.stages[2:])
        _dilate(third, [1] + [2] * (len(third) - 1))
        _dilate(fourth, [multi_grid[i % len(multi_grid)] for i in range(len(fourth))])
        self.head = DANetHead(2048, num_classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Logits | tuple[Logits, ...]:
        main, *others = self.head(self.encoder.features(x)[-1])
        if not self.training:
            return resized(main, x.shape[2:])
        return tuple(resized(one, x.shape[2:]) for one in (main, *others))


def _dilate(stage: nn.Module, dilations: Sequence[int]) -> None:
    """No stride in the stage, and for each block the dilation of its 3×3."""
    for block, dilation in zip(stage.children(), dilations, strict=True):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
                if layer.kernel_size == (3, 3):
                    layer.dilation = layer.padding = (dilation, dilation)


for _depth in (50, 101):
    register_network(f"danet_resnet{_depth}", shape=PHOTO)(partial(DANet, depth=_depth))
