"""Non-local blocks as in open-mmlab/mmcv."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from foveate.attention import create_attention
from foveate.official._conversions import official

SOURCE = "open-mmlab/mmcv"
CONVOLUTIONS = (None, "Conv", "Conv1d", "Conv2d", "Conv3d")
BATCH_NORMS = ("BN", "BN1d", "BN2d", "BN3d", "SyncBN")


def non_local(
    spatial_dims: int,
    in_channels: int,
    sub_sample: bool = False,
    conv_cfg: Mapping[str, Any] | None = None,
    reduction: int = 2,
    use_scale: bool = True,
    norm_cfg: Mapping[str, Any] | None = None,
    mode: str = "embedded_gaussian",
    std: float = 0.01,
    zeros_init: bool = True,
) -> tuple[nn.Module, dict[str, str]]:
    """std and zeros_init say how the official class starts, which loaded weights replace."""
    if conv_cfg is not None and conv_cfg.get("type") not in CONVOLUTIONS:
        raise ValueError(f"mmcv: conv_cfg's type must be a plain convolution; got {conv_cfg.get('type')!r}")
    module = create_attention(
        "nl",
        in_channels,
        spatial_dims=spatial_dims,
        form=mode,
        width=max(in_channels // reduction, 1),
        sub_sample=sub_sample,
        pool_first=False if sub_sample else None,
        scale=use_scale and mode == "embedded_gaussian",
        norm=norm_cfg is not None,
        out_bias=norm_cfg is None,
    )
    keys = {"concat_project.conv.weight": "join", "theta.conv": "theta", "conv_out.conv": "out"}
    for name in ("g", "phi"):
        keys[f"{name}.0.conv" if sub_sample else f"{name}.conv"] = name
    if norm_cfg is not None:
        keys[f"conv_out.{'gn' if norm_cfg['type'] == 'GN' else 'bn'}"] = "norm"
        module.norm = _norm(module.get_submodule("norm"), in_channels, **norm_cfg)
    return module, keys


def _norm(
    norm: nn.Module,
    channels: int,
    type: str,
    eps: float = 1e-5,
    momentum: float = 0.1,
    num_groups: int | None = None,
    requires_grad: bool = True,
) -> nn.Module:
    """The norm that an mmcv norm_cfg asks for: ours with its eps and momentum, or a group norm."""
    if type == "GN":
        if num_groups is None:
            raise ValueError("mmcv: norm_cfg of type 'GN' needs num_groups")
        norm = nn.GroupNorm(num_groups, channels, eps)
    elif type in BATCH_NORMS:
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        norm.eps, norm.momentum = eps, momentum
    else:
        raise ValueError(f"mmcv: norm_cfg's type must be one of {', '.join(BATCH_NORMS)} or GN; got {type!r}")
    return norm.requires_grad_(requires_grad)


for dims in (1, 2, 3):
    official(SOURCE, f"NonLocal{dims}d")(partial(non_local, dims))
