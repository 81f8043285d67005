"""A network of timm as the body of one of ours, without its classifier."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.networks._build import build_network


def create_timm(what: str, name: str, in_channels: int, options: Mapping[str, Any]) -> nn.Module:
    """The network that "timm:NAME" names, which gives features.

    Args:
        what: the network that it is a part of, for messages.

    Raises: LookupError: no such network. TypeError: no such option. ValueError: another source.
    """
    if not name.startswith("timm:"):
        raise ValueError(f'{what}: wanted encoder="timm:NAME"; got {name!r}')
    return build_network(name, num_classes=0, in_channels=in_channels, **options)
