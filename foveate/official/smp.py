"""The scSE module of qubvel-org/segmentation_models.pytorch."""

from torch import nn

from foveate.attention import create_attention
from foveate.official._conversions import official

KEYS = {"cSE.1": "channel.reduce", "cSE.3": "channel.expand", "sSE.0": "spatial.conv"}


@official("qubvel-org/segmentation_models.pytorch", "SCSEModule")
def scse(in_channels: int, reduction: int = 16) -> tuple[nn.Module, dict[str, str]]:
    return create_attention("scse", in_channels, reduction=reduction, combine="sum"), KEYS
