"""ShuffleNet v2: half of the channels pass by, the halves are interleaved. arXiv:1807.11164."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._registry import register_network
from foveate.networks.shufflenet_v1 import initialise

Attention = Any  # channels → a module (N, C, H, W) → (N, C, H, W)
WIDTHS = {  # of the stem, three stages and the last 1×1
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    1.5: (24, 176, 352, 704, 1024),
    2.0: (24, 244, 488, 976, 2048),
}
FORMS = ("torchvision", "megvii")


def _conv(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class ShuffleUnitV2(nn.Module):
    """The units of the paper's figure 3: (c) at stride 1 half of the channels pass by, (d) at stride 2 none do.

    The branch is 1×1, depthwise 3×3, 1×1; at stride 2 the other half is depthwise 3×3, 1×1 of all channels.

    Args:
        channels: of the input.
        width: of the output; with stride 1 that of the input.
        stride: 1 or 2.
        form: "torchvision" (as the paper draws it): the first half passes by, and every unit ends by interleaving the
            halves; with stride 2 both make width/2. "megvii" (the authors' release): a unit at stride 1 begins by
            taking the even channels as the half that passes, none ends by interleaving; with stride 2 the other half
            keeps `channels`, so the branch makes width − channels.
        shuffle: False: the first half passes by and nothing is interleaved.
        attention: made for the width of the branch, at its end.

    Shape: (N, channels, H, W) → (N, width, ⌈H/stride⌉, ⌈W/stride⌉).
    Init: torch's default.
    Raises: ValueError: odd widths, widths that do not fit together, an unknown form.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        stride: int = 1,
        form: str = "torchvision",
        shuffle: bool = True,
        attention: Attention | None = None,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be 'torchvision' or 'megvii'; got {form!r}")
        if stride not in (1, 2):
            raise ValueError(f"ShuffleUnitV2: stride must be 1 or 2; got {stride!r}")
        if width % 2 or (stride == 1 and width != channels):
            wanted = f"channels = {channels}, and even" if stride == 1 else "even"
            raise ValueError(f"ShuffleUnitV2: with stride {stride} width must be {wanted}; got {width}")
        half = width // 2
        other = half if form == "torchvision" else channels
        if stride == 2 and width <= other:
            raise ValueError(f"ShuffleUnitV2: width must be more than channels = {channels}; got {width}")
        own = half if stride == 1 else width - other
        self.stride, self.form, self.shuffle = stride, form, shuffle
        self.other = (
            nn.Sequential(*_depthwise(channels, 2), *_conv(channels, other), nn.ReLU(inplace=True))
            if stride == 2
            else None
        )
        self.branch = nn.Sequential(
            *_conv(half if stride == 1 else channels, half),
            nn.ReLU(inplace=True),
            *_depthwise(half, stride),
            *_conv(half, own),
            nn.ReLU(inplace=True),
        )
        self.attention = attention(own) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        inside = self.form == "megvii"  # interleaved halves come in, or go out
        if self.other is not None:
            passed, y = self.other(x), self.branch(x)
        else:
            split = self.shuffle and inside
            passed, y = (x[:, ::2], x[:, 1::2]) if split else x.chunk(2, 1)
            y = self.branch(y)
        y = y if self.attention is None else self.attention(y)
        if inside or not self.shuffle:
            return torch.cat((passed, y), 1)
        return torch.stack((passed, y), 2).flatten(1, 2)


class ShuffleNetV2(nn.Module):
    """A 3×3 stem, a 3×3 max pool, three stages of units, a 1×1 convolution, a global mean, a linear layer.

    Args:
        num_classes: of the linear layer.
        in_channels: of the image.
        width: 0.5, 1, 1.5 or 2.
        widths: of the stem, three stages and the last 1×1, instead of those of `width`.
        repeats: units of the three stages.
        form: of the units, "torchvision" or "megvii", as in `ShuffleUnitV2`; megvii's linear layer has no bias.
        shuffle: False leaves the shuffles out.
        dropout: before the linear layer; None: 0.2 for megvii's width 2, as released, else 0.
        attention: name of a mechanism to build into every unit, at the end of its branch. The paper has SE in its
            largest network and does not say where; this place is ours.
        attention_options: its options.

    Shape: (N, in_channels, H, W) → (N, num_classes), for any H and W.
    Cost: 2,278,604 (torchvision) or 2,278,760 (megvii) parameters and 145.8 M multiply-adds at width 1, 1000 classes,
        224×224.
    Source: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV
        2018, arXiv:1807.11164. Departures: none with form="megvii" but a global mean where the release averages 7×7.
    Init: "torchvision": torch's default. "megvii": the released: convolutions N(0, 1 / channels of a group), the first
        N(0, 0.01), norms 1 and 0.0001, the linear layer N(0, 0.01). Attention its own.
    Raises: ValueError: another width without widths=, odd widths, an unknown form. LookupError, TypeError: an unknown
        mechanism, an option that it does not have.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        widths: Sequence[int] | None = None,
        repeats: Sequence[int] = (4, 8, 4),
        form: str = "torchvision",
        shuffle: bool = True,
        dropout: float | None = None,
        attention: str | None = None,
        attention_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if attention is None and attention_options:
            raise ValueError("attention_options need attention=; got none")
        if widths is None and width not in WIDTHS:
            raise ValueError(f"width must be one of {', '.join(map(str, WIDTHS))}, or give widths=; got {width!r}")
        if widths is not None and width != 1:
            raise ValueError(f"widths and width={width} cannot both be given")
        widths = WIDTHS[width] if widths is None else widths
        if len(widths) != 5 or len(repeats) != 3:
            raise ValueError(f"wanted five widths and three repeats; got {tuple(widths)} and {tuple(repeats)}")
        build = partial(create_attention, attention, **dict(attention_options or {})) if attention else None
        channels, *outs, last = widths
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels))
        stages = []
        for out, count in zip(outs, repeats, strict=True):
            units = []
            for index in range(count):
                stride = 1 if index else 2
                units.append(ShuffleUnitV2(channels, out, stride=stride, form=form, shuffle=shuffle, attention=build))
                channels = out
            stages.append(nn.Sequential(*units))
        self.stage2, self.stage3, self.stage4 = stages
        self.head = nn.Sequential(*_conv(channels, last))
        megvii = form == "megvii"
        self.dropout = nn.Dropout((0.2 if megvii and width == 2 else 0.0) if dropout is None else dropout)
        self.fc = nn.Linear(last, num_classes, bias=not megvii)
        if megvii:
            initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu_(self.stem(x)), 3, 2, 1)
        x = torch.relu_(self.head(self.stage4(self.stage3(self.stage2(x)))))
        return self.fc(self.dropout(x.mean((2, 3))))


register_network("shufflenet_v2")(ShuffleNetV2)
register_network("se_shufflenet_v2")(partial(ShuffleNetV2, attention="se"))
