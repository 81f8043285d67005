"""A convolutional network of the cost of four glimpses, after the one in section 4.1 of arXiv:1406.6247."""

from torch import nn


def two_layers(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Eight filters of 5×5 at every third position, then 256 hidden units: (N, in_channels, 32, 32) → logits."""
    convolve = nn.Conv2d(in_channels, 8, 5, stride=3)
    return nn.Sequential(
        convolve, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10**2, 256), nn.ReLU(), nn.Linear(256, num_classes)
    )
