"""The residual network, written once: every network of residual blocks here is this one with options. arXiv:1512.03385.

The files beside this one say what each paper builds of it, and register the names.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveate.networks._attention_factory import AttentionFactory, Options
from foveate.networks._preactivation import PreActivationBasicBlock, PreActivationBottleneck
from foveate.networks._registry import register_network
from foveate.networks._residual import BasicBlock, Bottleneck

DEPTHS: dict[int, tuple[str, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
_CLASSES: dict[str, type[nn.Module]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "preact-basic": PreActivationBasicBlock,
    "preact-bottleneck": PreActivationBottleneck,
}
_STEMS = ("imagenet", "caffe", "caffe-deep", "cifar")
_SHORTCUTS = ("projection", "wide", "pad")


class ResNet(nn.Module):
    """A stem, stages of residual blocks, each but the first at half the resolution, a global mean, a linear layer.

    Attention of any name stands in the blocks, instead of their 3×3, or after stages; `foveate.insert` puts it into a
    network that stands already.

    Args:
        blocks: number of blocks of each stage.
        num_classes: of the linear layer; 0: none, the network gives the means.
        block: "basic" (3×3, 3×3), "bottleneck" (1×1, 3×3, 1×1), or with norm and ReLU before the convolutions
            "preact-basic", "preact-bottleneck".
        in_channels: of the image.
        stem: "imagenet" (7×7 at stride 2, 3×3 max-pool padded by 1), "caffe" (its max-pool is not padded and rounds up:
            other borders), "caffe-deep" (three 3×3 for the 7×7, then the same pool) or "cifar" (3×3 at stride 1, no
            pool).
        stem_width: channels of the stem's first convolution; None: those of the first stage. "caffe-deep" ends with
            twice as many.
        widths: of the stages; a bottleneck gives four times as many channels.
        groups: of the 3×3 of a bottleneck (ResNeXt-50: 32).
        base_width: the 3×3 of a bottleneck has int(width · base_width / 64) · groups channels (ResNeXt-50: 4).
        narrow: the first 1×1 of a bottleneck has half as many channels as the 3×3 (SENet-154).
        stride_on_first: a bottleneck strides in its first 1×1 (Caffe), not in its 3×3 (torch).
        shortcut: where the shape changes: "projection" (1×1 and norm), "wide" (3×3 where it strides) or "pad" (no
            parameters: every second pixel, zero channels).
        zero_init: the last norm of each branch starts at 0, so that each block starts as its shortcut.
        dropout: before the linear layer, in training.
        attention: name of a mechanism.
        attention_options: its options, or a list of them, one for each stage.
        placement: "standard" (the end of the branch, before the add), "pre", "post" or "identity" (see
            `residual.BasicBlock`), "kernel" (instead of the 3×3 of a bottleneck, its norm and ReLU) or "stage" (after
            each stage but the last).
        attention_blocks: for each stage whether its blocks have attention, or which (counted from 0). None: all; with
            "stage" all stages but the last.

    Shape: (N, in_channels, H, W) → (N, num_classes); any H and W, the Caffe stems need at least 3 pixels.
    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385; "Identity
        Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027. Departures: a bottleneck strides in its 3×3
        unless `stride_on_first`.
    Init: He normal (fan out) for convolutions, norms 1 and 0, torch's default for the linear layer; attention its own.
    Raises: ValueError: values that cannot be, or that such blocks do not have. LookupError, TypeError: an unknown
        mechanism, an option that it does not have.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        num_classes: int = 1000,
        *,
        block: str = "bottleneck",
        in_channels: int = 3,
        stem: str = "imagenet",
        stem_width: int | None = None,
        widths: Sequence[int] = (64, 128, 256, 512),
        groups: int = 1,
        base_width: int = 64,
        narrow: bool = False,
        stride_on_first: bool = False,
        shortcut: str = "projection",
        zero_init: bool = False,
        dropout: float = 0.0,
        attention: str | None = None,
        attention_options: Options | Sequence[Options] | None = None,
        placement: str = "standard",
        attention_blocks: Sequence[bool | Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        _check(block, stem, shortcut, zero_init, blocks, widths)
        factory = AttentionFactory(attention, attention_options, placement, attention_blocks, blocks, block)
        self.preactivated = block.startswith("preact")
        channels = self._build_stem(stem, in_channels, stem_width or widths[0])
        self.stages = tuple(f"layer{stage + 1}" for stage in range(len(blocks)))
        self.between = nn.ModuleDict()
        for stage, (name, width) in enumerate(zip(self.stages, widths, strict=True)):
            out = width * (4 if block.endswith("bottleneck") else 1)
            units: list[nn.Module] = []
            for index in range(blocks[stage]):
                stride = 2 if stage and not index else 1
                kind = None
                if stride > 1 or channels != out:
                    kind = "projection" if shortcut == "wide" and stride == 1 else shortcut
                options: dict[str, Any] = {
                    "stride": stride,
                    "shortcut": kind,
                    "attention": factory.in_block(stage, index),
                    "placement": placement if factory.in_block(stage, index) else "standard",
                }
                options |= _of_bottleneck(block, width, groups, base_width, narrow, stride_on_first)
                if block == "bottleneck":
                    options["middle"] = factory.instead_of_kernel(stage, index, 1 if stride_on_first else stride)
                units.append(_CLASSES[block](channels, options.pop("width", width), **options))
                channels = out
            setattr(self, name, nn.Sequential(*units))
            if build := factory.after_stage(stage):
                self.between[name] = build(channels)
        self.last_norm = nn.BatchNorm2d(channels) if self.preactivated else None
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self._start(zero_init)

    def _build_stem(self, stem: str, in_channels: int, width: int) -> int:
        """Builds the stem; returns its channels."""
        if stem == "caffe-deep":
            self.conv1: nn.Module = nn.Sequential(
                nn.Conv2d(in_channels, width, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False),
            )
            width *= 2
        elif stem == "cifar":
            self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = None if self.preactivated else nn.BatchNorm2d(width)
        self.maxpool = None
        if stem != "cifar":
            caffe = stem.startswith("caffe")
            self.maxpool = nn.MaxPool2d(3, 2, 0 if caffe else 1, ceil_mode=caffe)
        return width

    def _start(self, zero_init: bool) -> None:
        own = [module for name, module in self.named_modules() if not _is_attention(name)]
        for module in own:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in own if zero_init else ():
            if isinstance(module, BasicBlock | Bottleneck):
                nn.init.zeros_((module.bn2 if isinstance(module, BasicBlock) else module.bn3).weight)

    def features(self, x: Tensor) -> list[Tensor]:
        """What each stage gives, its attention behind it included, shallow to deep."""
        x = self.conv1(x)
        x = x if self.bn1 is None else torch.relu_(self.bn1(x))
        x = x if self.maxpool is None else self.maxpool(x)
        found = []
        for name in self.stages:
            x = getattr(self, name)(x)
            if name in self.between:
                x = self.between[name](x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)[-1]
        x = x if self.last_norm is None else torch.relu(self.last_norm(x))
        x = x.mean((2, 3))
        return self.fc(x if self.dropout is None else self.dropout(x))


def _is_attention(name: str) -> bool:
    return bool({"attention", "middle", "between"} & set(name.split(".")))


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, known))}; got {value!r}")


def _check(block: str, stem: str, shortcut: str, zero_init: bool, blocks: Sequence[int], widths: Sequence[int]) -> None:
    _one_of("block", block, list(_CLASSES))
    _one_of("stem", stem, _STEMS)
    _one_of("shortcut", shortcut, ("projection", "pad") if block.startswith("preact") else _SHORTCUTS)
    if zero_init and block.startswith("preact"):
        raise ValueError(f"zero_init is no option of block={block!r}, whose branches end in a convolution")
    if not blocks or len(widths) != len(blocks) or min(*blocks, *widths) < 1:
        raise ValueError(f"wanted a number of blocks and a width for each stage; got {blocks!r} and {widths!r}")


def _of_bottleneck(
    block: str, width: int, groups: int, base_width: int, narrow: bool, stride_on_first: bool
) -> dict[str, Any]:
    """The options that only bottlenecks have. Raises: ValueError: if another block is given them."""
    given = {
        "groups": groups != 1,
        "base_width": base_width != 64,
        "narrow": narrow,
        "stride_on_first": stride_on_first,
    }
    has = () if block.endswith("basic") else tuple(given) if block == "bottleneck" else ("groups", "base_width")
    if odd := [name for name, value in given.items() if value and name not in has]:
        raise ValueError(f"{odd[0]} is no option of block={block!r}")
    if block.endswith("basic"):
        return {}
    inner = int(width * base_width / 64) * groups
    options = {"width": inner, "out_channels": 4 * width, "groups": groups}
    if block == "bottleneck":
        options |= {"stride_on_first": stride_on_first, "first_width": inner // 2 if narrow else inner}
    return options


def resnet(depth: int, num_classes: int = 1000, **options: Any) -> ResNet:
    """The residual network of 18, 34, 50, 101 or 152 layers; the options are those of `ResNet`.

    Raises: as `ResNet`; ValueError: another depth.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(map(str, DEPTHS))}; got {depth}")
    block, blocks = DEPTHS[depth]
    return ResNet(blocks, num_classes, **{"block": block, **options})


for _depth, (_block, _blocks) in DEPTHS.items():
    register_network(f"resnet{_depth}")(partial(ResNet, _blocks, block=_block))
