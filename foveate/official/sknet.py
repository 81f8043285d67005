"""Selective Kernel Networks as released in Caffe: implus/SKNet. Layer names with `_` for `/`, without the block's."""

from functools import partial
from typing import Any

from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._residual import Bottleneck
from foveate.official._conversions import Build, official
from foveate.official._shared import Built

SOURCE = "implus/SKNet"
GRAPHS = {"models/sknet50.prototxt": (3, 4, 6, 3), "models/sknet101.prototxt": (3, 4, 23, 3)}
UNIT_KEYS = {
    "1x1_reduce": "conv1",
    "1x1_reduce_bn": "bn1",
    "1x1_increase": "conv3",
    "1x1_increase_bn": "bn3",
    "1x1_proj": "downsample.0",
    "1x1_proj_bn": "downsample.1",
}


def least_width(graph: str, stage: int) -> int:
    """L of d = max(C // r, L): 32, but the released SKNet-101 has d = 16 in all blocks conv3."""
    return 16 if graph == "models/sknet101.prototxt" and stage == 3 else 32


def _options(groups: int, branches: int, d: int | None, r: int, least: int, stride: int) -> dict[str, Any]:
    options = {"groups": groups, "branches": branches, "width": d, "reduction": r, "stride": stride}
    return options | {"minimum": least}


def _kernel_keys(branches: int, ours: str = "") -> dict[str, str]:
    keys = {"B_fc1": f"{ours}reduce", "B_fc1_bn": f"{ours}norm", "B_fc2": f"{ours}expand"}
    for m in range(branches):
        name = "3x3g32" if m == 0 else f"3x3g32d{m + 1}"
        keys |= {name: f"{ours}branches.{m}.0", f"{name}_bn": f"{ours}branches.{m}.1"}
    return keys


def _convolution(least: int) -> Build:
    def build(
        channels: int,
        groups: int = 32,
        branches: int = 2,
        d: int | None = None,
        r: int = 16,
        L: int = least,
        stride: int = 1,
    ) -> tuple[nn.Module, dict[str, str]]:
        options = _options(groups, branches, d, r, L, stride)
        return create_attention("sk", channels, **options), _kernel_keys(branches)

    return build


def _unit(least: int) -> Build:
    def build(
        in_channels: int,
        mid: int,
        out: int,
        groups: int = 32,
        d: int | None = None,
        stride: int = 1,
        projection: bool = False,
        branches: int = 2,
        r: int = 16,
        L: int = least,
    ) -> tuple[nn.Module, dict[str, str]]:
        block = Bottleneck(
            in_channels,
            mid,
            out_channels=out,
            stride=stride,
            middle=partial(create_attention, "sk", **_options(groups, branches, d, r, L, stride)),
            shortcut="projection" if projection else None,
        )
        return block, UNIT_KEYS | _kernel_keys(branches, "middle.")

    return build


for _graph, _depths in GRAPHS.items():
    for _stage, _depth in enumerate(_depths, 2):
        for _n in range(1, _depth + 1):
            _least = least_width(_graph, _stage)
            official(SOURCE, f"{_graph}, block conv{_stage}_{_n}")(_unit(_least))
            official(SOURCE, f"{_graph}, SK convolution of block conv{_stage}_{_n}")(_convolution(_least))


def _network(graph: str, depths: tuple[int, ...]) -> Build:
    keys = {"conv1_7x7_s2": "conv1", "conv1_7x7_s2_bn": "bn1", "classifier": "fc"}
    unit = UNIT_KEYS | _kernel_keys(2, "middle.")
    for stage, depth in enumerate(depths, 2):
        for n in range(1, depth + 1):
            keys |= {f"conv{stage}_{n}_{a}": f"layer{stage - 1}.{n - 1}.{b}" for a, b in unit.items()}
    name = graph.removeprefix("models/").removesuffix(".prototxt")

    def build(num_classes: int = 1000) -> Built:
        return create_network(name, num_classes=num_classes), keys

    return build


for _graph, _depths in GRAPHS.items():
    official(SOURCE, _graph)(_network(_graph, _depths))
