"""ECA-Net: ResNets with Efficient Channel Attention in every block. arXiv:1910.03151."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from foveate.networks._registry import register_network
from foveate.networks.resnet import DEPTHS, ResNet, resnet

RELEASED = {18: (3, 5, 7, 7), 34: (3, 3, 5, 7), 50: (3, 5, 5, 7), 101: (3, 3, 5, 7), 152: (3, 3, 5, 7)}


def eca_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    kernel_sizes: Sequence[int] | str = (3, 3, 3, 3),
    placement: str = "standard",
) -> ResNet:
    """ResNet with ECA at the end of every branch.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem, placement: as in `ResNet`.
        kernel_sizes: k of each stage; (3, 3, 3, 3) is the released constructor's. "released": those in the names of the
            released checkpoints (k3557 at depth 50). "adaptive": the paper's formula ((5, 5, 5, 7) at depth 50).

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 25,557,080 parameters at depth 50 with k = 3, 25,557,112 as released.
    Init: that of `ResNet`; the kernels torch's Conv1d default.
    Source: Wang, Wu, Zhu, Li, Zuo, Hu, "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
        CVPR 2020.
    Raises: ValueError: another depth, an unknown stem or placement, kernel sizes that are not four odd numbers.
    """
    options: Mapping[str, Any] | list[Mapping[str, Any]]
    if kernel_sizes == "adaptive":
        options = {"variant": "paper"}
    elif isinstance(kernel_sizes, str):
        if kernel_sizes != "released":
            raise ValueError(f"kernel_sizes must be four numbers, 'released' or 'adaptive'; got {kernel_sizes!r}")
        options = [{"kernel_size": size} for size in RELEASED.get(depth, (3, 3, 3, 3))]
    else:
        options = [{"kernel_size": size} for size in kernel_sizes]
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        attention="eca",
        attention_options=options,
        placement=placement,
    )


for _depth in DEPTHS:
    register_network(f"eca_resnet{_depth}")(partial(eca_resnet, _depth))
