"""Selective Kernel networks, the paper's and the authors' lighter form. arXiv:1903.06586."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from foveate.attention.sk import Groups
from foveate.networks._registry import register_network
from foveate.networks.resnet import ResNet, resnet

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def sknet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "caffe",
    branches: int | None = None,
    kernels: Sequence[tuple[int, int]] | None = None,
    groups: Groups | Sequence[Groups] = 32,
    reduction: int = 16,
    minimum: int = 32,
    as_released: bool = True,
) -> ResNet:
    """SKNet: a ResNeXt whose 3×3 is a selective kernel, and twice as wide as a ResNet's.

    Args:
        depth: 26, 50 or 101.
        stem: "caffe" (the authors'), "imagenet" or "cifar", as in `ResNet`.
        branches, kernels, groups: M, the (kernel size, dilation) of each and G, as in the attention "sk".
        reduction, minimum: r and L of the hidden width max(C // r, L).
        as_released: at depth 101 the second stage has the least width 16, as the released file has, not L.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 27,479,784 parameters at depth 50, 48,686,760 at depth 101 (the paper says 48.9 M).
    Init: as the prototxt has it: He normal (fan in) for convolutions, N(0, 0.01) for the attention's layers and the
        linear layer, norms 1 and 0. Departures: norms keep 0.9 of the old statistics, Caffe's 0.95.
    Source: Li, Wang, Hu, Yang, "Selective Kernel Networks", CVPR 2019.
    Raises: ValueError: another depth, groups that do not split the channels; in training a batch of one.
    """
    if depth not in BLOCKS:
        raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}; got {depth}")
    options: list[dict[str, Any]] = [
        {"branches": branches, "kernels": kernels, "groups": groups, "reduction": reduction, "minimum": minimum}
        for _ in BLOCKS[depth]
    ]
    if as_released and depth == 101:
        options[1]["minimum"] = 16
    network = ResNet(
        BLOCKS[depth],
        num_classes,
        in_channels=in_channels,
        stem=stem,
        base_width=128,
        attention="sk",
        attention_options=options,
        placement="kernel",
    )
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and ".middle." not in name:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    if isinstance(network.fc, nn.Linear):
        nn.init.normal_(network.fc.weight, std=0.01)
        nn.init.zeros_(network.fc.bias)
    return network


def sk_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    groups: int = 32,
    reduction: int = 16,
) -> ResNet:
    """SK-ResNet*: a ResNet whose 3×3 is a dense and a grouped 3×3, mixed.

    Args:
        depth: 50, 101 or 152.
        stem: as in `ResNet`.
        groups: of the grouped 3×3.
        reduction: r of the hidden width C // r, which has no least value.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 26,154,496 parameters at depth 50.
    Init: He normal (fan out) for every convolution, those of the attention too.
    Source: the authors' models in PyTorchInsight, beside "Spatial Group-wise Enhance", 2019.
    Raises: ValueError: another depth, groups that do not split the channels; in training a batch of one.
    """
    options: dict[str, Any] = {"form": "light", "groups": groups, "reduction": reduction}
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        attention="sk",
        attention_options=options,
        placement="kernel",
    )


for _depth in BLOCKS:
    register_network(f"sknet{_depth}")(partial(sknet, _depth))
for _depth in (50, 101, 152):
    register_network(f"sk_resnet{_depth}")(partial(sk_resnet, _depth))
