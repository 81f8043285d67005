"""The segmentation head of DANet: attention over positions beside attention over channels. arXiv:1809.02983."""

from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import create_attention

Logits = Float[Tensor, "n classes h w"]


def _convolve(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


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
        self.before_position = _convolve(channels, width)
        self.before_channel = _convolve(channels, width)
        self.position = create_attention("danet_position", width)
        self.channel = create_attention("danet_channel", width)
        self.after_position = _convolve(width, width)
        self.after_channel = _convolve(width, width)
        self.classify_position = _classify(width, num_classes)
        self.classify_channel = _classify(width, num_classes)
        self.classify_sum = _classify(width, num_classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> tuple[Logits, Logits, Logits]:
        by_position = self.after_position(self.position(self.before_position(x)))
        of_position = self.classify_position(by_position)
        by_channel = self.after_channel(self.channel(self.before_channel(x)))
        of_channel = self.classify_channel(by_channel)
        return self.classify_sum(by_position + by_channel), of_position, of_channel
