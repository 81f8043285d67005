"""AlexNet as its paper has it, on two GPUs: two groups of channels. NeurIPS 2012, doi:10.1145/3065386."""

import torch
from torch import Tensor, nn

from foveate.networks._registry import register_network

CELLS, HIDDEN, SMALLEST = 6, 4096, 63
NEIGHBOURS, BIAS, ALPHA, BETA = 5, 2.0, 1e-4, 0.75


class AlexNet(nn.Module):
    """Five convolutions and three linear layers; the second, fourth and fifth convolution see half of the channels.

    Args:
        num_classes: of the last layer.
        in_channels: of the image.
        groups: of those three convolutions: 2 is the paper's, one for each of its two GPUs; 1 joins them.
        dropout: of the two hidden linear layers, in training.

    Shape: (N, in_channels, H, W) → (N, num_classes), sides from 63; the paper's 224 gives the linear layers 6×6 cells,
        other maps are averaged to as many.
    Cost: 60,965,224 parameters and 724.4 M multiply-adds at 224×224 with two groups, 62,378,344 and 1,135.3 M with one.
    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS
        2012, doi:10.1145/3065386 (60 million parameters). Departures: the first convolution is padded by 2, without
        which its 224 pixels do not give the 55×55 positions that the paper counts. `torchvision:alexnet` is another
        network, of 2014: one group, 64 channels first, no normalisation between channels.
    Init: weights N(0, 0.01); biases 1 in the second, fourth and fifth convolution and the hidden linear layers, else 0.
    Raises: ValueError: groups that do not divide 48 channels, a smaller image.
    """

    def __init__(self, num_classes: int = 1000, *, in_channels: int = 3, groups: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        if not isinstance(groups, int) or groups < 1 or 48 % groups:
            raise ValueError(f"alexnet: groups must be a divisor of 48, the paper's is 2; got {groups!r}")
        # the paper's α is of the sum over neighbours, torch's of their mean
        self.normalise = nn.LocalResponseNorm(NEIGHBOURS, ALPHA * NEIGHBOURS, BETA, BIAS)
        self.pool = nn.MaxPool2d(3, 2)
        self.conv1 = nn.Conv2d(in_channels, 96, 11, 4, 2)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=groups)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=groups)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=groups)
        self.cells = nn.AdaptiveAvgPool2d(CELLS)
        self.dropout = nn.Dropout(dropout)
        self.fc6 = nn.Linear(256 * CELLS**2, HIDDEN)
        self.fc7 = nn.Linear(HIDDEN, HIDDEN)
        self.fc8 = nn.Linear(HIDDEN, num_classes)
        layers = (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5, self.fc6, self.fc7, self.fc8)
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.01)
            ones = layer in (self.conv2, self.conv4, self.conv5, self.fc6, self.fc7)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, float(ones))

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < SMALLEST:
            raise ValueError(f"alexnet: wanted images of at least {SMALLEST} pixels a side; got {tuple(x.shape)}")
        x = self.pool(self.normalise(torch.relu(self.conv1(x))))
        x = self.pool(self.normalise(torch.relu(self.conv2(x))))
        x = torch.relu(self.conv4(torch.relu(self.conv3(x))))
        x = self.cells(self.pool(torch.relu(self.conv5(x)))).flatten(1)
        x = torch.relu(self.fc6(self.dropout(x)))
        return self.fc8(torch.relu(self.fc7(self.dropout(x))))


register_network("alexnet")(AlexNet)
