"""The Global Context block as released: xvjiarui/GCNet."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks._residual import Bottleneck
from foveate.official._conversions import official
from foveate.official._shared import Built, in_blocks, only

SOURCE = "xvjiarui/GCNet"
KEYS = {"conv_mask": "mask", "channel_add_conv": "add", "channel_mul_conv": "mul"}
FUSIONS = {("channel_add",): "add", ("channel_mul",): "mul", ("channel_add", "channel_mul"): "both"}


def _options(ratio: float, pooling_type: str = "att", fusion_types: Sequence[str] = ("channel_add",)) -> dict[str, Any]:
    kinds = (fusion_types,) if isinstance(fusion_types, str) else tuple(fusion_types)
    if (fusion := FUSIONS.get(tuple(sorted(set(kinds))))) is None:
        raise ValueError(f"ContextBlock: fusion_types must be of 'channel_add' and 'channel_mul'; got {fusion_types!r}")
    return {"ratio": ratio, "pooling": pooling_type, "fusion": fusion}


@official(SOURCE, "mmdet.ops.gcb.ContextBlock")
def context_block(
    inplanes: int, ratio: float, pooling_type: str = "att", fusion_types: Sequence[str] = ("channel_add",)
) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("gc", inplanes, **_options(ratio, pooling_type, fusion_types)), KEYS


@official(SOURCE, "mmdet resnet.Bottleneck")
def bottleneck(
    inplanes: int,
    planes: int,
    stride: int = 1,
    dilation: int = 1,
    downsample: bool = False,
    style: str = "pytorch",
    with_cp: bool = False,  # recomputation in training; the numbers are the same
    conv_cfg: Mapping[str, Any] | None = None,
    norm_cfg: Mapping[str, Any] | None = None,
    dcn: Mapping[str, Any] | None = None,
    gcb: Mapping[str, Any] | None = None,
    gen_attention: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, dict[str, str]]:
    """Plain convolutions and batch norms only: the file's deformable and generalised-attention blocks are not ours."""
    if dcn is not None or gen_attention is not None or (conv_cfg or {}).get("type", "Conv") != "Conv":
        raise ValueError("Bottleneck: dcn, gen_attention and a conv_cfg other than 'Conv' are not known here")
    if (norm_cfg or {}).get("type", "BN") not in ("BN", "SyncBN"):
        raise ValueError(f"Bottleneck: norm_cfg's type must be 'BN' or 'SyncBN'; got {norm_cfg!r}")
    if style not in ("pytorch", "caffe"):
        raise ValueError(f"Bottleneck: style must be 'pytorch' or 'caffe'; got {style!r}")
    block = Bottleneck(
        inplanes,
        planes,
        stride=stride,
        dilation=dilation,
        stride_on_first=style == "caffe",
        shortcut="projection" if downsample else None,
        attention=None if gcb is None else partial(create_attention, "gc", **_options(**gcb)),
    )
    return block, {f"context_block.{theirs}": f"attention.{ours}" for theirs, ours in KEYS.items()}


def classes_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The released backbone has no classifier; with the linear layer that makes one of it, "fc", it has."""
    weight = state.get("fc.weight")
    return {"num_classes": 0 if weight is None else len(weight)}


@official(SOURCE, "mmdet resnet.ResNet", infer=classes_of)
def resnet(
    depth: int,
    num_stages: int = 4,
    strides: Sequence[int] = (1, 2, 2, 2),
    dilations: Sequence[int] = (1, 1, 1, 1),
    out_indices: Sequence[int] = (0, 1, 2, 3),  # which maps the detector takes; `features` gives all
    style: str = "pytorch",
    frozen_stages: int = -1,  # this and the next have effect on training alone
    norm_eval: bool = True,
    conv_cfg: Mapping[str, Any] | None = None,
    norm_cfg: Mapping[str, Any] | None = None,
    dcn: Mapping[str, Any] | None = None,
    stage_with_dcn: Sequence[bool] = (False,) * 4,
    gcb: Mapping[str, Any] | None = None,
    stage_with_gcb: Sequence[bool] = (False,) * 4,
    gen_attention: Mapping[str, Any] | None = None,
    stage_with_gen_attention: Sequence[Sequence[int]] = ((),) * 4,
    with_cp: bool = False,  # recomputation in training; the numbers are the same
    zero_init_residual: bool = True,
    num_classes: int = 0,  # not an argument there: the classifier that is put behind it
) -> Built:
    """Of four stages of usual strides, with plain convolutions and batch norms."""
    only("ResNet", num_stages=(num_stages, 4), strides=(tuple(strides), (1, 2, 2, 2)))
    only("ResNet", dilations=(tuple(dilations), (1, 1, 1, 1)), dcn=(dcn, None), gen_attention=(gen_attention, None))
    only("ResNet", conv_cfg=((conv_cfg or {}).get("type", "Conv"), "Conv"))
    if (norm_cfg or {}).get("type", "BN") not in ("BN", "SyncBN"):
        raise ValueError(f"ResNet: norm_cfg's type must be 'BN' or 'SyncBN'; got {norm_cfg!r}")
    if style not in ("pytorch", "caffe"):
        raise ValueError(f"ResNet: style must be 'pytorch' or 'caffe'; got {style!r}")
    on_first = style == "caffe" and depth >= 50
    if gcb is None or not any(stage_with_gcb):
        network = create_network(f"resnet{depth}", num_classes=num_classes, stride_on_first=on_first)
        return network, {}
    network = create_network(
        f"gc_resnet{depth}",
        num_classes=num_classes,
        stages=list(stage_with_gcb),
        stride_on_first=on_first,
        **_options(**gcb),
    )
    return network, in_blocks(KEYS, "context_block")
