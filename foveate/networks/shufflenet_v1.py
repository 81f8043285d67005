"""ShuffleNet: grouped 1×1 convolutions whose channels are shuffled between the groups. arXiv:1707.01083."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._registry import register_network

Attention = Any  # channels → a module (N, C, H, W) → (N, C, H, W)
STAGE2_WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # by groups; stages 3 and 4 have twice and four times as many
REPEATS = (4, 8, 4)
VARIANTS = ("official", "paper")


def channel_shuffle(x: Tensor, groups: int, *, variant: str = "official") -> Tensor:
    """Give every group channels of all groups.

    With n channels a group, output channel j·groups + i is input channel i·n + j ("paper"); the released code has the
    inverse of that ("official"): output channel i·n + j is input channel j·groups + i.
    """
    if groups == 1:
        return x
    n = x.shape[1] // groups
    shape = (groups, n) if variant == "paper" else (n, groups)
    return x.unflatten(1, shape).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """The units of the paper's figure 2, each usable alone.

    (a) `groups=1`: 1×1, depthwise 3×3, 1×1 around the input. (b) the same with grouped 1×1 and a channel shuffle.
    (c) `stride=2`: (b) at half the size, behind a 3×3 average pool of the input, which makes the first channels.

    Args:
        channels: of the input.
        width: of the output. With stride 1 it is that of the input; with stride 2 the input's channels are part of it.
        groups: of the 1×1 convolutions.
        stride: 1 or 2.
        middle: width of the depthwise convolution; None: a quarter of `width`, cut to a multiple of `groups`.
        dense_first: the first 1×1 is not grouped, as in the first unit of a network.
        shuffle: False leaves the shuffle out (the paper's ablation).
        variant: "official" (default): the shuffle comes after the depthwise convolution and its norm, in the inverse
            order, and with stride 2 the ReLU is on the branch alone; "paper": before it, and the ReLU after the concat.
        attention: made for the width of the branch, at its end, before the input is added or concatenated.

    Shape: (N, channels, H, W) → (N, width, ⌈H/stride⌉, ⌈W/stride⌉).
    Init: torch's default; `ShuffleNetV1` has its own.
    Raises: ValueError: widths that do not fit together or do not split into the groups.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        groups: int = 3,
        stride: int = 1,
        middle: int | None = None,
        dense_first: bool = False,
        shuffle: bool = True,
        variant: str = "official",
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant must be 'official' or 'paper'; got {variant!r}")
        if stride not in (1, 2):
            raise ValueError(f"ShuffleUnit: stride must be 1 or 2; got {stride!r}")
        if stride == 1 and width != channels:
            raise ValueError(f"ShuffleUnit: with stride 1 width must be channels = {channels}; got {width}")
        if stride == 2 and width <= channels:
            raise ValueError(f"ShuffleUnit: with stride 2 width must be more than channels = {channels}; got {width}")
        own = width if stride == 1 else width - channels
        middle = max(width // 4 // groups, 1) * groups if middle is None else middle
        first_groups = 1 if dense_first else groups
        for what, count, parts in (("channels", channels, first_groups), ("middle", middle, groups)):
            if count % parts:
                raise ValueError(f"ShuffleUnit: {what} must be a multiple of groups = {parts}; got {count}")
        if own % groups:
            raise ValueError(f"ShuffleUnit: the branch must have a multiple of groups = {groups} channels; got {own}")
        self.stride, self.groups, self.shuffle, self.variant = stride, groups, shuffle, variant
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, middle, 1, groups=first_groups, bias=False), nn.BatchNorm2d(middle)
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False), nn.BatchNorm2d(middle)
        )
        self.expand = nn.Sequential(nn.Conv2d(middle, own, 1, groups=groups, bias=False), nn.BatchNorm2d(own))
        self.attention = attention(own) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.reduce(x))
        y = self.depthwise(self._mixed(y)) if self.variant == "paper" else self._mixed(self.depthwise(y))
        y = self.expand(y)
        y = y if self.attention is None else self.attention(y)
        if self.stride == 1:
            return torch.relu_(x + y)
        shortcut = F.avg_pool2d(x, 3, 2, 1)
        if self.variant == "paper":
            return torch.relu_(torch.cat((shortcut, y), 1))
        return torch.cat((shortcut, torch.relu_(y)), 1)

    def _mixed(self, x: Tensor) -> Tensor:
        return channel_shuffle(x, self.groups, variant=self.variant) if self.shuffle else x


def stage_widths(groups: int, width: float) -> tuple[int, int, int, int]:
    """Widths of the stem and the three stages. Raises: ValueError: groups that the paper has no network of."""
    if groups not in STAGE2_WIDTHS:
        raise ValueError(f"groups must be one of {', '.join(map(str, STAGE2_WIDTHS))}; got {groups!r}")
    if not width >= 1 / 4:
        raise ValueError(f"width must be a factor of at least 0.25; got {width!r}")
    second = round(STAGE2_WIDTHS[groups] * width / groups) * groups
    # the branch of the first unit, second − stem wide, splits into the groups. The released 1.5× keeps 24; at 0.25×,
    # which was not released, the published 13 M multiply-adds need 12 (8 under 8 groups)
    stem = {1.5: 24.0, 0.25: 8.0 if groups == 8 else 12.0}.get(width, 24 * width)
    stem = max(int(stem / groups + 0.5), 1) * groups
    return stem, second, 2 * second, 4 * second


class ShuffleNetV1(nn.Module):
    """A 3×3 stem, a 3×3 max pool, three stages of shuffle units, a global mean, a linear layer without bias.

    Args:
        num_classes: of the linear layer.
        in_channels: of the image.
        groups: 1, 2, 3, 4 or 8; each has its own widths, so that all cost about the same.
        width: factor of the widths, from 0.25. Where the paper gives no numbers they are rounded to multiples of
            `groups`, as the grouped convolutions need it.
        widths: of the stem and the three stages, instead of those of `groups` and `width`.
        shuffle: False leaves the shuffles out (the paper's ablation).
        variant: of the units, "official" or "paper", as in `ShuffleUnit`.
        attention: name of a mechanism to build into every unit, at the end of its branch; "se" is the SE paper's.
        attention_options: its options.

    Shape: (N, in_channels, H, W) → (N, num_classes), for any H and W.
    Cost: 1,864,728 parameters and 137.5 M multiply-adds with 3 groups, width 1, 1000 classes, 224×224.
    Source: Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
        CVPR 2018, arXiv:1707.01083. Departures: as `variant` says; a global mean where the release averages 7×7.
    Init: the released: convolutions N(0, 1 / channels of a group), the first N(0, 0.01), norms 1 and 0.0001, the linear
        layer N(0, 0.01); attention its own.
    Raises: ValueError: other groups, a width below 0.25, an unknown variant, widths that do not split into the groups.
        LookupError, TypeError: an unknown mechanism, an option that it does not have.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        groups: int = 3,
        width: float = 1.0,
        widths: Sequence[int] | None = None,
        shuffle: bool = True,
        variant: str = "official",
        attention: str | None = None,
        attention_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if attention is None and attention_options:
            raise ValueError("attention_options need attention=; got none")
        if widths is not None and len(widths) != 4:
            raise ValueError(f"widths must be four numbers, of the stem and three stages; got {widths!r}")
        if widths is not None and width != 1:
            raise ValueError(f"widths and width={width} cannot both be given")
        channels, *outs = stage_widths(groups, width) if widths is None else widths
        build = partial(create_attention, attention, **dict(attention_options or {})) if attention else None
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels))
        stages = []
        for stage, (out, repeats) in enumerate(zip(outs, REPEATS, strict=True)):
            units = []
            for index in range(repeats):
                unit = ShuffleUnit(
                    channels,
                    out,
                    groups=groups,
                    stride=1 if index else 2,
                    dense_first=stage == index == 0,
                    shuffle=shuffle,
                    variant=variant,
                    attention=build,
                )
                units.append(unit)
                channels = out
            stages.append(nn.Sequential(*units))
        self.stage2, self.stage3, self.stage4 = stages
        self.fc = nn.Linear(channels, num_classes, bias=False)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu_(self.stem(x)), 3, 2, 1)
        x = self.stage4(self.stage3(self.stage2(x)))
        return self.fc(x.mean((2, 3)))


def initialise(network: nn.Module) -> None:
    """The start of the authors' networks, v1 and v2; attention keeps its initialisation."""
    for name, module in network.named_modules():
        if ".attention" in name:
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.01 if name.startswith("stem") else 1 / module.weight.shape[1])
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 1e-4)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)


register_network("shufflenet_v1")(ShuffleNetV1)
register_network("se_shufflenet_v1")(partial(ShuffleNetV1, attention="se"))
