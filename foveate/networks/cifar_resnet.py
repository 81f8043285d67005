"""The small residual networks of the CIFAR experiments. arXiv:1512.03385, section 4.2."""

from collections.abc import Sequence
from functools import partial

from foveate.networks._attention_factory import Options
from foveate.networks._registry import register_network
from foveate.networks.resnet import ResNet

DEPTHS = (8, 14, 20, 32, 44, 56, 110)


def cifar_resnet(
    depth: int,
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: str = "pad",
    attention: str | None = None,
    attention_options: Options | Sequence[Options] | None = None,
    placement: str = "standard",
    attention_blocks: Sequence[bool | Sequence[int]] | None = None,
) -> ResNet:
    """A 3×3 stem, three stages of basic blocks at full, half and quarter resolution, a global mean, a linear layer.

    Args:
        depth: 6n + 2; n blocks a stage.
        num_classes: of the linear layer.
        in_channels: of the image.
        widths: channels of the three stages; the paper's are 16, 32, 64.
        shortcut: "pad" (the paper's option A, no parameters) or "projection" (option B).
        attention, attention_options, placement, attention_blocks: as in `ResNet`.

    Shape: (N, in_channels, H, W) → (N, num_classes), for any H and W.
    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. Departures: none with "pad".
    Init: He normal (fan out) for convolutions, norms 1 and 0, torch's default for the linear layer; attention its own.
    Raises: ValueError: a depth that is not 6n + 2, an unknown shortcut or placement, options or a placement without
        attention. LookupError, TypeError: an unknown mechanism, an option that it does not have.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, …); got {depth}")
    return ResNet(
        ((depth - 2) // 6,) * 3,
        num_classes,
        block="basic",
        in_channels=in_channels,
        stem="cifar",
        widths=widths,
        shortcut=shortcut,
        attention=attention,
        attention_options=attention_options,
        placement=placement,
        attention_blocks=attention_blocks,
    )


for _depth in DEPTHS:
    register_network(f"resnet{_depth}", shape=(3, 32, 32))(partial(cifar_resnet, _depth))
