"""ResNets with non-local blocks after some of their blocks. arXiv:1711.07971."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks.resnet import DEPTHS, ResNet, resnet

COUNTS = {1: (0, 1), 5: (2, 3), 10: (4, 6)}  # of res3 and res4


def nl_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "imagenet",
    blocks: int = 5,
    form: str = "embedded_gaussian",
    sub_sample: bool = False,
) -> ResNet:
    """ResNet with 1, 5 or 10 non-local blocks, each behind a block's last ReLU.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: as in `ResNet`.
        blocks: 1 (right before the last block of res4), 5 (2 in res3 and 3 in res4, evenly: every other block at depth
            50; blocks 1, 3 and 6, 13, 20 at depth 101) or 10 (4 and 6).
        form: of the affinity, as in the mechanism "nl".
        sub_sample: keys and values are pooled by 2.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: at depth 50 with 5 blocks 7.36 M parameters more, memory for (H·W)² affinities of res3 and res4.
    Init: that of `ResNet`; each non-local block starts as the identity.
    Source: Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018. Departures: images; the paper's networks
        are for video.
    Raises: ValueError: another depth, a number of blocks that is none of these or that the stages have not.
    """
    chosen = blocks_of_stages(depth, blocks)
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        attention="nl",
        attention_options={"form": form, "sub_sample": sub_sample},
        placement="post",
        attention_blocks=chosen,
    )


def blocks_of_stages(depth: int, blocks: int) -> list[list[int]]:
    """For each stage of a ResNet the blocks that a non-local block follows, of 1, 5 or 10 in all.

    Raises: ValueError: as `nl_resnet`.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(map(str, DEPTHS))}; got {depth}")
    if blocks not in COUNTS:
        raise ValueError(f"blocks must be 1, 5 or 10; got {blocks!r}")
    have = DEPTHS[depth][1]
    chosen: list[list[int]] = [[], [], [], []]
    if blocks == 1:
        chosen[2] = [have[2] - 2]
        return chosen
    for stage, wanted in zip((1, 2), COUNTS[blocks], strict=True):
        if have[stage] < wanted:
            raise ValueError(f"blocks={blocks} needs {wanted} blocks in stage {stage}; depth {depth} has {have[stage]}")
        step = have[stage] // wanted
        chosen[stage] = list(range(step - 1, have[stage], step))[:wanted]
    return chosen


for _depth in (50, 101, 152):
    register_network(f"nl_resnet{_depth}")(partial(nl_resnet, _depth))
