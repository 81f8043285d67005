"""A network of timm as the body of one of ours, without its classifier."""

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.networks._build import build_network


def create_timm(
    what: str, name: str, files: Sequence[str], kind: str, in_channels: int, options: Mapping[str, Any]
) -> Any:
    """The network that "timm:NAME" names, which gives features.

    Args:
        what: the network that it is a part of, for messages.
        files: of timm that have networks of this kind.
        kind: what they are, for messages.

    Raises: LookupError: no such network. TypeError: no such option. ValueError: another source or kind.
    """
    import timm

    source, _, rest = name.rpartition(":")
    known = timm.is_model(rest.split(".")[0])
    if source != "timm" or (known and not timm.models.is_model_in_modules(rest.split(".")[0], files)):
        raise ValueError(f'{what}: wanted encoder="timm:NAME" of {kind}; got {name!r}')
    return build_network(name, num_classes=0, in_channels=in_channels, **options)
