"""GCNet: ResNets with the Global Context block in their later stages. arXiv:1904.11492."""

from collections.abc import Sequence
from functools import partial

from foveate.networks._registry import register_network
from foveate.networks.resnet import ResNet, resnet


def gc_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    stages: Sequence[bool | Sequence[int]] = (False, True, True, True),
    ratio: float = 1 / 16,
    pooling: str = "att",
    fusion: str = "add",
    stride_on_first: bool = False,
    zero_init: bool = False,
    placement: str = "standard",
) -> ResNet:
    """ResNet with the GC block at the end of the branches of stages c3 to c5.

    Args:
        depth: 50, 101 or 152.
        stem, stride_on_first, zero_init, placement: as in `ResNet`.
        stages: for each stage whether its blocks have it, or which of them.
        ratio: of the transforms' inner width to the channels, 1/16 or 1/4 in the paper.
        pooling: "att" or "avg".
        fusion: "add", "mul" (the paper's scale) or "both".

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 28,078,773 parameters at depth 50, 35,557,941 with ratio 1/4.
    Init: that of `ResNet`; the last layer of each transform is 0 (mmdet's own init_weights without a checkpoint loses
        that, and starts the last norms at 0: `zero_init`).
    Source: Cao, Xu, Lin, Wei, Hu, "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", ICCV
        workshops 2019. Departures: a linear layer at the end; the released backbone has none (num_classes=0).
    Raises: ValueError: another depth, unknown values.
    """
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        stride_on_first=stride_on_first,
        zero_init=zero_init,
        attention="gc",
        attention_options={"ratio": ratio, "pooling": pooling, "fusion": fusion},
        placement=placement,
        attention_blocks=stages,
    )


for _depth in (50, 101, 152):
    register_network(f"gc_resnet{_depth}")(partial(gc_resnet, _depth))
