"""ShuffleNet v2 and MobileNetV2 as torchvision has them: pytorch/vision."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from foveate.networks import create_network
from foveate.networks._inverted_residual import InvertedResidual
from foveate.networks.mobilenet_v2 import STAGES
from foveate.networks.shufflenet_v2 import WIDTHS, ShuffleUnitV2
from foveate.official._conversions import official

SOURCE = "pytorch/vision"
UNIT = {"branch2": "branch", "branch1": "other"}
Built = tuple[nn.Module, dict[str, str]]


@official(SOURCE, "InvertedResidual", "shufflenetv2.InvertedResidual")
def unit_v2(inp: int, oup: int, stride: int) -> Built:
    return ShuffleUnitV2(inp, oup, stride=stride), UNIT


@official(SOURCE, "ShuffleNetV2")
def shufflenet_v2(stages_repeats: Sequence[int], stages_out_channels: Sequence[int], num_classes: int = 1000) -> Built:
    options: dict[str, Any] = {"widths": list(stages_out_channels), "repeats": list(stages_repeats)}
    network = create_network("shufflenet_v2", num_classes=num_classes, **options)
    keys = {"conv1": "stem", "conv5": "head"}
    keys |= {f"stage{n}.*.{a}": f"stage{n}.*.{b}" for n in (2, 3, 4) for a, b in UNIT.items()}
    return network, keys


def _named(width: float, num_classes: int = 1000) -> Built:
    return shufflenet_v2((4, 8, 4), WIDTHS[width], num_classes)


for _width in WIDTHS:
    official(SOURCE, f"shufflenet_v2_x{_width}".replace(".", "_"))(partial(_named, _width))


def _unit_keys(expansion: int) -> dict[str, str]:
    if expansion == 1:
        return {"conv.0": "depthwise", "conv.1": "project.0", "conv.2": "project.1"}
    return {"conv.0": "expand", "conv.1": "depthwise", "conv.2": "project.0", "conv.3": "project.1"}


@official(SOURCE, "mobilenetv2.InvertedResidual")
def inverted_residual(inp: int, oup: int, stride: int, expand_ratio: int) -> Built:
    return InvertedResidual(inp, oup, stride=stride, expansion=expand_ratio), _unit_keys(expand_ratio)


@official(SOURCE, "MobileNetV2", "mobilenet_v2")
def mobilenet_v2(
    num_classes: int = 1000, width_mult: float = 1.0, round_nearest: int = 8, dropout: float = 0.2
) -> Built:
    options: dict[str, Any] = {"width": width_mult, "divisor": round_nearest, "dropout": dropout}
    network = create_network("mobilenet_v2", num_classes=num_classes, **options)
    return network, mobilenet_keys(_unit_keys)


def mobilenet_keys(unit: Callable[[int], dict[str, str]], last: str = "features.18") -> dict[str, str]:
    """Of a MobileNetV2 whose stem and blocks are numbered through under "features"."""
    keys = {"features.0": "stem", last: "head", "classifier.1": "fc"}
    expansions = [expansion for expansion, _, repeats, _ in STAGES for _ in range(repeats)]
    for number, expansion in enumerate(expansions):
        keys |= {f"features.{number + 1}.{a}": f"blocks.{number}.{b}" for a, b in unit(expansion).items()}
    return keys
