"""Squeeze-and-Excitation as released in Caffe: hujie-frank/SENet. Layer names with `_` for `/`.

A block's keys may stand with or without the block's own name in front (conv2_1_1x1_reduce, 1x1_reduce).
"""

from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._residual import Bottleneck
from foveate.official._conversions import Build, official
from foveate.official._shared import Built

SOURCE = "hujie-frank/SENet"
KEYS = {
    "1x1_reduce": "conv1",
    "1x1_reduce_bn": "bn1",
    "3x3": "conv2",
    "3x3_bn": "bn2",
    "1x1_increase": "conv3",
    "1x1_increase_bn": "bn3",
    "1x1_down": "attention.reduce",
    "1x1_up": "attention.expand",
    "1x1_proj": "downsample.0",
    "1x1_proj_bn": "downsample.1",
}
GRAPHS = {
    "SE-ResNet-50": (3, 4, 6, 3),
    "SE-ResNet-101": (3, 4, 23, 3),
    "SE-ResNet-152": (3, 8, 36, 3),
    "SE-ResNeXt-50": (3, 4, 6, 3),
    "SE-ResNeXt-101": (3, 4, 23, 3),
    "SENet-154": (3, 8, 36, 3),
}


def _block(graph: str, name: str) -> Build:
    resnet, senet154 = "ResNet-" in graph, graph == "SENet-154"
    usual_groups = 1 if resnet else 64 if senet154 else 32

    def build(
        in_channels: int,
        mid: int,
        out: int,
        groups: int = usual_groups,
        r: int = 16,
        stride: int = 1,
        projection: bool = False,
    ) -> tuple[nn.Module, dict[str, str]]:
        """mid: width of the 3×3; SENet-154's first 1×1 has half of it, and its strided projections are 3×3."""
        wide = senet154 and not name.startswith("conv2_")
        block = Bottleneck(
            in_channels,
            mid,
            first_width=mid // 2 if senet154 else mid,
            out_channels=out,
            stride=stride,
            groups=groups,
            stride_on_first=resnet,
            shortcut=("wide" if wide else "projection") if projection else None,
            attention=partial(create_attention, "se", reduction=r),
        )
        return block, KEYS | {f"{name}_{theirs}": ours for theirs, ours in KEYS.items()}

    return build


for _graph, _depths in GRAPHS.items():
    for _stage, _depth in enumerate(_depths, 2):
        for _n in range(1, _depth + 1):
            _name = f"conv{_stage}_{_n}"
            official(SOURCE, f"models/{_graph}.prototxt, block {_name}")(_block(_graph, _name))


STEM = {"conv1_7x7_s2": "conv1", "conv1_7x7_s2_bn": "bn1"}
DEEP_STEM = {"conv1_1_3x3_s2": "conv1.0", "conv1_1_3x3_s2_bn": "conv1.1", "conv1_2_3x3": "conv1.3"}
DEEP_STEM |= {"conv1_2_3x3_bn": "conv1.4", "conv1_3_3x3": "conv1.6", "conv1_3_3x3_bn": "bn1"}


def _network(graph: str, depths: tuple[int, ...]) -> Build:
    name = graph.lower().replace("-", "_").replace("se_resnet_", "se_resnet").replace("se_resnext_", "se_resnext")
    name = "senet154" if graph == "SENet-154" else f"{name}_32x4d" if "resnext" in name else name
    keys = {**(DEEP_STEM if name == "senet154" else STEM), "classifier": "fc"}
    for stage, depth in enumerate(depths, 2):
        for n in range(1, depth + 1):
            keys |= {f"conv{stage}_{n}_{a}": f"layer{stage - 1}.{n - 1}.{b}" for a, b in KEYS.items()}

    def build(num_classes: int = 1000) -> Built:
        return create_network(name, num_classes=num_classes), keys

    return build


for _graph, _depths in GRAPHS.items():
    official(SOURCE, f"models/{_graph}.prototxt")(_network(_graph, _depths))
