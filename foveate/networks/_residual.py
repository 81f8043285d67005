"""Residual blocks, written once for every network that is made of them. arXiv:1512.03385.

A ReLU works in place on what a norm or an add has just made.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention = Callable[[int], nn.Module]  # channels → a module (N, C, H, W) → (N, C, H, W)
PLACEMENTS = ("standard", "pre", "post", "identity")


class PadShortcut(nn.Module):
    """The parameter-free shortcut: every stride-th position, and zero channels before and behind."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[(slice(None), slice(None), *(slice(None, None, self.stride),) * (x.dim() - 2))]
        front = self.extra // 2
        return F.pad(x, (0, 0) * (x.dim() - 2) + (front, self.extra - front)) if self.extra else x


def build_shortcut(
    kind: str, first: nn.Conv2d, last: nn.BatchNorm2d, channels: int, width: int, stride: int
) -> nn.Module:
    """The shortcut around a branch from `first` to `last`: "pad", "projection" (1×1 and batch norm) or "wide" (3×3)."""
    if kind == "pad":
        return PadShortcut(last.num_features - first.in_channels, stride)
    if kind == "projection":
        return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    if kind == "wide":
        return nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width))
    raise ValueError(f"shortcut must be 'pad', 'projection', 'wide' or None; got {kind!r}")


def attend(block: nn.Module, placement: str, x: Tensor) -> Tensor:
    """The block's attention over x if this is where the block has it; else x itself."""
    return block.attention(x) if block.attention is not None and block.placement == placement else x  # type: ignore[operator]


def add_relu(y: Tensor, shortcut: Tensor) -> Tensor:
    """ReLU(y + shortcut); without gradients y itself becomes the sum, which saves a map's worth of memory.

    torch.jit.trace compares a pass with gradients and one without, and is shown the same operators in both.
    """
    new = torch.is_grad_enabled() or torch.jit.is_tracing() or y.dtype != shortcut.dtype
    return torch.relu_(y + shortcut if new else y.add_(shortcut))


def check_placement(placement: str) -> str:
    """The placement itself. Raises: ValueError: an unknown one."""
    if placement not in PLACEMENTS:
        raise ValueError(f"placement must be one of {', '.join(map(repr, PLACEMENTS))}; got {placement!r}")
    return placement


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, and attention in one of the places of the SE paper's ablation.

    Args:
        placement: where the attention stands: "standard" (the end of the branch, before the add), "pre" (the branch's
            input; the shortcut is not gated), "post" (after the add and its ReLU) or "identity" (the end of the
            shortcut).

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
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.attention = attention(channels if placement == "pre" else width) if attention else None
        self.downsample = build_shortcut(shortcut, self.conv1, self.bn2, channels, width, stride) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.bn1(self.conv1(attend(self, "pre", x))))
        y = attend(self, "standard", self.bn2(self.conv2(y)))
        shortcut = attend(self, "identity", x if self.downsample is None else self.downsample(x))
        return attend(self, "post", add_relu(y, shortcut))


class Bottleneck(nn.Module):
    """1×1 to `width`, 3×3, 1×1 to 4·width, and attention in one of the places of the SE paper's ablation.

    Args:
        stride_on_first: the stride sits on the first 1×1 (Caffe) and not on the 3×3 (torch).
        dilation: of the 3×3.
        first_width: of the first 1×1, where it is not `width`.
        out_channels: of the last 1×1, where it is not 4·width.
        placement: of the attention, as in `BasicBlock`.
        middle: builds what replaces the 3×3, its norm and its ReLU, stride included.

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
        dilation: int = 1,
        stride_on_first: bool = False,
        first_width: int | None = None,
        out_channels: int | None = None,
        middle: Attention | None = None,
        shortcut: str | None = None,
        attention: Attention | None = None,
        placement: str = "standard",
    ) -> None:
        super().__init__()
        self.placement = check_placement(placement)
        first, second = (stride, 1) if stride_on_first else (1, stride)
        first_width, out_channels = first_width or width, out_channels or width * self.expansion
        self.conv1 = nn.Conv2d(channels, first_width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(first_width)
        self.middle = middle(width) if middle else None
        if self.middle is None:
            self.conv2 = nn.Conv2d(first_width, width, 3, second, dilation, dilation, groups, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.attention = attention(channels if placement == "pre" else out_channels) if attention else None
        self.downsample = (
            build_shortcut(shortcut, self.conv1, self.bn3, channels, out_channels, stride) if shortcut else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.bn1(self.conv1(attend(self, "pre", x))))
        y = torch.relu_(self.bn2(self.conv2(y))) if self.middle is None else self.middle(y)
        y = attend(self, "standard", self.bn3(self.conv3(y)))
        shortcut = attend(self, "identity", x if self.downsample is None else self.downsample(x))
        return attend(self, "post", add_relu(y, shortcut))
