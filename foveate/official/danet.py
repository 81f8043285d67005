"""The position and channel attention of DANet and its head as released: junfu1115/DANet."""

from torch import nn

from foveate.attention import create_attention
from foveate.networks.danet import DANetHead
from foveate.official._conversions import official

SOURCE = "junfu1115/DANet"
POSITION_KEYS = {f"{part}_conv": part for part in ("query", "key", "value")}
HEAD_KEYS = {
    "conv5a": "before_position",
    "conv5c": "before_channel",
    "sa": "position",
    "sc": "channel",
    "conv51": "after_position",
    "conv52": "after_channel",
    "conv6": "classify_position",
    "conv7": "classify_channel",
    "conv8": "classify_sum",
}


@official(SOURCE, "PAM_Module")
def position(in_dim: int) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("danet_position", in_dim), POSITION_KEYS


@official(SOURCE, "CAM_Module")
def channel(in_dim: int) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("danet_channel", in_dim), {}


@official(SOURCE, "DANetHead")
def head(
    in_channels: int, out_channels: int, norm_layer: type[nn.Module] | str = nn.BatchNorm2d
) -> tuple[nn.Module, dict[str, str]]:
    if not str(getattr(norm_layer, "__name__", norm_layer)).endswith(("BatchNorm", "BatchNorm2d")):
        raise ValueError(f"DANetHead: norm_layer must be a batch norm; got {norm_layer!r}")
    keys = {f"sa.{theirs}": f"position.{ours}" for theirs, ours in POSITION_KEYS.items()}
    return DANetHead(in_channels, out_channels), HEAD_KEYS | keys
