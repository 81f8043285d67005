"""The squeeze-and-excitation layers of their authors for segmentation: ai-med/squeeze_and_excitation, 2-D and 3-D."""

from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.official._conversions import official

SOURCE = "ai-med/squeeze_and_excitation"
CHANNEL_KEYS = {"fc1": "reduce", "fc2": "expand"}
BOTH_KEYS = {f"cSE.{theirs}": f"channel.{ours}" for theirs, ours in CHANNEL_KEYS.items()} | {"sSE": "spatial"}


def channel(spatial_dims: int, num_channels: int, reduction_ratio: int = 2) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("cse", num_channels, spatial_dims=spatial_dims, reduction=reduction_ratio), CHANNEL_KEYS


def spatial(spatial_dims: int, num_channels: int) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("sse", num_channels, spatial_dims=spatial_dims), {}


def both(spatial_dims: int, num_channels: int, reduction_ratio: int = 2) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("scse", num_channels, spatial_dims=spatial_dims, reduction=reduction_ratio), BOTH_KEYS


for dims, suffix in ((2, ""), (3, "3D")):
    official(SOURCE, f"ChannelSELayer{suffix}")(partial(channel, dims))
    official(SOURCE, f"SpatialSELayer{suffix}")(partial(spatial, dims))
    official(SOURCE, f"ChannelSpatialSELayer{suffix}")(partial(both, dims))
