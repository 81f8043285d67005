"""ShuffleNet v1 and v2 as their authors released them: megvii-model/ShuffleNet-Series."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from foveate.networks import create_network
from foveate.networks.shufflenet_v1 import ShuffleUnit, stage_widths
from foveate.networks.shufflenet_v2 import ShuffleUnitV2
from foveate.official._conversions import official

SOURCE = "megvii-model/ShuffleNet-Series"
SIZES = {"0.5x": 0.5, "1.0x": 1.0, "1.5x": 1.5, "2.0x": 2.0}
V1_UNIT = {"branch_main_1.0": "reduce.0", "branch_main_1.1": "reduce.1", "branch_main_1.3": "depthwise.0"}
V1_UNIT |= {"branch_main_1.4": "depthwise.1", "branch_main_2": "expand"}
V2_UNIT = {"branch_main": "branch", "branch_proj": "other"}
REPEATS = (4, 8, 4)


def _check_kernel(cls: str, ksize: int) -> None:
    if ksize != 3:
        raise ValueError(f"{cls}: ksize must be 3; got {ksize!r}")


@official(SOURCE, "ShuffleV1Block")
def unit_v1(
    inp: int, oup: int, group: int, first_group: bool, mid_channels: int, ksize: int, stride: int
) -> tuple[nn.Module, dict[str, str]]:
    _check_kernel("ShuffleV1Block", ksize)
    unit = ShuffleUnit(inp, oup, groups=group, stride=stride, middle=mid_channels, dense_first=first_group)
    return unit, V1_UNIT


@official(SOURCE, "ShuffleV2Block")
def unit_v2(inp: int, oup: int, mid_channels: int, ksize: int, stride: int) -> tuple[nn.Module, dict[str, str]]:
    """At stride 1 `inp` is half of what comes in."""
    _check_kernel("ShuffleV2Block", ksize)
    if mid_channels != oup // 2:
        raise ValueError(f"ShuffleV2Block: mid_channels must be oup // 2 = {oup // 2}; got {mid_channels}")
    if stride == 1 and oup != 2 * inp:
        raise ValueError(f"ShuffleV2Block: at stride 1 oup must be twice inp = {2 * inp}; got {oup}")
    return ShuffleUnitV2(inp * 2 if stride == 1 else inp, oup, stride=stride, form="megvii"), V2_UNIT


def _keys(unit: dict[str, str], repeats: Sequence[int] = REPEATS) -> dict[str, str]:
    """Of a network whose units are numbered through."""
    keys = {"first_conv": "stem", "conv_last": "head", "classifier.0": "fc"}
    places = [(stage, index) for stage, count in enumerate(repeats, 2) for index in range(count)]
    for number, (stage, index) in enumerate(places):
        keys |= {f"features.{number}.{a}": f"stage{stage}.{index}.{b}" for a, b in unit.items()}
    return keys


def _factor(cls: str, model_size: str) -> float:
    if model_size not in SIZES:
        raise ValueError(f"{cls}: model_size must be one of {', '.join(SIZES)}; got {model_size!r}")
    return SIZES[model_size]


@official(SOURCE, "ShuffleNetV1")
def network_v1(
    group: int,
    input_size: int = 224,
    n_class: int = 1000,
    model_size: str = "2.0x",
    stage_out_channels: Sequence[int] | None = None,
) -> tuple[nn.Module, dict[str, str]]:
    """`stage_out_channels` starts with −1, as the class keeps them; None: those of `model_size`."""
    del input_size  # any size works here
    factor = _factor("ShuffleNetV1", model_size)
    widths = stage_widths(group, factor) if stage_out_channels is None else tuple(stage_out_channels)[1:]
    network = create_network("shufflenet_v1", num_classes=n_class, groups=group, widths=widths)
    return network, _keys(V1_UNIT)


@official(SOURCE, "ShuffleNetV2")
def network_v2(
    input_size: int = 224,
    n_class: int = 1000,
    model_size: str = "1.5x",
    stage_out_channels: Sequence[int] | None = None,
) -> tuple[nn.Module, dict[str, str]]:
    del input_size
    factor = _factor("ShuffleNetV2", model_size)
    chosen: dict[str, Any] = {"width": factor}
    if stage_out_channels is not None:
        chosen = {"widths": tuple(stage_out_channels)[1:]}
    network = create_network("shufflenet_v2", num_classes=n_class, form="megvii", **chosen)
    return network, _keys(V2_UNIT)
