"""Effective squeeze-and-excitation as in youngwanLEE/vovnet-detectron2."""

from torch import nn

from foveate.attention import create_attention
from foveate.official._conversions import official


@official("youngwanLEE/vovnet-detectron2", "eSEModule")
def ese(channel: int, reduction: int = 4) -> tuple[nn.Module, dict[str, str]]:
    """The official class takes a reduction and does not use it."""
    return create_attention("ese", channel), {}
