"""Residual blocks with norm and ReLU before each convolution. arXiv:1603.05027."""

import torch
from torch import Tensor, nn

from foveate.networks._residual import Attention, PadShortcut, attend, check_placement


class PreActivationBasicBlock(nn.Module):
    """BN, ReLU, 3×3, BN, ReLU, 3×3; nothing after the add.

    A shortcut that projects is a bare 1×1 on what the first ReLU gives, as in the authors' networks; one that pads or
    passes starts from the block's input.

    Args:
        shortcut: "projection", "pad" or None.
        placement: where the attention stands: "standard" (the end of the branch, before the add), "pre" (before the
            first norm; the shortcut is not gated), "post" (after the add) or "identity" (the end of the shortcut).

    Shape: (N, channels, H, W) → (N, width, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    expansion = 1

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        stride: int = 1,
        shortcut: str | None = None,
        attention: Attention | None = None,
        placement: str = "standard",
    ) -> None:
        super().__init__()
        self.placement = check_placement(placement)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.attention = attention(channels if placement == "pre" else width) if attention else None
        self.downsample = _shortcut(shortcut, self.conv1, self.conv2, channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(attend(self, "pre", x)))
        shortcut = _around(self.downsample, x, y)
        y = self.conv2(torch.relu(self.bn2(self.conv1(y))))
        return attend(self, "post", attend(self, "standard", y) + attend(self, "identity", shortcut))


class PreActivationBottleneck(nn.Module):
    """BN, ReLU, 1×1 to `width`, BN, ReLU, 3×3, BN, ReLU, 1×1 to 4·width; nothing after the add.

    Args:
        groups: of the 3×3.
        out_channels: of the last 1×1, where it is not 4·width.
        shortcut, placement: as in `PreActivationBasicBlock`.

    Shape: (N, channels, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    expansion = 4

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        stride: int = 1,
        groups: int = 1,
        out_channels: int | None = None,
        shortcut: str | None = None,
        attention: Attention | None = None,
        placement: str = "standard",
    ) -> None:
        super().__init__()
        self.placement = check_placement(placement)
        out_channels = out_channels or width * self.expansion
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.attention = attention(channels if placement == "pre" else out_channels) if attention else None
        self.downsample = _shortcut(shortcut, self.conv1, self.conv3, channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(attend(self, "pre", x)))
        shortcut = _around(self.downsample, x, y)
        y = self.conv2(torch.relu(self.bn2(self.conv1(y))))
        y = self.conv3(torch.relu(self.bn3(y)))
        return attend(self, "post", attend(self, "standard", y) + attend(self, "identity", shortcut))


def _shortcut(
    kind: str | None, first: nn.Conv2d, last: nn.Conv2d, channels: int, width: int, stride: int
) -> nn.Module | None:
    if kind is None:
        return None
    if kind == "pad":
        return PadShortcut(last.out_channels - first.in_channels, stride)
    if kind == "projection":
        return nn.Conv2d(channels, width, 1, stride, bias=False)
    raise ValueError(f"the shortcut of a pre-activation block must be 'projection', 'pad' or None; got {kind!r}")


def _around(shortcut: nn.Module | None, x: Tensor, activated: Tensor) -> Tensor:
    if shortcut is None:
        return x
    return shortcut(x if isinstance(shortcut, PadShortcut) else activated)
