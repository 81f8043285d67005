"""Efficient Channel Attention as released: BangguWu/ECANet."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._inverted_residual import InvertedResidual
from foveate.networks._residual import BasicBlock, Bottleneck
from foveate.official._conversions import official
from foveate.official._shared import Built
from foveate.official.vision import mobilenet_keys

SOURCE = "BangguWu/ECANet"


def kernels_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whether the kernel is shared, which the weight's rows tell: eca_module.py has one row, eca_ns.py C of them."""
    weight = state.get("conv.weight")
    return {"shared": weight is None or weight.shape[0] == 1}


def layer(channel: int, k_size: int = 3, shared: bool = True) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("eca", channel, kernel_size=k_size, shared=shared), {"conv": ""}


official(SOURCE, "eca_layer", infer=kernels_of)(layer)
official(SOURCE, "eca_module.eca_layer")(partial(layer, shared=True))
official(SOURCE, "eca_ns.eca_layer")(partial(layer, shared=False))


def _block(
    cls: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, stride: int, downsample: bool, k_size: int
) -> tuple[nn.Module, dict[str, str]]:
    attention = partial(create_attention, "eca", kernel_size=k_size)
    shortcut = "projection" if downsample else None
    return cls(inplanes, planes, stride=stride, shortcut=shortcut, attention=attention), {"eca.conv": "attention"}


@official(SOURCE, "ECABottleneck")
def bottleneck(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, k_size: int = 3
) -> tuple[nn.Module, dict[str, str]]:
    return _block(Bottleneck, inplanes, planes, stride, downsample, k_size)


@official(SOURCE, "ECABasicBlock")
def basic_block(
    inplanes: int, planes: int, stride: int = 1, downsample: bool = False, k_size: int = 3
) -> tuple[nn.Module, dict[str, str]]:
    return _block(BasicBlock, inplanes, planes, stride, downsample, k_size)


@official(SOURCE, "eca_mobilenetv2.InvertedResidual")
def inverted_residual(
    inp: int, oup: int, stride: int, expand_ratio: float, k_size: int
) -> tuple[nn.Module, dict[str, str]]:
    if stride not in (1, 2):
        raise ValueError(f"InvertedResidual: stride must be 1 or 2; got {stride!r}")
    attention = partial(create_attention, "eca", kernel_size=k_size)
    block = InvertedResidual(inp, oup, stride=stride, expansion=expand_ratio, attention=attention, place="narrow")
    return block, _mobile_keys(expand_ratio)


def _mobile_keys(expand_ratio: float) -> dict[str, str]:
    wide = ["depthwise"] if expand_ratio == 1 else ["expand", "depthwise"]
    keys = {f"conv.{i}": ours for i, ours in enumerate([*wide, "project.0", "project.1"])}
    return {**keys, f"conv.{len(keys)}.conv": "attention"}


@official(SOURCE, "eca_mobilenetv2.ECA_MobileNetV2", "eca_mobilenet_v2")
def mobilenet_v2(num_classes: int = 1000, width_mult: float = 1.0) -> tuple[nn.Module, dict[str, str]]:
    network = create_network("eca_mobilenet_v2", num_classes=num_classes, width=width_mult, divisor=1)
    return network, mobilenet_keys(_mobile_keys)


def stage_kernels_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """k of each stage, which the checkpoints' names tell, and their tensors too."""
    weights = [state.get(f"layer{stage}.0.eca.conv.weight") for stage in (1, 2, 3, 4)]
    return {"k_size": [w.shape[-1] for w in weights if w is not None]} if all(w is not None for w in weights) else {}


def _network(
    depth: int, k_size: Sequence[int] = (3, 3, 3, 3), num_classes: int = 1000, pretrained: bool = False
) -> Built:
    """k_size is that of the weights unless it is given. The released eca_resnet18 always has 3."""
    network = create_network(f"eca_resnet{depth}", num_classes=num_classes, kernel_sizes=[int(k) for k in k_size])
    return network, {"*.*.eca.conv": "*.*.attention"}


for _depth in (18, 34, 50, 101, 152):
    official(SOURCE, f"eca_resnet{_depth}", infer=stage_kernels_of)(partial(_network, _depth))
